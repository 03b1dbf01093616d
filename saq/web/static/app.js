// The page: asks the API every two seconds and draws what it says.
//
// Everything that comes from the API is drawn as the text of a node, never as markup. Addresses below the root
// come from the API ready-made (`path`), or are this page's own, undecoded.

const EVERY = 2000;
const PATIENCE = 15000;
const LIMIT = 25;

const root = new URL(document.documentElement.dataset.root, location.href);
const here = location.pathname.slice(root.pathname.length);
const segments = here.split("/");
const main = document.getElementById("main");

// Small things ---------------------------------------------------------------------------------------------

const byId = (id) => document.getElementById(id);
const url = (path) => new URL(path, root).href;
const count = (n) => (n === null || n === undefined ? "–" : n.toLocaleString("en"));

/** Sets what differs, so that a selection, the focus and a tooltip outlive a drawing. */
function set(node, { text, href, title, kind, hidden }) {
  if (text !== undefined && node.textContent !== String(text)) node.textContent = String(text);
  if (href !== undefined && node.getAttribute("href") !== href) node.setAttribute("href", href);
  if (title !== undefined && node.title !== String(title)) node.title = String(title);
  if (kind !== undefined && node.dataset.kind !== kind) node.dataset.kind = kind;
  if (hidden !== undefined && node.hidden !== hidden) node.hidden = hidden;
}

function make(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

/** A span of time, in the two units that matter. */
function span(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  const s = Math.floor(ms / 1000);
  const two = (n) => String(n).padStart(2, "0");
  if (s < 60) return `${(ms / 1000).toFixed(1)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} m ${two(s % 60)} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${two(Math.floor((s % 3600) / 60))} m`;
  return `${count(Math.floor(s / 86400))} d ${two(Math.floor((s % 86400) / 3600))} h`;
}

/** A span without its fractions: what changes with every drawing is hard to read. */
const roughly = (ms) => (ms < 60000 ? `${Math.max(0, Math.floor(ms / 1000))} s` : span(ms));

const whole = (seconds) => (Number.isInteger(seconds) ? roughly : span)(seconds * 1000);

function clock(ms) {
  const at = new Date(ms);
  if (!ms || Number.isNaN(at.getTime())) return "–";
  const two = (n) => String(n).padStart(2, "0");
  const date = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return `${date} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

/** One row for each item, kept from drawing to drawing; `cells` says what stands in each column. */
function rows(table, items, keyOf, cells) {
  const body = table.querySelector("[data-rows]");
  const heads = table.querySelectorAll("thead th");
  const keys = new Set(items.map(keyOf));
  const old = new Map();
  for (const row of [...body.rows]) {
    if (keys.has(row.key)) old.set(row.key, row);
    else row.remove();
  }
  let place = body.firstElementChild;
  for (const item of items) {
    let row = old.get(keyOf(item));
    if (!row) {
      row = document.createElement("tr");
      row.key = keyOf(item);
      for (const head of heads) row.append(make("td", head.className));
    }
    if (row === place) place = place.nextElementSibling;
    else body.insertBefore(row, place);
    cells(item).forEach((cell, i) => draw(row.cells[i], cell));
  }
  table.hidden = items.length === 0;
}

function draw(td, cell) {
  const tag = cell.href !== undefined ? "A" : "SPAN";
  if (td.firstChild?.tagName !== tag) td.replaceChildren(document.createElement(tag));
  set(td.firstChild, { title: cell.text, ...cell });
  td.classList.toggle("zero", cell.text === "0");
}

// What is asked for ----------------------------------------------------------------------------------------

class Refused extends Error {
  constructor(status, answer) {
    super(answer?.message ?? `The server answered with ${status}.`);
    this.status = status;
    this.id = answer?.id;
  }
}

async function ask(path, options = {}) {
  const signal = AbortSignal.timeout(PATIENCE);
  const response = await fetch(url(path), { cache: "no-store", signal, ...options }).catch(() => {
    throw new Refused(0, { message: "The server does not answer." });
  });
  const answer = await response.json().catch(() => null);
  if (!response.ok || answer === null) throw new Refused(response.status, answer);
  return answer;
}

const post = (path) =>
  ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: "{}" });

// The pages ------------------------------------------------------------------------------------------------

function overview() {
  const { $ } = page("overview");
  return {
    path: "api/queues",
    show(answer) {
      const found = [...answer.queues, ...answer.unavailable];
      rows($("table"), found, (queue) => queue.name, (queue) => [
        { text: queue.name || "(no name)", href: url(queue.path) },
        { text: count(queue.queued) },
        { text: count(queue.active) },
        { text: count(queue.scheduled) },
        { text: queue.workers ? count(Object.keys(queue.workers).length) : "–" },
      ]);
      set($("[data-empty]"), { text: "No queue is shown here.", hidden: found.length > 0 });
      const away = answer.unavailable.map((queue) => queue.name).join(", ");
      return away && `Redis is not available for ${away}.`;
    },
  };
}

function queuePage() {
  const { $ } = page("queue");
  const asked = Number(new URLSearchParams(location.search).get("offset"));
  const offset = Number.isSafeInteger(asked) && asked > 0 ? asked : 0;
  const open = () => {
    if ($("[data-key]").value) location.href = url(`queues/${segments[1]}/jobs/${segment($("[data-key]").value)}`);
  };
  $("[data-open]").addEventListener("click", open);
  $("[data-key]").addEventListener("keydown", (event) => event.key === "Enter" && open());
  return {
    path: `api/${here}?offset=${offset}&limit=${LIMIT}`,
    show(answer) {
      const { queue, now } = answer;
      const workers = Object.entries(queue.workers);
      set($("[data-name]"), { text: queue.name || "(no name)" });
      for (const kind of ["queued", "active", "scheduled"]) set($(`[data-${kind}]`), { text: count(queue[kind]) });
      set($("[data-workers]"), { text: count(workers.length) });
      rows($(".jobs"), queue.jobs, (job) => job.key, (job) => [
        { text: job.state, kind: job.state },
        { text: job.function || "(not readable)", href: url(job.path) },
        { text: job.key || "(empty)" },
        { text: job.kwargs ?? "" },
        { text: `${count(job.attempts)} / ${count(job.retries)}` },
        when(job, now),
      ]);
      set($(".jobs ~ [data-empty]"), {
        text: answer.offset ? "Nothing is left on this page." : "No job waits or runs.",
        hidden: queue.jobs.length > 0,
      });
      pages(answer);
      rows($(".workers"), workers, ([id]) => id, ([id, worker]) => [
        { text: id },
        { text: worker.metadata ?? "" },
        { text: count(worker.stats.complete) },
        { text: count(worker.stats.failed) },
        { text: count(worker.stats.retried) },
        { text: count(worker.stats.aborted) },
        { text: roughly(worker.stats.uptime) },
      ]);
      set($(".workers ~ [data-empty]"), { text: "No worker is alive.", hidden: workers.length > 0 });
    },
  };

  function pages({ queue, offset, limit }) {
    const total = queue.queued + queue.active + queue.scheduled;
    set($("[data-pages]"), { hidden: total <= limit && !offset });
    const last = Math.min(offset + queue.jobs.length, total);
    set($("[data-range]"), { text: `${count(Math.min(offset + 1, last))} – ${count(last)} of ${count(total)}` });
    link($("[data-before]"), offset > 0, Math.max(0, offset - limit));
    link($("[data-after]"), offset + limit < total, offset + limit);
  }

  function link(node, possible, offset) {
    if (possible) set(node, { href: `?offset=${offset}` });
    else node.removeAttribute("href");
  }
}

/** What of a job's times matters in its state. */
function when(job, now) {
  if (job.state === "active" || job.state === "aborting")
    return { text: `for ${roughly(now - job.started)}`, title: `started ${clock(job.started)}` };
  if (job.state === "scheduled")
    return { text: `in ${roughly(job.scheduled * 1000 - now)}`, title: `due ${clock(job.scheduled * 1000)}` };
  return { text: `${roughly(now - job.queued)} ago`, title: `queued ${clock(job.queued)}` };
}

/** A name as one segment of an address, as the server writes it. */
function segment(name) {
  return name === "." || name === ".." ? `=${name}` : encodeURIComponent(name.toWellFormed?.() ?? name);
}

function jobPage() {
  const { $ } = page("job");
  const act = (verb, title, text) => async () => {
    if (!(await sure(title, text, verb))) return;
    try {
      const answer = await post(`api/${here}/${verb.toLowerCase()}`);
      notice(answer.message, "good", true);
    } catch (error) {
      notice(said(error), "bad", true);
    }
    again();
  };
  $("[data-retry]").addEventListener(
    "click",
    act("Retry", "Retry this job?", "It is queued again, with all its attempts. Its result or error so far is dropped."),
  );
  $("[data-abort]").addEventListener(
    "click",
    act("Abort", "Abort this job?", "If it waits, it will not run. If it runs, its worker is told to stop it."),
  );
  return {
    path: `api/${here}`,
    show({ job, now }) {
      set($("[data-function]"), { text: job.function || "(not readable)" });
      set($("[data-state]"), { text: job.state, kind: job.state });
      set($("[data-key]"), { text: job.key || "(empty)" });
      const ended = ["complete", "failed", "aborted"].includes(job.status);
      $("[data-retry]").disabled = !ended;
      $("[data-abort]").disabled = ended || job.status === "aborting";
      steps($("[data-steps]"), job, now);
      facts($("[data-facts]"), job);
      for (const name of ["error", "kwargs", "result", "meta"]) {
        const section = $(`[data-${name}]`);
        set(section, { hidden: job[name] === null });
        set(section.querySelector("pre"), { text: job[name] ?? "" });
      }
    },
  };
}

/** Queued, started, ended: when, and how long after the one before. */
function steps(list, job, now) {
  const ended = ["complete", "failed", "aborted"].includes(job.status);
  const running = job.status === "active" || job.status === "aborting";
  const scheduled = job.state === "scheduled";
  const found = [
    ["Queued", job.queued, null],
    scheduled
      ? ["Due", job.scheduled * 1000, `in ${roughly(job.scheduled * 1000 - now)}`]
      : ["Started", job.started, job.started && job.queued && `waited ${span(Math.max(0, job.started - job.queued))}`],
    running
      ? ["Running", now, `for ${roughly(now - job.started)}`]
      : ["Ended", ended ? job.completed : 0, ended && job.started && `ran ${span(Math.max(0, job.completed - job.started))}`],
  ];
  while (list.children.length < found.length)
    list.append(make("li", "", make("span", "what"), make("time"), make("span", "span")));
  found.forEach(([what, at, text], i) => {
    const [name, time, length] = list.children[i].children;
    set(name, { text: what });
    set(time, { text: what === "Running" ? "now" : clock(at) });
    set(length, { text: text || "" });
    list.children[i].dataset.kind = at ? (i === 2 ? job.state : "past") : "none";
  });
}

function facts(list, job) {
  const limit = (seconds, none) => (seconds ? whole(seconds) : none);
  const found = {
    Attempts: `${count(job.attempts)} of ${count(job.retries)}`,
    Progress: job.progress === null ? "–" : `${Math.round(job.progress * 100)} %`,
    Priority: count(job.priority),
    Worker: job.worker_id ?? "–",
    "Last touched": clock(job.touched),
    Timeout: limit(job.timeout, "none"),
    Heartbeat: limit(job.heartbeat, "none"),
    "Retry delay": limit(job.retry_delay, "none") + (job.retry_backoff ? ", backoff" : ""),
    "Kept for": job.ttl === 0 ? "ever" : job.ttl < 0 ? "no time" : whole(job.ttl),
    Group: job.group_key ?? "–",
  };
  const names = Object.keys(found);
  while (list.children.length < names.length) list.append(make("div", "", make("dt"), make("dd")));
  names.forEach((name, i) => {
    const [term, value] = list.children[i].children;
    set(term, { text: name });
    set(value, { text: found[name], title: found[name] });
  });
}

function page(name) {
  main.replaceChildren(byId(`page-${name}`).content.cloneNode(true));
  return { $: (selector) => main.querySelector(selector) };
}

// Around them ----------------------------------------------------------------------------------------------

/** Where this page is: the queue, and the job. */
function trail() {
  const names = segments[0] === "queues" ? segments.slice(1).filter((_, i) => i % 2 === 0) : [];
  names.forEach((name, i) => {
    const link = make("a", "", readable(name));
    link.href = url(segments.slice(0, 2 * i + 2).join("/"));
    if (i === names.length - 1) link.setAttribute("aria-current", "page");
    byId("trail").append(make("li", "", link));
  });
  document.title = `${names.length ? readable(names.at(-1)) : "Queues"} · saq`;
}

/** A segment of an address as a name; for the eye only. */
function readable(raw) {
  try {
    return decodeURIComponent(raw.replace(/^=/, "")) || "(empty)";
  } catch {
    return raw;
  }
}

/** Asks in a dialog. Escape, and the first button, say no. */
function sure(title, text, verb) {
  const dialog = byId("ask");
  byId("ask-title").textContent = title;
  byId("ask-text").textContent = text;
  set(byId("ask-yes"), { text: verb, kind: verb.toLowerCase() });
  return new Promise((resolve) => {
    const answer = (yes) => () => dialog.close(yes ? "yes" : "");
    byId("ask-yes").onclick = answer(true);
    byId("ask-no").onclick = answer(false);
    dialog.returnValue = "";
    dialog.onclose = () => resolve(dialog.returnValue === "yes");
    dialog.showModal();
    byId("ask-no").focus();
  });
}

let silence;
function notice(text, kind, passing = false) {
  clearTimeout(silence);
  set(byId("notice"), { text, kind });
  if (passing) silence = setTimeout(() => set(byId("notice"), { text: trouble }), 6000);
}

function live(text, kind) {
  set(byId("live"), { text, kind });
  main.classList.toggle("stale", kind === "bad");
  main.hidden = !drawn && kind === "bad";
  set(byId("nothing"), { text: trouble, hidden: !main.hidden });
}

function said(error) {
  if (error instanceof Refused) return error.id ? `${error.message} (${error.id})` : error.message;
  console.error(error);
  return "This page could not show the answer.";
}

// Asking again and again, and not at all while nobody looks -------------------------------------------------

const shown = segments[0] !== "queues" ? overview() : segments.length === 4 ? jobPage() : queuePage();
let timer;
let asking = false;
let drawn = false;
let trouble = "";

async function again() {
  clearTimeout(timer);
  if (asking) return;
  if (document.hidden) {
    live("Paused", "off");
    return;
  }
  asking = true;
  try {
    const answer = await ask(shown.path);
    const warning = shown.show(answer) || "";
    drawn = true;
    live("Live", "good");
    if (warning !== trouble) notice(warning, "bad");
    trouble = warning;
  } catch (error) {
    const first = !trouble;
    trouble = said(error);
    // Told once: an identifier that changes every two seconds helps nobody.
    if (drawn && first) notice(trouble, "bad");
    live(error.status === 404 ? "Not found" : "Waiting", "bad");
  } finally {
    asking = false;
    timer = setTimeout(again, EVERY);
  }
}

document.addEventListener("visibilitychange", again);
trail();
again();
