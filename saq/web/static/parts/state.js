// The state of a job: a dot and a word. And what of its times matters in it.

import { html } from "../ui.js";
import { Since } from "./time.js";

export const State = ({ of }) => html`<span class="state" data-state=${of}>${of}</span>`;

export function When({ job, base }) {
  if (job.state === "active" || job.state === "aborting")
    return html`<${Since} at=${job.started} base=${base} how="for" what="started" />`;
  if (job.state === "scheduled") return html`<${Since} at=${job.scheduled * 1000} base=${base} how="in" what="due" />`;
  if (job.state === "queued") return html`<${Since} at=${job.queued} base=${base} how="for" what="queued" />`;
  return html`<${Since} at=${job.completed} base=${base} what="ended" />`;
}

/** What `When` tells, as the head of its column. */
export const WHEN = { queued: "Waits for", scheduled: "Due", active: "Runs for", finished: "Ended", failed: "Failed" };
