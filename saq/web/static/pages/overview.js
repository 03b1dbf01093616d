// Overview: all queues, what they do, and how long it takes.

import { useAnswer } from "../api.js";
import { url } from "../address.js";
import { Spark } from "../charts.js";
import { count, rate, span } from "../format.js";
import { beat } from "../live.js";
import { Charts, columns } from "../parts/history.js";
import { PauseButton, Paused, Tile, Unavailable, Zero, current } from "../parts/queues.js";
import { Empty, Table, Waiting } from "../parts/table.js";
import { shown } from "../parts/text.js";
import { Since } from "../parts/time.js";
import { html, useStore } from "../ui.js";

const sum = (queues, of) => queues.reduce((total, queue) => total + of(queue), 0);
/** Jobs that ended in each of the last seconds, and the mean of the last ten. */
function ended(names) {
  const found = columns(names, ["complete", "failed", "aborted"], []);
  const all = found.times.map((_, i) => (found.complete[i] ?? 0) + (found.failed[i] ?? 0) + (found.aborted[i] ?? 0));
  const recent = all.slice(-10);
  return { all, mean: recent.length > 1 ? recent.reduce((total, n) => total + n, 0) / recent.length : null };
}

/** The worst of some percentiles: of several queues, no other one is true of all. */
const worst = (queues, kind, which) => {
  const known = queues.map((queue) => queue.recent[kind][which]).filter((ms) => ms !== null);
  return known.length ? Math.max(...known) : null;
};

const pair = (of) => html`${span(of.p50)}<span class="soft"> / ${span(of.p95)}</span>`;

export function Overview() {
  const { answer, again } = useAnswer("queues", { every: 10_000 });
  useStore(beat);
  if (!answer) return html`<h1>Overview</h1><${Waiting} />`;
  const queues = answer.queues.map((queue) => current(queue, answer));
  const names = queues.map((queue) => queue.name);
  const oldest = queues.filter((queue) => queue.oldest).sort((one, other) => one.oldest - other.oldest)[0];
  const due = queues.map((queue) => queue.due).filter(Boolean).sort((one, other) => one - other)[0];
  const workers = sum(queues, (queue) => Object.keys(queue.workers).length);
  const minutes = queues[0]?.recent.minutes ?? 10;
  const speed = ended(names);
  const columnsOfQueues = [
    {
      name: "queue",
      label: "Queue",
      draw: (queue) => html`<a class="name" href=${url(queue.path)} title=${queue.name}>${shown(queue.name)}</a><${Paused} queue=${queue} />`,
    },
    { name: "queued", label: "Queued", kind: "n", draw: (queue) => html`<a href=${url(`${queue.path}?state=queued`)}><${Zero} n=${queue.queued} /></a>` },
    { name: "scheduled", label: "Scheduled", kind: "n", draw: (queue) => html`<a href=${url(`${queue.path}?state=scheduled`)}><${Zero} n=${queue.scheduled} /></a>` },
    { name: "active", label: "Active", kind: "n", draw: (queue) => html`<a href=${url(`${queue.path}?state=active`)}><${Zero} n=${queue.active} /></a>` },
    { name: "failed", label: "Failed", kind: "n", draw: (queue) => html`<a href=${url(`${queue.path}?state=failed`)}><${Zero} n=${queue.failed} tone="red" /></a>` },
    {
      name: "speed",
      label: "Ended per second",
      kind: "n",
      draw: (queue) => {
        const { all, mean } = ended([queue.name]);
        return html`<span class="speed"><${Spark} values=${all.slice(-60)} tone="green" label="The last minute" /><span>${rate(mean)}</span></span>`;
      },
    },
    { name: "wait", label: "Wait p50 / p95", kind: "n", draw: (queue) => pair(queue.recent.wait) },
    { name: "run", label: "Run p50 / p95", kind: "n", draw: (queue) => pair(queue.recent.run) },
    { name: "oldest", label: "Oldest waits", kind: "n", draw: (queue) => html`<${Since} at=${queue.oldest} base=${answer} how="for" what="queued" />` },
    { name: "workers", label: "Workers", kind: "n", draw: (queue) => html`<a href=${`${url("workers")}?queue=${encodeURIComponent(queue.name)}`}><${Zero} n=${Object.keys(queue.workers).length} /></a>` },
    { name: "actions", label: html`<span class="unseen">Actions</span>`, draw: (queue) => html`<span class="actions"><${PauseButton} queue=${queue} then=${again} small /></span>` },
  ];
  return html`
    <h1>Overview</h1>
    <${Unavailable} queues=${answer.unavailable} />
    <dl class="tiles">
      <${Tile} label="Queued" under=${`in ${count(queues.length)} ${queues.length === 1 ? "queue" : "queues"}`}>${count(sum(queues, (queue) => queue.queued))}<//>
      <${Tile} label="Scheduled" under=${due ? html`next <${Since} at=${due} base=${answer} how="in" what="due" />` : "none is due"}>${count(sum(queues, (queue) => queue.scheduled))}<//>
      <${Tile} label="Active" under=${`${count(workers)} ${workers === 1 ? "worker" : "workers"}`}>${count(sum(queues, (queue) => queue.active))}<//>
      <${Tile} label="Failed" under="that are kept" tone=${sum(queues, (queue) => queue.failed) ? "red" : ""}>${count(sum(queues, (queue) => queue.failed))}<//>
      <${Tile} label="Ended per second" under="last 10 s">${rate(speed.mean)}<//>
      <${Tile} label="Oldest waits" under=${oldest ? shown(oldest.name) : "no job waits"}><${Since} at=${oldest?.oldest} base=${answer} how="for" what="queued" /><//>
      <${Tile} label="Wait p95" under=${`worst, ${minutes} min`}>${span(worst(queues, "wait", "p95"))}<//>
      <${Tile} label="Run p95" under=${`worst, ${minutes} min`}>${span(worst(queues, "run", "p95"))}<//>
    </dl>
    <section aria-labelledby="queues">
      <div class="title"><h2 id="queues">Queues</h2></div>
      ${queues.length
        ? html`<${Table} label="Queues" className="queues" columns=${columnsOfQueues} items=${queues} keyOf=${(queue) => queue.name} />`
        : html`<${Empty}>No queue is shown here.<//>`}
    </section>
    <${Charts} names=${names} />
    <${Functions} />
  `;
}

function Functions() {
  const { answer } = useAnswer("history?minutes=60", { every: 30_000 });
  if (!answer?.functions.length) return null;
  const numbers = [
    { name: "function", label: "Function", draw: (it) => html`<span class="cut name" title=${it.function}>${it.function || "others"}</span>` },
    { name: "count", label: "Ended", kind: "n", draw: (it) => count(it.count) },
    { name: "failed", label: "Failed", kind: "n", draw: (it) => html`<${Zero} n=${it.failed} tone="red" />` },
    ...["p50", "p95", "p99"].map((name) => ({ name, label: `Run ${name}`, kind: "n", draw: (it) => span(it[name]) })),
  ];
  return html`<section aria-labelledby="functions">
    <div class="title"><h2 id="functions">Functions, last hours</h2></div>
    <${Table} label="Functions" className="functions" columns=${numbers} items=${answer.functions} keyOf=${(it) => it.function} />
  </section>`;
}
