// The attempts of a job: when each ran, for how long, where, and how it ended.

import { now } from "../api.js";
import { clock, count, span } from "../format.js";
import { html, useState } from "../ui.js";
import { shown } from "./text.js";
import { Since, useTick } from "./time.js";

const SAID = {
  retried: "failed, tried again",
  returned: "given back: its worker stopped",
  lost: "lost: its worker died",
  overtime: "ran past its timeout",
  complete: "complete",
  failed: "failed",
  aborted: "aborted",
};

export function Timeline({ job, base }) {
  useTick();
  if (!job.timeline.length) return html`<p class="soft">It has not started yet.</p>`;
  const first = Math.min(job.queued || Infinity, job.timeline[0].started);
  const end = Math.max(...job.timeline.map((attempt) => attempt.ended ?? now(base)), first + 1);
  const share = (at) => `${(100 * Math.max(0, Math.min(1, (at - first) / (end - first)))).toFixed(2)}%`;
  return html`<ol class="timeline">
    ${job.timeline.map((attempt) => html`<${Attempt} key=${attempt.number} attempt=${attempt} base=${base} share=${share} />`)}
  </ol>`;
}

/** How a job ended, its page says below: with all of the error. */
const LAST = ["complete", "failed", "aborted"];

function Attempt({ attempt, base, share }) {
  const [open, setOpen] = useState(false);
  const { number, started, ended, worker, outcome, error } = attempt;
  const until = ended ?? now(base);
  const line = error?.trim().split("\n").at(-1);
  return html`<li data-outcome=${outcome ?? "runs"}>
    <span class="number" aria-label=${`Attempt ${number}`}>${count(number)}</span>
    <span class="outcome">${outcome ? SAID[outcome] : "runs"}</span>
    <span class="took n">${ended ? span(ended - started) : html`<${Since} at=${started} base=${base} how="for" what="started" />`}</span>
    <time title=${clock(started)}>${clock(started)}</time>
    <span class="where cut mono" title=${worker}>${shown(worker)}</span>
    <span class="track" aria-hidden="true"><i style=${{ left: `min(${share(started)}, calc(100% - 3px))`, width: `calc(${share(until)} - ${share(started)})` }}></i></span>
    ${error &&
    !LAST.includes(outcome) &&
    html`<div class="error">
      <button type="button" class="cut mono" aria-expanded=${open} onClick=${() => setOpen(!open)}>${line}</button>
      ${open && html`<pre tabindex="0" aria-label=${`Error of attempt ${number}`}>${error}</pre>`}
    </div>`}
  </li>`;
}
