// A list of jobs of one state: its filters, its pages, what is selected, and what can be done with that.

import { ask, useAsked } from "../api.js";
import { go, parameters, place, url, withQuery } from "../address.js";
import { count, jobs as manyJobs, timeOfDay } from "../format.js";
import { html, useEffect, useRef, useState } from "../ui.js";
import { JobActions, OF_STATE, actOnMany, counted, useReadOnly, verb } from "./actions.js";
import { Icon } from "./icons.js";
import { State, WHEN, When } from "./state.js";
import { Empty, Table, Waiting } from "./table.js";
import { Cut, shown } from "./text.js";

const FILTERS = ["function", "status", "text", "worker", "group"];
const STATUSES = { active: ["active", "aborting"], finished: ["complete", "aborted"] };
const LIMIT = 50;
/** Slices that are read by themselves for one page; then one is asked whether to go on. */
const PATIENCE = 4;

const EMPTY = {
  queued: "No job waits.",
  scheduled: "No job is scheduled.",
  active: "No job runs.",
  finished: "No job has finished of late.",
  failed: "No failed jobs.",
};

export const matchOf = (state, query) => ({ state, ...Object.fromEntries(FILTERS.filter((name) => query[name]).map((name) => [name, query[name]])) });

function Filters({ state, query, functions }) {
  const [text, setText] = useState(query.text ?? "");
  const timer = useRef(0);
  useEffect(() => setText(query.text ?? ""), [query.text]);
  // Held here as well: the list is drawn anew as jobs come and go, which must not undo what is being typed.
  const [name, setName] = useState(query.function ?? "");
  useEffect(() => setName(query.function ?? ""), [query.function]);
  useEffect(() => () => clearTimeout(timer.current), []);
  const set = (changes) => go(withQuery({ ...changes, cursor: null }), { replace: true });
  const typed = (value) => {
    setText(value);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => set({ text: value }), 300);
  };
  const escape = (event) => {
    if (event.key === "Escape" && text) {
      event.preventDefault();
      typed("");
    }
    if (event.key === "Enter") {
      clearTimeout(timer.current);
      set({ text });
    }
  };
  const chips = [
    query.worker && ["worker", `worker ${query.worker}`],
    query.group && ["group", "one kind of error"],
  ].filter(Boolean);
  return html`<div class="filters" role="search">
    <span class="field search">
      <${Icon} name="search" />
      <input type="search" aria-label="Search in key, function, arguments and error" placeholder="Key, function, arguments or error" value=${text} maxlength="200" autocomplete="off" spellcheck="false" autocapitalize="off" data-search onInput=${(event) => typed(event.target.value)} onKeyDown=${escape} />
    </span>
    <input class="field function" type="text" aria-label="Function" placeholder="Function" list="known-functions" value=${name} autocomplete="off" spellcheck="false" onInput=${(event) => setName(event.target.value)} onChange=${(event) => set({ function: event.target.value })} />
    <datalist id="known-functions">${functions.map((name) => html`<option key=${name} value=${name} />`)}</datalist>
    ${STATUSES[state] &&
    html`<select class="field" aria-label="Status" value=${query.status ?? ""} onChange=${(event) => set({ status: event.target.value })}>
      <option value="">any status</option>
      ${STATUSES[state].map((status) => html`<option key=${status} value=${status}>${status}</option>`)}
    </select>`}
    ${chips.map(
      ([name, label]) => html`<button key=${name} type="button" class="chip" onClick=${() => set({ [name]: null })}>
        <span class="cut">${label}</span><${Icon} name="close" /><span class="unseen">Take this filter out</span>
      </button>`,
    )}
    ${FILTERS.some((name) => query[name]) &&
    html`<button type="button" class="small" onClick=${() => set(Object.fromEntries(FILTERS.map((name) => [name, null])))}>Clear</button>`}
  </div>`;
}

/** The jobs of a page, gathered from as many slices as it takes, on from what is there already. */
async function gather(path, match, cursor, slices, before, signal) {
  let found = before;
  while (!found || (found.next && found.jobs.length < LIMIT && found.slices < slices)) {
    const asked = { ...match, cursor: found ? found.next : cursor, limit: LIMIT - (found?.jobs.length ?? 0) };
    const answer = await ask(`${path}/jobs${parameters(asked)}`, { signal });
    if (found) {
      answer.jobs.unshift(...found.jobs);
      answer.searched += answer.position - found.position;
      answer.position = found.position;
    }
    found = { ...answer, slices: (found?.slices ?? 0) + 1 };
  }
  return found;
}

function usePage(path, name, match, cursor, held) {
  const filtered = FILTERS.some((filter) => match[filter]);
  const question = JSON.stringify([path, match, cursor]);
  const [depth, setDepth] = useState({ question, slices: PATIENCE });
  const slices = depth.question === question ? depth.slices : PATIENCE;
  const before = useRef({});
  const found = useAsked(
    `${question} ${slices}`,
    async (signal) => {
      const known = before.current.question === question && before.current.slices < slices ? before.current.answer : null;
      const answer = await gather(path, match, cursor, slices, known, signal);
      before.current = { question, slices, answer };
      return answer;
    },
    // What was searched far and wide is not searched again by itself.
    { every: filtered ? 15_000 : 10_000, queue: filtered ? undefined : name, held: held || slices > PATIENCE },
  );
  return { ...found, filtered, slices, goOn: () => setDepth({ question, slices: slices + PATIENCE }) };
}

/** The list, with all around it. `path` of its queue, `name` of it too, `counts` by state. */
export function Jobs({ path, name, state, functions }) {
  const { query, trail } = place();
  const match = matchOf(state, query);
  const cursor = query.cursor || null;
  const question = JSON.stringify([path, match, cursor]);
  const [selection, setSelection] = useState({ question, keys: new Set(), matching: null });
  const [pointed, setPointed] = useState(false);
  const readOnly = useReadOnly();
  const selected = selection.question === question ? selection : { question, keys: new Set(), matching: null };
  const held = pointed || selected.keys.size > 0 || selected.matching !== null;
  const page = usePage(path, name, match, cursor, held);
  const { answer, error, fresh, again, filtered } = page;
  const jobs = answer?.jobs ?? [];
  const select = (changes) => setSelection({ ...selected, ...changes });
  const clear = () => select({ keys: new Set(), matching: null });
  const visible = jobs.map((job) => job.key);
  const all = visible.length > 0 && visible.every((key) => selected.keys.has(key));
  const some = !all && visible.some((key) => selected.keys.has(key));
  const then = () => {
    clear();
    again();
  };
  const toggle = (key) => {
    const keys = new Set(selected.keys);
    if (!keys.delete(key)) keys.add(key);
    select({ keys, matching: null });
  };

  const columns = [
    !readOnly && {
      name: "select",
      label: html`<input type="checkbox" aria-label="Select all on this page" checked=${all} indeterminate=${some} disabled=${!visible.length} onChange=${() => select({ keys: all ? new Set() : new Set(visible), matching: null })} />`,
      draw: (job) => html`<input type="checkbox" aria-label=${`Select ${shown(job.key)}`} checked=${selected.keys.has(job.key)} onChange=${() => toggle(job.key)} />`,
    },
    // Where all have one state, it stands above the list already.
    STATUSES[state] && { name: "state", label: "State", draw: (job) => html`<${State} of=${job.state} />` },
    { name: "function", label: "Function", draw: (job) => html`<span class="cut name" title=${job.function}>${job.function ? job.function : "(not readable)"}</span>` },
    { name: "key", label: "Key", draw: (job) => html`<a class="cut mono" href=${url(job.path)} title=${job.key}>${shown(job.key)}</a>` },
    state === "failed"
      ? { name: "text", label: "Error", draw: (job) => html`<${Cut} text=${job.summary} />` }
      : { name: "text", label: "Arguments", draw: (job) => html`<${Cut} text=${job.kwargs} />` },
    state === "active" && { name: "worker", label: "Worker", draw: (job) => html`<a class="cut mono soft" href=${withQuery({ worker: job.worker_id, cursor: null })} title=${job.worker_id}>${shown(job.worker_id)}</a>` },
    state === "active" && { name: "progress", label: "Progress", kind: "n", draw: (job) => (job.progress ? html`<progress max="1" value=${job.progress} aria-label="Progress" title=${`${Math.round(job.progress * 100)} %`}></progress>` : html`<span class="zero">–</span>`) },
    state !== "active" && { name: "attempts", label: "Attempts", kind: "n", draw: (job) => html`${count(job.attempts)}<span class="soft"> / ${count(job.retries)}</span>` },
    { name: "when", label: WHEN[state], kind: "n", draw: (job) => html`<${When} job=${job} base=${answer} />` },
    !readOnly && { name: "actions", label: html`<span class="unseen">Actions</span>`, draw: (job) => html`<${JobActions} job=${job} then=${again} />` },
  ].filter(Boolean);

  return html`
    <${Filters} state=${state} query=${query} functions=${functions} />
    <div class="bar">
      ${selected.keys.size || selected.matching !== null
        ? html`<${Bulk} path=${path} state=${state} match=${match} selected=${selected} page=${answer} all=${all} select=${select} clear=${clear} then=${then} />`
        : html`<p class="found" role=${filtered ? "status" : undefined}>${answer && html`<${Found} answer=${answer} jobs=${jobs} filtered=${filtered} />`}</p>
            ${held && html`<span class="chip" data-kind="held" title="The list stands still while you point at it">held</span>`}`}
    </div>
    ${error && !answer
      ? html`<${Empty}>${error.message}<//>`
      : !answer
        ? html`<${Waiting} />`
        : jobs.length
          ? html`<${Table} label="Jobs" className=${`jobs of-${state}`} columns=${columns} items=${jobs} keyOf=${(job) => job.key} stale=${!fresh} onPointerEnter=${(event) => event.pointerType === "mouse" && setPointed(true)} onPointerLeave=${() => setPointed(false)} />`
          : html`<${Empty}>${filtered ? (answer.next ? "Nothing found so far." : "No job matches.") : cursor ? "Nothing is left on this page." : EMPTY[state]}<//>`}
    ${answer && html`<${Pager} answer=${answer} cursor=${cursor} trail=${trail} page=${page} jobs=${jobs} />`}
  `;
}

/** What the list is of how much. */
function Found({ answer, jobs, filtered }) {
  const { position, searched, total } = answer;
  if (filtered) {
    const found = `${manyJobs(jobs.length)} found${answer.next ? " so far" : ""}`;
    return `${found}, searched ${count(Math.min(position + searched, total))} of ${count(total)}`;
  }
  if (!jobs.length) return "";
  return `${count(position + 1)} to ${count(position + jobs.length)} of ${count(Math.max(total, position + jobs.length))}`;
}

/** What can be done with those that are selected, or with all that match. */
function Bulk({ path, state, match, selected, page, all, select, clear, then }) {
  const matching = selected.matching;
  const number = matching ?? selected.keys.size;
  const more = matching === null && (page?.next || match.cursor);
  const act = async (action) => {
    const part = matching === null ? { path, keys: [...selected.keys], state } : { path, match };
    if (await actOnMany(action, [part], number, matching === null ? "" : "all that match")) then();
  };
  const count_ = async () => {
    const found = await counted(path, match, parameters);
    if (found !== null) select({ matching: found });
  };
  return html`<div class="bulk" role="group" aria-label="Selected jobs">
    <strong role="status">${matching === null ? `${count(number)} selected` : `All ${count(number)} that match`}</strong>
    ${OF_STATE[state].map(
      (action) => html`<button key=${action} type="button" class=${action === "delete" || action === "abort" ? "small danger" : "small"} disabled=${!number} onClick=${() => act(action)}>${verb(action)}</button>`,
    )}
    ${all && more && html`<button type="button" class="small link" onClick=${count_}>Select all that match</button>`}
    <button type="button" class="small link" onClick=${clear}>Clear</button>
  </div>`;
}

function Pager({ answer, cursor, trail, page, jobs }) {
  const follows = answer.next !== null;
  const goesOn = follows && page.filtered && jobs.length < LIMIT;
  const before = () => {
    const back = trail.slice(0, -1);
    go(withQuery({ cursor: trail.at(-1) ?? null }), { trail: back });
  };
  const after = () => go(withQuery({ cursor: answer.next }), { trail: [...trail, cursor] });
  return html`<nav class="pager" aria-label="Pages of jobs">
    <span class="soft">As of ${timeOfDay(answer.now)}</span>
    <button type="button" class="small link" onClick=${page.again}>Reload</button>
    <span class="gap"></span>
    ${goesOn && html`<button type="button" class="small" onClick=${page.goOn} disabled=${!page.fresh}>Go on searching</button>`}
    <button type="button" class="small" disabled=${!cursor} onClick=${() => go(withQuery({ cursor: null }))}><${Icon} name="first" />First</button>
    <button type="button" class="small" data-page="before" disabled=${!cursor || !trail.length} onClick=${before}><${Icon} name="before" />Before</button>
    <button type="button" class="small" data-page="after" disabled=${!follows || goesOn} onClick=${after}>After<${Icon} name="after" /></button>
  </nav>`;
}
