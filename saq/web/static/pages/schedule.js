// Schedule: the cron entries, and the jobs that wait for their time.

import { ask, useAnswer, useAsked } from "../api.js";
import { url } from "../address.js";
import { count } from "../format.js";
import { JobActions, act, useReadOnly } from "../parts/actions.js";
import { QueueChoice } from "../parts/choice.js";
import { IconButton } from "../parts/icons.js";
import { Unavailable } from "../parts/queues.js";
import { State, When } from "../parts/state.js";
import { Empty, Table, Waiting } from "../parts/table.js";
import { Cut, shown } from "../parts/text.js";
import { Since } from "../parts/time.js";
import { html } from "../ui.js";

/** Of each queue, the next jobs. */
const NEXT = 15;
const link = (path, name) => html`<a class="cut soft" href=${url(path)} title=${name}>${shown(name)}</a>`;

export function Schedule({ place }) {
  const chosen = place.query.queue ?? null;
  const { answer, error, again } = useAnswer("schedule", { every: 10_000, queue: "*" });
  const { answer: all, again: allAgain } = useAnswer("queues", { every: 10_000, queue: "*" });
  const both = () => {
    again();
    allAgain();
  };
  const entries = answer?.entries.filter((entry) => chosen === null || entry.queue === chosen) ?? [];
  const queues = all?.queues.filter((queue) => chosen === null || queue.name === chosen) ?? [];
  return html`
    <div class="head">
      <h1>Schedule</h1>
      <div class="tools"><${QueueChoice} queues=${all?.queues ?? []} chosen=${chosen} /></div>
    </div>
    <${Unavailable} queues=${answer?.unavailable} />
    <section aria-labelledby="cron">
      <div class="title"><h2 id="cron">Cron entries</h2></div>
      ${!answer
        ? error
          ? html`<${Empty}>${error.message}<//>`
          : html`<${Waiting} />`
        : entries.length
          ? html`<${Entries} entries=${entries} base=${answer} then=${both} />`
          : html`<${Empty}>No cron entry is known here. Those of a worker's <code>cron_jobs</code> appear when it starts.<//>`}
    </section>
    <section aria-labelledby="scheduled">
      <div class="title"><h2 id="scheduled">Scheduled jobs</h2></div>
      ${all ? html`<${Scheduled} queues=${queues} then=${both} />` : html`<${Waiting} />`}
    </section>
  `;
}

function Entries({ entries, base, then }) {
  const readOnly = useReadOnly();
  const run = async (entry) => {
    await act(`${entry.path}/run`);
    then();
  };
  const columns = [
    { name: "function", label: "Function", draw: (entry) => html`<span class="cut name" title=${entry.name}>${shown(entry.function)}</span>` },
    { name: "words", label: "When", draw: (entry) => html`<span class="cut" title=${entry.kwargs ?? ""}>${entry.words}</span>` },
    { name: "cron", label: "Cron", draw: (entry) => html`<span class="cut mono soft" title=${`${entry.cron} ${entry.timezone}`}>${entry.cron}<span class="zone"> ${entry.timezone}</span></span>` },
    { name: "queue", label: "Queue", draw: (entry) => link(`queues/${entry.path.split("/")[1]}`, entry.queue) },
    { name: "last", label: "Last", kind: "n", draw: (entry) => html`<${Since} at=${entry.last} base=${base} what="last" />` },
    { name: "next", label: "Next", kind: "n", draw: (entry) => html`<${Since} at=${entry.next} base=${base} how="in" what="next" />` },
    { name: "job", label: "Job", draw: (entry) => (entry.job ? html`<a href=${url(entry.job.path)} title=${entry.job.key}><${State} of=${entry.job.state} /></a>` : html`<span class="zero">–</span>`) },
    { name: "workers", label: "Workers", kind: "n", draw: (entry) => count(entry.workers) },
    !readOnly && { name: "actions", label: html`<span class="unseen">Actions</span>`, draw: (entry) => html`<span class="actions"><${IconButton} icon="run" label=${`Run ${entry.name} now`} onClick=${() => run(entry)} /></span>` },
  ].filter(Boolean);
  return html`<${Table} label="Cron entries" className="entries" columns=${columns} items=${entries} keyOf=${(entry) => entry.path} />`;
}

function Scheduled({ queues, then }) {
  const readOnly = useReadOnly();
  const waiting = queues.filter((queue) => queue.scheduled);
  const total = waiting.reduce((sum, queue) => sum + queue.scheduled, 0);
  const { answer, again } = useAsked(
    waiting.map((queue) => `${queue.path} ${queue.scheduled} ${queue.due}`).join() || "none",
    async (signal) => {
      const lists = [];
      for (const queue of waiting) lists.push(await ask(`${queue.path}/jobs?state=scheduled&limit=${NEXT}`, { signal }));
      return lists.flatMap((list) => list.jobs.map((job) => ({ job, base: list }))).sort((one, other) => one.job.scheduled - other.job.scheduled);
    },
    { every: 10_000 },
  );
  if (!answer) return html`<${Waiting} />`;
  const both = () => {
    then();
    again();
  };
  const columns = [
    { name: "function", label: "Function", draw: ({ job }) => html`<span class="cut name" title=${job.function}>${job.function ? job.function : "(not readable)"}</span>` },
    { name: "key", label: "Key", draw: ({ job }) => html`<a class="cut mono" href=${url(job.path)} title=${job.key}>${shown(job.key)}</a>` },
    { name: "text", label: "Arguments", draw: ({ job }) => html`<${Cut} text=${job.kwargs} />` },
    { name: "queue", label: "Queue", draw: ({ job }) => link(`queues/${job.path.split("/")[1]}`, job.queue) },
    { name: "attempts", label: "Attempts", kind: "n", draw: ({ job }) => html`${count(job.attempts)}<span class="soft"> / ${count(job.retries)}</span>` },
    { name: "when", label: "Due", kind: "n", draw: ({ job, base }) => html`<${When} job=${job} base=${base} />` },
    !readOnly && { name: "actions", label: html`<span class="unseen">Actions</span>`, draw: ({ job }) => html`<${JobActions} job=${job} then=${both} />` },
  ].filter(Boolean);
  if (!answer.length) return html`<${Empty}>No job is scheduled.<//>`;
  return html`<${Table} label="Scheduled jobs" className="scheduled" columns=${columns} items=${answer} keyOf=${({ job }) => job.path} />
    ${total > answer.length && html`<p class="pager"><span class="soft">The next ${count(answer.length)} of ${count(total)}.</span><span class="gap"></span>${waiting.map((queue) => html`<a key=${queue.path} href=${url(`${queue.path}?state=scheduled`)}>All ${count(queue.scheduled)} in ${shown(queue.name)}</a>`)}</p>`}`;
}
