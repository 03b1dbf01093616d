// Queue: its jobs by state, in the order of their state.

import { useAnswer } from "../api.js";
import { go, segment, url, withQuery } from "../address.js";
import { count, span } from "../format.js";
import { beat } from "../live.js";
import { useReadOnly } from "../parts/actions.js";
import { Charts } from "../parts/history.js";
import { Jobs } from "../parts/jobs.js";
import { PauseButton, Paused, Unavailable, current } from "../parts/queues.js";
import { Empty, Waiting } from "../parts/table.js";
import { shown } from "../parts/text.js";
import { Since } from "../parts/time.js";
import { html, useState, useStore } from "../ui.js";

const STATES = ["queued", "scheduled", "active", "finished", "failed"];

function OpenByKey({ path }) {
  const [key, setKey] = useState("");
  const open = () => key && go(url(`${path}/jobs/${segment(key)}`));
  return html`<div class="open">
    <input class="field mono" type="text" aria-label="Key of a job" placeholder="Key of a job" value=${key} autocomplete="off" spellcheck="false" autocapitalize="off" onInput=${(event) => setKey(event.target.value)} onKeyDown=${(event) => event.key === "Enter" && open()} />
    <button type="button" onClick=${open}>Open</button>
  </div>`;
}

export function Queue({ place }) {
  const { answer, error, again } = useAnswer(`${place.queuePath}?limit=1`, { every: 10_000 });
  useStore(beat);
  const readOnly = useReadOnly();
  const state = STATES.includes(place.query.state) ? place.query.state : "queued";
  const head = html`<h1>${shown(place.queue)}</h1>`;
  if (!answer && error?.status === 404) return html`${head}<${Empty}>There is no queue of this name here. <a href=${url("")}>All queues</a><//>`;
  if (!answer) return html`${head}${error ? html`<${Empty}>${error.message}<//>` : html`<${Waiting} />`}`;
  const queue = current(answer.queue, answer);
  const { wait, run, minutes } = queue.recent;
  return html`
    <div class="head">
      <div class="titles">${head}<${Paused} queue=${queue} /></div>
      <div class="tools"><${OpenByKey} path=${place.queuePath} />${!readOnly && html`<${PauseButton} queue=${queue} then=${again} />`}</div>
    </div>
    <${Unavailable} queues=${error?.status === 503 ? [queue] : []} />
    <dl class="facts row">
      <div><dt>Oldest waits</dt><dd><${Since} at=${queue.oldest} base=${answer} how="for" what="queued" /></dd></div>
      <div><dt>Next is due</dt><dd><${Since} at=${queue.due} base=${answer} how="in" what="due" /></dd></div>
      <div title=${`the last ${minutes} minutes`}><dt>Wait p50 / p95 / p99</dt><dd>${span(wait.p50)} / ${span(wait.p95)} / ${span(wait.p99)}</dd></div>
      <div title=${`the last ${minutes} minutes`}><dt>Run p50 / p95 / p99</dt><dd>${span(run.p50)} / ${span(run.p95)} / ${span(run.p99)}</dd></div>
      <div><dt>Workers</dt><dd><a href=${`${url("workers")}?queue=${encodeURIComponent(queue.name)}`}>${count(Object.keys(queue.workers).length)}</a></dd></div>
      <div title="since ever"><dt>Complete / failed</dt><dd>${count(queue.stats.complete)} / ${count(queue.stats.failed)}</dd></div>
    </dl>
    <nav class="tabs" aria-label="Jobs by state">
      ${STATES.map(
        (name) => html`<a key=${name} href=${withQuery({ state: name, cursor: null, status: null, group: null })} aria-current=${name === state ? "page" : undefined} data-state=${name}>
          <span class="label">${name}</span><span class="value">${count(queue[name])}</span>
        </a>`,
      )}
    </nav>
    <section aria-label=${`Jobs: ${state}`}>
      <${Jobs} key=${place.queuePath} path=${place.queuePath} name=${queue.name} state=${state} functions=${answer.functions} />
    </section>
    <${Charts} names=${[queue.name]} path=${`${place.queuePath}/`} />
  `;
}
