// What happens, second by second: a stream of events, or polling where there is no stream, and neither while nobody looks.
//
// Owns the samples of the last minutes of all queues. Must not draw anything.

import { url } from "./address.js";
import { store } from "./ui.js";

export const SECONDS = 300;
const EVERY = 2000;
/** A stream says something each second. One that is silent so long stands behind a proxy that keeps it back. */
const SILENCE = 8000;
const STREAM_AGAIN = 60_000;

/** connecting | live | polling | waiting | paused */
export const status = store("connecting");
/** One more for each answer: who shows samples listens to it. */
export const beat = store(0);

const samples = new Map();
const listeners = new Set();
/** Tells which queues changed: their names, as a set. */
export const changed = {
  listen(listener) {
    listeners.add(listener);
    return () => listeners.delete(listener);
  },
};

/** The names of queues whose servers are away, as one text: who shows answers looks again when it changes. */
export const away = store("");

export const samplesOf = (name) => samples.get(name) ?? [];
export const latest = (name) => samplesOf(name).at(-1) ?? null;
/** The clock of the samples, at the last answer. */
let clock = 0;
export const liveNow = () => clock;

let after = 0;
let source = null;
let timer = 0;
let watch = 0;

const CHANGING = ["queued", "scheduled", "active", "finished", "failed_kept", "enqueued", "complete", "failed", "aborted", "retried", "paused", "workers"];

function take(data) {
  const names = new Set();
  const received = performance.now();
  for (const [name, rows] of Object.entries(data.queues)) {
    const known = samples.get(name) ?? [];
    for (const row of rows) {
      const sample = Object.fromEntries(data.columns.map((column, i) => [column, row[i]]));
      const last = known.at(-1);
      if (last && sample.at <= last.at) continue;
      if (!last || CHANGING.some((column) => sample[column] !== last[column])) names.add(name);
      known.push({ ...sample, received });
      after = Math.max(after, sample.at);
    }
    while (known.length && known[0].at < data.now - (SECONDS + 5) * 1000) known.shift();
    samples.set(name, known);
  }
  away.set(data.unavailable.map((queue) => queue.name).join("\n"));
  clock = data.now;
  beat.set(beat.get() + 1);
  if (names.size) for (const listener of [...listeners]) listener(names);
}

function stop() {
  source?.close();
  source = null;
  clearTimeout(timer);
  clearTimeout(watch);
}

function stream() {
  stop();
  source = new EventSource(url(`api/events?after=${after}`));
  const guard = () => {
    clearTimeout(watch);
    watch = setTimeout(polling, SILENCE);
  };
  source.addEventListener("live", (event) => {
    guard();
    status.set("live");
    take(JSON.parse(event.data));
  });
  // It comes back by itself when the server has closed it; what it cannot come back from is a refusal.
  source.addEventListener("error", () => {
    if (source?.readyState === EventSource.CLOSED) polling();
  });
  guard();
}

function polling() {
  stop();
  const until = performance.now() + STREAM_AGAIN;
  const turn = async () => {
    try {
      const response = await fetch(url(`api/live?after=${after}`), { cache: "no-store", signal: AbortSignal.timeout(10_000) });
      if (!response.ok) throw new Error(`The server answered with ${response.status}.`);
      const answer = await response.json();
      if (document.hidden) return;
      status.set("polling");
      take(answer);
    } catch {
      status.set("waiting");
    }
    if (document.hidden) return;
    timer = setTimeout(performance.now() < until ? turn : stream, EVERY);
  };
  turn();
}

function look() {
  if (document.hidden) {
    stop();
    status.set("paused");
  } else {
    status.set("connecting");
    stream();
  }
}

export function start() {
  document.addEventListener("visibilitychange", look);
  look();
}
