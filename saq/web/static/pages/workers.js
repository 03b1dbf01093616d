// Workers: where they are, what each runs and for how long, and whether it takes jobs.

import { now, useAnswer } from "../api.js";
import { parameters, url } from "../address.js";
import { clock, count, roughly } from "../format.js";
import { act, useReadOnly } from "../parts/actions.js";
import { QueueChoice } from "../parts/choice.js";
import { sure } from "../parts/dialogs.js";
import { IconButton } from "../parts/icons.js";
import { Meter } from "../parts/meter.js";
import { Unavailable } from "../parts/queues.js";
import { Empty, Waiting } from "../parts/table.js";
import { Copy, Cut, shown } from "../parts/text.js";
import { Since, useTick } from "../parts/time.js";
import { html, useRef } from "../ui.js";


export function Workers({ place }) {
  const chosen = place.query.queue ?? null;
  const { answer, error, again } = useAnswer("workers", { every: 5000, queue: "*" });
  const { answer: all } = useAnswer("queues", { every: 60_000 });
  const workers = answer?.workers.filter((worker) => chosen === null || worker.queue === chosen) ?? [];
  const running = workers.reduce((sum, worker) => sum + worker.running, 0);
  const room = workers.reduce((sum, worker) => sum + (worker.concurrency ?? 0), 0);
  const ordered = [...workers].sort((one, other) => order(one).localeCompare(order(other)));
  return html`
    <div class="head">
      <h1>Workers</h1>
      <div class="tools"><${QueueChoice} queues=${all?.queues ?? []} chosen=${chosen} /></div>
    </div>
    <${Unavailable} queues=${answer?.unavailable} />
    <div class="bar"><p class="found">${answer && `${count(workers.length)} ${workers.length === 1 ? "worker" : "workers"}, ${count(running)} of ${count(room)} places taken`}</p></div>
    ${!answer
      ? error
        ? html`<${Empty}>${error.message}<//>`
        : html`<${Waiting} />`
      : ordered.length
        ? html`<ul class="workers">${ordered.map((worker) => html`<${Worker} key=${worker.path} worker=${worker} base=${answer} then=${again} />`)}</ul>`
        : html`<${Empty}>No worker is alive. Start one with <code>saq SETTINGS</code>.<//>`}
  `;
}

const order = (worker) => `${worker.state === "gone" ? 0 : 1} ${worker.queue} ${worker.host} ${worker.id}`;

function Lease({ worker, base }) {
  useTick();
  if (worker.lease_left_ms === null) return html`<span class="zero">–</span>`;
  const left = worker.lease_left_ms - (now(base) - base.now);
  return html`<span class=${left < 0 ? "tone-red" : ""}>${left < 0 ? `over for ${roughly(-left)}` : `${roughly(left)} left`}</span>`;
}

function Worker({ worker, base, then }) {
  const readOnly = useReadOnly();
  const { state, stats } = worker;
  const quiet = async () => {
    const text = "It finishes what it runs, and takes no more jobs for an hour, unless it is resumed before.";
    if (await sure({ title: "Ask this worker to take no more jobs?", text: html`<code class="named">${worker.id}</code>${text}`, verb: "Stop taking jobs" })) await act(`${worker.path}/quiet`);
    then();
  };
  const resume = async () => {
    await act(`${worker.path}/resume`);
    then();
  };
  const { jobs } = worker;
  // As much room as was needed once: nothing moves as jobs come and go.
  const room = useRef(1);
  room.current = Math.max(room.current, jobs.length);
  const queuePath = `queues/${worker.path.split("/")[1]}`;
  const active = `${url(queuePath)}${parameters({ state: "active", worker: worker.id })}`;
  const facts = [
    ["Up for", html`<${Since} at=${worker.started} base=${base} how="for" what="started" />`],
    ["Seen", html`<${Since} at=${worker.seen} base=${base} what="seen" />`],
    ["Lease", html`<${Lease} worker=${worker} base=${base} />`],
    ["Version", html`<span title=${`Python ${worker.python ?? "unknown"}`}>${worker.version ?? "–"}</span>`],
    ["Process", worker.pid === null ? "–" : String(worker.pid)],
    ["Complete", count(stats?.complete)],
    ["Failed", count(stats?.failed)],
    ["Retried", count(stats?.retried)],
    ["Aborted", count(stats?.aborted)],
  ];
  return html`<li class="worker" data-state=${state} aria-label=${`Worker ${worker.id}`}>
    <div class="line">
      <h2 class="cut" title=${worker.host}>${shown(worker.host ?? worker.id)}</h2>
      <span class="state" data-state=${state}>${state}${state === "quiet" ? html` <span class="soft">until ${clock(worker.quiet).slice(11, 16)}</span>` : ""}</span>
      ${state === "gone" && html`<span class="soft cut">It died or was cut off. What it ran is taken back when its leases end.</span>`}
      <span class="id"><code class="cut" title=${worker.id}>${shown(worker.id)}</code><${Copy} text=${worker.id} what="id" /></span>
      <a class="soft cut queue" href=${url(queuePath)}>${shown(worker.queue)}</a>
      <span class="busy"><${Meter} max=${worker.concurrency ?? worker.running} value=${worker.running} label="Places taken" /><a class="n" href=${active} title="All jobs that it runs">${count(worker.running)}${worker.partial ? "+" : ""}<span class="soft"> / ${count(worker.concurrency)}</span></a></span>
      ${!readOnly &&
      html`<span class="actions">
        ${state === "live" && html`<${IconButton} icon="quiet" label=${`Ask ${worker.id} to take no more jobs`} onClick=${quiet} />`}
        ${state === "quiet" && html`<${IconButton} icon="resume" label=${`Let ${worker.id} take jobs again`} onClick=${resume} />`}
      </span>`}
    </div>
    <dl class="facts row">
      ${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}
      ${worker.metadata !== null && html`<div class="metadata"><dt>Metadata</dt><dd><${Cut} text=${worker.metadata} /></dd></div>`}
    </dl>
    <ul class="running" aria-label="Running jobs">
      ${jobs.map(
        (job) => html`<li key=${job.key}>
          <span class="cut name" title=${job.function}>${job.function ? job.function : "(not readable)"}</span>
          <a class="cut mono" href=${url(job.path)} title=${job.key}>${shown(job.key)}</a>
          <span class="n"><${Since} at=${job.started} base=${base} how="for" what="started" /></span>
        </li>`,
      )}
      ${Array.from({ length: room.current - jobs.length }, (_, i) => html`<li key=${`free ${i}`} class="none">${jobs.length + i === 0 ? "Nothing runs" : ""}</li>`)}
    </ul>
  </li>`;
}
