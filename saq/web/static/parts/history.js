// The charts of a queue, or of all: the last minutes second by second, or up to three days from the counters that are kept.

import { useAnswer } from "../api.js";
import { parameters } from "../address.js";
import { Chart } from "../charts.js";
import { compact, rate, span } from "../format.js";
import { SECONDS, beat, liveNow, samplesOf } from "../live.js";
import { html, remembered, useStore } from "../ui.js";

const RANGES = { "5m": ["5 min", 0], "1h": ["1 h", 60], "6h": ["6 h", 360], "24h": ["24 h", 1440], "72h": ["72 h", 4320] };
const range = remembered("range", Object.keys(RANGES));

const milliseconds = Object.assign((ms) => span(ms), { least: 10 });
const seconds = Object.assign((ms) => span(ms), { least: 1000 });
const PER_SECOND = Object.assign((n) => rate(n), { least: 1 });
const LEVEL = Object.assign((n) => compact(n), { least: 1, whole: true });

/** Samples of several queues as columns: what was counted as a rate, what was measured as a sum. */
export function columns(names, counted, measured, greatest = []) {
  const moments = new Map();
  for (const name of names) {
    let before = null;
    for (const sample of samplesOf(name)) {
      const at = Math.round(sample.at / 1000);
      if (!moments.has(at)) moments.set(at, {});
      const row = moments.get(at);
      for (const column of measured) row[column] = (row[column] ?? 0) + sample[column];
      for (const column of greatest) row[column] = Math.max(row[column] ?? 0, sample[column]);
      if (before) {
        const took = (sample.at - before.at) / 1000;
        for (const column of counted) row[column] = (row[column] ?? 0) + Math.max(0, sample[column] - before[column]) / took;
      }
      before = sample;
    }
  }
  const times = [...moments.keys()].sort((one, other) => one - other);
  const found = { times };
  for (const column of [...counted, ...measured, ...greatest]) found[column] = times.map((at) => moments.get(at)[column] ?? null);
  return found;
}

function Live({ names }) {
  useStore(beat);
  const found = columns(names, ["enqueued", "complete", "failed", "retried", "aborted", "lost"], ["queued", "active"], ["waiting_ms"]);
  const now = liveNow() / 1000 || Date.now() / 1000;
  const shared = { times: found.times, span: [now - SECONDS, now], none: "Waiting for the first seconds" };
  return html`
    <${Chart} ...${shared} title="Throughput" unit="jobs per second" format=${PER_SECOND} lines=${[
      { label: "enqueued", tone: "blue", values: found.enqueued },
      { label: "complete", tone: "green", values: found.complete, fill: true },
    ]} />
    <${Chart} ...${shared} title="Failures" unit="jobs per second" format=${PER_SECOND} lines=${[
      { label: "failed", tone: "red", values: found.failed, fill: true },
      { label: "retried", tone: "amber", values: found.retried },
      { label: "lost", tone: "violet", values: found.lost },
    ]} />
    <${Chart} ...${shared} title="Jobs" unit="at the time" format=${LEVEL} lines=${[
      { label: "queued", tone: "blue", values: found.queued, fill: true },
      { label: "active", tone: "green", values: found.active },
    ]} />
    <${Chart} ...${shared} title="Longest wait" unit="oldest queued job" format=${seconds} lines=${[
      { label: "waits", tone: "amber", values: found.waiting_ms, fill: true },
    ]} />
  `;
}

/** What was counted in a step, for each minute of it; the last step is not over yet. */
const perMinute = (answer, column) => answer[column].slice(0, -1).map((n) => (n === null ? null : (n * 60) / answer.step));

function Kept({ path, minutes }) {
  const { answer } = useAnswer(`${path}history${parameters({ minutes })}`, { every: 15_000 });
  const empty = { times: [], step: 60, wait: {}, run: {} };
  const it = answer ?? empty;
  const per = (column) => (answer ? perMinute(answer, column) : []);

  const times = it.times.slice(0, -1);
  const shared = { times, none: answer ? "Nothing was recorded in this time" : "" };
  const counted = (label, tone, more) => ({ label, tone, values: per(label), ...more });
  const percentiles = (kind) =>
    [["p50", "green"], ["p95", "amber"], ["p99", "red"]].map(([label, tone]) => ({
      label,
      tone,
      values: it[kind][label]?.slice(0, -1) ?? [],
      total: answer?.totals[kind][label] ?? null,
      fill: label === "p50",
    }));
  return html`
    <${Chart} ...${shared} title="Throughput" unit="jobs per minute" format=${PER_SECOND} lines=${[
      counted("enqueued", "blue"),
      counted("complete", "green", { fill: true }),
    ]} />
    <${Chart} ...${shared} title="Failures" unit="jobs per minute" format=${PER_SECOND} lines=${[
      counted("failed", "red", { fill: true }),
      counted("retried", "amber"),
      counted("lost", "violet"),
    ]} />
    <${Chart} ...${shared} title="Waiting time" unit="of all that started" format=${milliseconds} lines=${percentiles("wait")} />
    <${Chart} ...${shared} title="Running time" unit="of all that ended" format=${milliseconds} lines=${percentiles("run")} />
  `;
}

/** names: of the queues that are shown. path: of the one, with a slash behind; "" for all. */
export function Charts({ names, path = "" }) {
  const chosen = useStore(range);
  const [, minutes] = RANGES[chosen];
  return html`<section class="charts" aria-labelledby="charts">
    <div class="title">
      <h2 id="charts">What happened</h2>
      <div class="choice" role="group" aria-label="How far back">
        ${Object.entries(RANGES).map(
          ([name, [label]]) => html`<button key=${name} type="button" class="small" aria-pressed=${name === chosen} onClick=${() => range.set(name)}>${label}</button>`,
        )}
      </div>
    </div>
    <div class="grid">${minutes ? html`<${Kept} key=${path + minutes} path=${path} minutes=${minutes} />` : html`<${Live} names=${names} />`}</div>
  </section>`;
}
