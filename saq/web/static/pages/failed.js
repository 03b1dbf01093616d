// Failed: the failed jobs of all queues, or of one, in groups of one function and one error.

import { ask, useAnswer, useAsked } from "../api.js";
import { parameters, url } from "../address.js";
import { count, jobs as manyJobs } from "../format.js";
import { actOnMany, useReadOnly } from "../parts/actions.js";
import { IconButton } from "../parts/icons.js";
import { QueueChoice } from "../parts/choice.js";
import { Meter } from "../parts/meter.js";
import { Unavailable } from "../parts/queues.js";
import { Empty, Table, Waiting } from "../parts/table.js";
import { shown } from "../parts/text.js";
import { Since } from "../parts/time.js";
import { html, useRef, useState } from "../ui.js";

/** Slices that are read by themselves, of all queues together. */
const PATIENCE = 8;

function merge(groups, slice, queue) {
  for (const group of slice.groups) {
    const id = `${queue.path} ${group.group}`;
    const known = groups.get(id);
    if (!known) groups.set(id, { ...group, id, queue, base: slice });
    else {
      known.count += group.count;
      known.oldest = Math.min(known.oldest, group.oldest);
      if (group.newest > known.newest) Object.assign(known, { newest: group.newest, key: group.key, path: group.path });
    }
  }
}

/** Reads slice after slice, queue after queue, on from `before`. */
async function gather(queues, slices, before, signal) {
  const state = before ?? { groups: new Map(), at: queues.map((queue) => ({ queue, cursor: null, searched: 0, total: queue.failed, done: !queue.failed })), slices: 0, answer: null };
  while (state.slices < slices) {
    const at = state.at.find((one) => !one.done);
    if (!at) break;
    const answer = await ask(`${at.queue.path}/failures${parameters({ cursor: at.cursor })}`, { signal });
    merge(state.groups, answer, at.queue);
    at.cursor = answer.next;
    at.done = answer.next === null;
    at.searched = answer.position + answer.searched;
    at.total = answer.total;
    state.slices += 1;
    state.answer = answer;
  }
  return { ...state, whole: state.at.every((one) => one.done) };
}

export function Failed({ place }) {
  const chosen = place.query.queue ?? null;
  const { answer, error, again: queuesAgain } = useAnswer("queues", { every: 10_000, queue: "*" });
  const queues = answer?.queues.filter((queue) => chosen === null || queue.name === chosen) ?? [];
  return html`
    <div class="head">
      <h1>Failed jobs</h1>
      <div class="tools"><${QueueChoice} queues=${answer?.queues ?? []} chosen=${chosen} /></div>
    </div>
    <${Unavailable} queues=${answer?.unavailable} />
    ${answer ? html`<${Groups} key=${chosen} queues=${queues} then=${queuesAgain} />` : error ? html`<${Empty}>${error.message}<//>` : html`<${Waiting} />`}
  `;
}

function Groups({ queues, then }) {
  const [slices, setSlices] = useState(PATIENCE);
  const [selected, setSelected] = useState(new Set());
  const [pointed, setPointed] = useState(false);
  const readOnly = useReadOnly();
  const before = useRef({ slices: 0, state: null });
  const signature = queues.map((queue) => `${queue.name} ${queue.failed} ${queue.stats.failed}`).join();
  const held = pointed || selected.size > 0;
  const frozen = useRef(signature);
  if (!held) frozen.current = signature;
  const { answer, error, again } = useAsked(
    `${frozen.current} ${slices}`,
    async (signal) => {
      const goesOn = before.current.slices < slices && before.current.signature === frozen.current;
      const state = await gather(queues, slices, goesOn ? before.current.state : null, signal);
      before.current = { slices, state, signature: frozen.current };
      return state;
    },
    { every: 60_000, held },
  );
  if (!answer) return error ? html`<${Empty}>${error.message}<//>` : html`<${Waiting} />`;
  const groups = [...answer.groups.values()].sort((one, other) => other.newest - one.newest);
  const searched = answer.at.reduce((sum, one) => sum + one.searched, 0);
  const total = answer.at.reduce((sum, one) => sum + one.total, 0);
  const greatest = Math.max(1, ...groups.map((group) => group.count));
  const chosen = groups.filter((group) => selected.has(group.id));
  const act = async (action, some, what) => {
    const number = some.reduce((sum, group) => sum + group.count, 0);
    const parts = some.map((group) => ({ path: group.queue.path, match: { state: "failed", group: group.group } }));
    if (await actOnMany(action, parts, number, what)) finish();
  };
  const actOnAll = async (action) => {
    const parts = answer.at.filter((one) => one.total).map((one) => ({ path: one.queue.path, match: { state: "failed" } }));
    if (await actOnMany(action, parts, total, "all failed jobs")) finish();
  };
  const finish = () => {
    setSelected(new Set());
    before.current = { slices: 0, state: null };
    then();
    again();
  };
  const toggle = (id) => {
    const next = new Set(selected);
    if (!next.delete(id)) next.add(id);
    setSelected(next);
  };
  const all = groups.length > 0 && chosen.length === groups.length;
  const more = answer.whole ? "" : " or more";
  const columns = [
    !readOnly && {
      name: "select",
      label: html`<input type="checkbox" aria-label="Select all groups" checked=${all} indeterminate=${!all && chosen.length > 0} onChange=${() => setSelected(new Set(all ? [] : groups.map((group) => group.id)))} />`,
      draw: (group) => html`<input type="checkbox" aria-label=${`Select ${group.function}: ${group.error}`} checked=${selected.has(group.id)} onChange=${() => toggle(group.id)} />`,
    },
    { name: "function", label: "Function", draw: (group) => html`<span class="cut name" title=${group.function}>${group.function ? group.function : "(not readable)"}</span>` },
    { name: "error", label: "Error", draw: (group) => html`<a class="cut mono" href=${`${url(group.queue.path)}${parameters({ state: "failed", group: group.group })}`} title=${group.error}>${group.error || "(no error)"}</a>` },
    { name: "queue", label: "Queue", draw: (group) => html`<a class="cut soft" href=${url(group.queue.path)} title=${group.queue.name}>${shown(group.queue.name)}</a>` },
    { name: "share", label: "Share", draw: (group) => html`<${Meter} max=${greatest} value=${group.count} label="Share" />` },
    { name: "count", label: "Jobs", kind: "n", draw: (group) => count(group.count) },
    { name: "newest", label: "Newest", kind: "n", draw: (group) => html`<${Since} at=${group.newest} base=${group.base} what="failed" />` },
    { name: "oldest", label: "Oldest", kind: "n", draw: (group) => html`<${Since} at=${group.oldest} base=${group.base} what="failed" />` },
    !readOnly && {
      name: "actions",
      label: html`<span class="unseen">Actions</span>`,
      draw: (group) => html`<span class="actions">
        <${IconButton} icon="retry" label=${`Retry ${manyJobs(group.count)}: ${group.function}, ${group.error}`} onClick=${() => act("retry", [group])} />
        <${IconButton} icon="delete" kind="danger" label=${`Delete ${manyJobs(group.count)}: ${group.function}, ${group.error}`} onClick=${() => act("delete", [group])} />
      </span>`,
    },
  ].filter(Boolean);
  return html`
    <div class="bar">
      ${chosen.length
        ? html`<div class="bulk" role="group" aria-label="Selected groups">
            <strong role="status">${`${count(chosen.length)} ${chosen.length === 1 ? "group" : "groups"}, ${manyJobs(chosen.reduce((sum, group) => sum + group.count, 0))}${more}`}</strong>
            <button type="button" class="small" onClick=${() => act("retry", chosen)}>Retry</button>
            <button type="button" class="small danger" onClick=${() => act("delete", chosen)}>Delete</button>
            <button type="button" class="small link" onClick=${() => setSelected(new Set())}>Clear</button>
          </div>`
        : html`<p class="found">${total ? `${count(groups.length)} ${groups.length === 1 ? "group" : "groups"}, searched ${count(Math.min(searched, total))} of ${count(total)}` : ""}</p>
            <span class="gap"></span>
            ${!readOnly && total > 0 && html`<button type="button" class="small" onClick=${() => actOnAll("retry")}>Retry all</button><button type="button" class="small danger" onClick=${() => actOnAll("delete")}>Delete all</button>`}`}
    </div>
    ${groups.length
      ? html`<${Table} label="Failed jobs by function and error" className="groups" columns=${columns} items=${groups} keyOf=${(group) => group.id} onPointerEnter=${(event) => event.pointerType === "mouse" && setPointed(true)} onPointerLeave=${() => setPointed(false)} />`
      : html`<${Empty}>No failed jobs.<//>`}
    ${!answer.whole && html`<nav class="pager" aria-label="More failed jobs"><span class="gap"></span><button type="button" class="small" onClick=${() => setSlices(slices + PATIENCE)}>Go on searching</button></nav>`}
  `;
}
