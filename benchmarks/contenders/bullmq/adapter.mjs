// BullMQ. Speaks the lines of bench_agent.py; every job is an async function, as the library has it.

import { createRequire } from "node:module";
import fs from "node:fs";
import readline from "node:readline";

// The packages lie in the environment that the harness made, not beside this file.
const require = createRequire(process.env.BENCH_ENVIRONMENT + "/package.json");
const { Queue, QueueEvents, Worker } = require("bullmq");

const role = process.argv[2];
const config = JSON.parse(process.argv[3]);
const address = new URL(config.url);
const connection = { host: address.hostname, port: Number(address.port), maxRetriesPerRequest: null };
const KEPT = 20;
const BULK = 1000;

const now = () => Number(process.hrtime.bigint());
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const emit = (what) => fs.writeSync(1, JSON.stringify(what) + "\n");

function churn(i, rounds) {
  for (let k = 0; k < rounds; k++) i = (Math.imul(i, 1103515245) + 12345) & 0x7fffffff;
  return i;
}

function argument(job, i) {
  if (job.endsWith("_sleep")) {
    return Math.floor(((Math.imul(i + config.seed, 2654435761) >>> 0) * 51) / 2 ** 32);
  }
  return job.endsWith("_cpu") ? config.cpu_rounds : 0;
}

const expected = (job, i) => (job.endsWith("_cpu") ? churn(i, config.cpu_rounds) : i);

async function* commands() {
  for await (const line of readline.createInterface({ input: process.stdin })) yield JSON.parse(line);
  process.exit(1); // whoever started us is gone
}

// The worker --------------------------------------------------------------------------------------------------

async function work() {
  const seen = [];
  const stamps = [];
  const marks = config.marks.slice().sort((a, b) => a - b);
  const hit = (i) => {
    seen.push(i);
    if (seen.length === marks[0]) {
      emit({ event: "mark", n: seen.length, t: now() });
      marks.shift();
    }
  };
  const jobs = {
    async async_noop({ i }) {
      hit(i);
      return i;
    },
    async async_sleep({ i, x }) {
      await pause(x);
      hit(i);
      return i;
    },
    async async_cpu({ i, x }) {
      const value = churn(i, x);
      hit(i);
      return value;
    },
    async async_stamp({ i }) {
      stamps.push([i, now()]);
      hit(i);
      return i;
    },
  };
  emit({ event: "ready" });
  const input = commands();
  await input.next(); // "go"
  new Worker("bench", (job) => jobs[job.name](job.data), {
    connection,
    concurrency: config.concurrency,
    ...config.options.worker,
  });
  for await (const command of input) {
    if (command.do === "report") {
      const sum = seen.reduce((a, b) => a + b, 0);
      emit({ event: "report", count: seen.length, sum, distinct: new Set(seen).size, stamps });
    }
  }
}

// The client --------------------------------------------------------------------------------------------------

async function serve() {
  const queue = new Queue("bench", { connection });
  const events = new QueueEvents("bench", { connection });
  await Promise.all([queue.waitUntilReady(), events.waitUntilReady()]);
  let handles = [];
  let job = "";

  const items = (name, first, n) => {
    job = name;
    handles = [];
    return Array.from({ length: n }, (_, k) => ({ i: first + k, x: argument(name, first + k) }));
  };
  const wrong = (values) =>
    values.filter(([i, value]) => value !== expected(job, i)).map(([i, v]) => `job ${i} returned ${v}`);

  const does = {
    async enqueue({ mode, job: name, first, n, width }) {
      const all = items(name, first, n);
      const every = Math.max(1, Math.floor(n / KEPT));
      const begin = now();
      const wall = Date.now() / 1000;
      const one = async (item) => {
        const handle = await queue.add(name, item);
        if (item.i % every === 0) handles.push([item.i, handle]);
      };
      if (mode === "one") {
        for (const item of all) await one(item);
      } else if (mode === "concurrent") {
        let next = 0;
        const some = async () => {
          while (next < all.length) await one(all[next++]);
        };
        await Promise.all(Array.from({ length: width }, some));
      } else {
        for (let k = 0; k < n; k += BULK) {
          const part = all.slice(k, k + BULK);
          const added = await queue.addBulk(part.map((data) => ({ name, data })));
          part.forEach((item, p) => item.i % every === 0 && handles.push([item.i, added[p]]));
        }
      }
      return { n, seconds: (now() - begin) / 1e9, wall: [wall, Date.now() / 1000] };
    },
    async results({ timeout }) {
      const values = [];
      for (const [i, handle] of handles) {
        values.push([i, await handle.waitUntilFinished(events, timeout * 1000)]);
      }
      return { checked: values.length, wrong: wrong(values) };
    },
    async arrivals({ job: name, first, n, rate, wait, timeout }) {
      const all = items(name, first, n);
      const sent = new Array(n).fill(0);
      const done = new Array(n).fill(0);
      const values = [];
      const one = async (k) => {
        const handle = await queue.add(name, all[k]);
        if (!wait) return;
        const value = await handle.waitUntilFinished(events, timeout * 1000);
        done[k] = now();
        values.push([all[k].i, value]);
      };
      const tasks = [];
      const begin = now();
      for (let k = 0; k < n; k++) {
        const due = begin + Math.floor((k * 1e9) / rate);
        for (let left; (left = due - now()) > 0; ) await pause(left / 1e6);
        sent[k] = now();
        tasks.push(one(k));
      }
      await Promise.all(tasks);
      return { sent, done: wait ? done : null, wrong: wrong(values) };
    },
    async map() {
      return { unsupported: true };
    },
  };
  emit({ event: "ready" });
  for await (const command of commands()) {
    try {
      emit({ event: "answer", ...(await does[command.do](command)) });
    } catch (error) {
      emit({ event: "answer", error: String(error) });
    }
  }
}

await (role === "worker" ? work() : serve());
