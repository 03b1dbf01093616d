// A queue as it is now: what the API said of it, and what was heard of it since.

import { html } from "../ui.js";
import { now } from "../api.js";
import { count } from "../format.js";
import { latest } from "../live.js";
import { IconButton, Icon } from "./icons.js";
import { act, useReadOnly } from "./actions.js";
import { sure } from "./dialogs.js";
import { shown } from "./text.js";

/** The later of the two counts. A sample's clock is another one, so that a wait becomes a moment of the answer's clock. */
export function current(queue, answer) {
  const sample = latest(queue.name);
  if (!sample || sample.received < answer.received) return queue;
  const waits = sample.waiting_ms ? now(answer) - sample.waiting_ms - (performance.now() - sample.received) : null;
  return {
    ...queue,
    queued: sample.queued,
    scheduled: sample.scheduled,
    active: sample.active,
    finished: sample.finished,
    failed: sample.failed_kept,
    paused: sample.paused || null,
    oldest: waits,
  };
}

export const Paused = ({ queue }) => queue.paused && html`<span class="chip" data-kind="paused">paused</span>`;

export async function pause(queue, then) {
  const name = shown(queue.name);
  const doing = queue.paused ? "resume" : "pause";
  const text = "Its workers finish what they run, and start nothing until it is resumed. Jobs can still be enqueued.";
  if (doing === "pause" && !(await sure({ title: `Pause the queue ${name}?`, text, verb: "Pause" }))) return;
  await act(`${queue.path}/${doing}`);
  then();
}

export function PauseButton({ queue, then, small = false }) {
  if (useReadOnly()) return null;
  const [icon, word] = queue.paused ? ["resume", "Resume"] : ["pause", "Pause"];
  const press = () => pause(queue, then);
  return small
    ? html`<${IconButton} icon=${icon} label=${`${word} ${shown(queue.name)}`} onClick=${press} />`
    : html`<button type="button" class="with-icon" onClick=${press}><${Icon} name=${icon} />${word}</button>`;
}

/** Queues whose server does not answer. */
export const Unavailable = ({ queues }) =>
  queues?.length > 0 &&
  html`<p class="warning" role="alert">
    ${queues.length === 1 ? "The server of a queue does not answer: " : "The servers of some queues do not answer: "}
    ${queues.map((queue) => shown(queue.name)).join(", ")}. Trying again.
  </p>`;

/** A number with its name. */
export const Tile = ({ label, children, under, tone, title }) =>
  html`<div class="tile" data-tone=${tone} title=${title}><dt>${label}</dt><dd><span class="value">${children}</span>${under !== undefined && html`<span class="under">${under}</span>`}</dd></div>`;

export const Zero = ({ n, tone }) => html`<span class=${n === 0 ? "zero" : tone && `tone-${tone}`}>${count(n)}</span>`;
