// Job: what was asked for, each attempt at it, and what became of it.

import { useAnswer } from "../api.js";
import { url } from "../address.js";
import { clock, count, limit, percent, span } from "../format.js";
import { actOnJob, offered, useReadOnly, verb } from "../parts/actions.js";
import { Icon } from "../parts/icons.js";
import { State } from "../parts/state.js";
import { Empty, Waiting } from "../parts/table.js";
import { Block, Copy, shown } from "../parts/text.js";
import { Since } from "../parts/time.js";
import { Timeline } from "../parts/timeline.js";
import { html } from "../ui.js";

const ENDED = ["complete", "failed", "aborted"];

function kept(ttl) {
  if (ttl === 0) return "for ever";
  return ttl < 0 ? "not at all" : limit(ttl);
}

function Facts({ job, base }) {
  const ended = ENDED.includes(job.state);
  const waited = job.started ? Math.max(0, job.started - job.queued) : null;
  const facts = [
    ["Queued", html`<${Since} at=${job.queued} base=${base} />`, clock(job.queued)],
    job.scheduled ? ["Due", html`<${Since} at=${job.scheduled * 1000} base=${base} how=${job.state === "scheduled" ? "in" : "ago"} />`, clock(job.scheduled * 1000)] : null,
    ["Waited", waited === null ? "–" : span(waited), "from when it was queued to its last start"],
    ended
      ? ["Ran for", job.started ? span(Math.max(0, job.completed - job.started)) : "–", "its last attempt"]
      : ["Runs for", job.started && job.state !== "queued" && job.state !== "scheduled" ? html`<${Since} at=${job.started} base=${base} how="for" />` : "–"],
    ended ? ["Ended", html`<${Since} at=${job.completed} base=${base} />`, clock(job.completed)] : ["Last sign", html`<${Since} at=${job.touched} base=${base} />`, clock(job.touched)],
    ["Attempts", html`${count(job.attempts)}<span class="soft"> of ${count(job.retries)}</span>`],
    ["Worker", shown(job.worker_id), job.worker_id],
    ["Priority", count(job.priority)],
    ["Timeout", limit(job.timeout, "none")],
    ["Heartbeat", limit(job.heartbeat, "none")],
    ["Retry delay", limit(job.retry_delay, "none") + (job.retry_backoff ? ", backs off" : "")],
    ["Kept", kept(job.ttl)],
    job.group_key !== null ? ["Group", shown(job.group_key), job.group_key] : null,
  ].filter(Boolean);
  return html`<dl class="facts">
    ${facts.map(([name, value, title]) => html`<div key=${name} title=${title}><dt>${name}</dt><dd>${value}</dd></div>`)}
  </dl>`;
}

export function Job({ place }) {
  const { answer, error, again } = useAnswer(place.path, { every: 3000, queue: place.queue });
  const readOnly = useReadOnly();
  const queue = html`<a href=${url(place.queuePath)}>${shown(place.queue)}</a>`;
  if (!answer) {
    const text = error?.status === 404 ? "There is no such job. It may have been deleted, or its record has outlived its time." : error?.message;
    return html`<h1 class="mono">${shown(place.job)}</h1>${error ? html`<${Empty}>${text} Its queue: ${queue}<//>` : html`<${Waiting} />`}`;
  }
  const { job } = answer;
  const gone = error?.status === 404;
  return html`
    <div class="head">
      <div class="titles">
        <h1>${job.function ? job.function : "(not readable)"}</h1>
        <${State} of=${job.state} />
      </div>
      ${!readOnly &&
      html`<div class="tools">
        ${offered(job).map(
          (action) => html`<button key=${action} type="button" class=${action === "delete" || action === "abort" ? "with-icon danger" : "with-icon"} disabled=${gone} onClick=${() => actOnJob(job, action).then(again)}><${Icon} name=${action} />${verb(action)}</button>`,
        )}
      </div>`}
    </div>
    <p class="under"><code class="key">${shown(job.key)}</code><${Copy} text=${job.key} what="key" /><span class="soft">in ${queue}</span></p>
    <p class="warning" role="status" hidden=${!gone}>This job is not there any more. What you see is what was known of it last.</p>
    <div class="progress" data-known=${job.progress > 0 ? "yes" : "no"}>
      <progress max="1" value=${job.progress ?? 0} aria-label="Progress"></progress><span class="n">${job.progress ? percent(job.progress) : ""}</span>
    </div>
    <${Facts} job=${job} base=${answer} />
    <section aria-labelledby="attempts">
      <div class="title"><h2 id="attempts">Attempts</h2></div>
      <${Timeline} job=${job} base=${answer} />
    </section>
    <div class="blocks">
      <${Block} title="Error" text=${job.error} tone="red" json=${false} />
      <${Block} title="Arguments" text=${job.kwargs} />
      <${Block} title="Result" text=${job.result} />
      <${Block} title="Meta" text=${job.meta} />
    </div>
  `;
}
