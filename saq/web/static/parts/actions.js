// Actions: what they are called, what is asked before, and what is said after.
//
// Owns the words. Whether an action is possible, the server says, and once more when it is done.

import { Refused, ask, change, sentence } from "../api.js";
import { count, jobs, these } from "../format.js";
import { html, store, useStore } from "../ui.js";
import { show, sure } from "./dialogs.js";
import { IconButton } from "./icons.js";
import { shown } from "./text.js";
import { say } from "./toasts.js";

export const about = store({ read_only: true, redacted: false, version: "" });
export const useReadOnly = () => useStore(about).read_only;

const WORDS = {
  retry: {
    verb: "Retry",
    done: "queued again",
    one: "It is queued again and begins anew; its attempts and its error are forgotten.",
    many: "They are queued again and begin anew; their attempts and errors are forgotten.",
  },
  requeue: {
    verb: "Requeue",
    done: "queued again",
    one: "It is queued again and begins anew; its attempts and its result are forgotten.",
    many: "They are queued again and begin anew; their attempts and results are forgotten.",
  },
  run: {
    verb: "Run now",
    done: "queued",
    one: "It is queued at once and does not wait for its time.",
    many: "They are queued at once and do not wait for their time.",
  },
  abort: {
    verb: "Abort",
    done: "aborted, or told to stop",
    destroys: true,
    one: "If it waits, it will not run. If it runs, its worker is told to stop it.",
    many: "Those that wait will not run. Of those that run, the workers are told to stop them.",
  },
  delete: {
    verb: "Delete",
    done: "deleted",
    destroys: true,
    one: "It is removed, with its arguments, its result and its error. This cannot be undone.",
    many: "They are removed, with arguments, results and errors. This cannot be undone.",
  },
};

export const verb = (action) => WORDS[action].verb;

/** To the server, `retry` and `requeue` are one thing. */
const sent = (action) => (action === "requeue" ? "retry" : action);

/** What brings a job to run, by its state. */
const AGAIN = { failed: "retry", complete: "requeue", aborted: "requeue", scheduled: "run" };

/** The actions of a job to offer, first what one most likely wants. */
export function offered(job) {
  const possible = (action) => job.actions.includes(sent(action));
  return [AGAIN[job.state], "abort", "delete"].filter((action) => action && possible(action));
}

/** Which actions make sense for all jobs of a list. */
export const OF_STATE = {
  queued: ["abort", "delete"],
  scheduled: ["run", "abort", "delete"],
  active: ["abort"],
  finished: ["requeue", "delete"],
  failed: ["retry", "delete"],
};

/** Says what the server refused; an action that came too late did nothing, and that is no fault. */
export function refused(error) {
  if (error instanceof Refused && error.status === 409) say(`Too late. ${error.message}`, "late");
  else say(sentence(error), "bad");
}

/** Does one thing, says what came of it, and answers whether it was done. */
export async function act(path, body = {}) {
  try {
    const answer = await change(path, body);
    say(answer.message);
    return true;
  } catch (error) {
    refused(error);
    return false;
  }
}

const ASKED = new Set(["abort", "delete", "requeue"]);

export async function actOnJob(job, action) {
  const { verb, one, destroys } = WORDS[action];
  const name = `${shown(job.function)}, ${shown(job.key)}`;
  if (ASKED.has(action) && !(await sure({ title: `${verb} this job?`, text: html`<code class="named">${name}</code>${one}`, verb, destroys })))
    return false;
  return act(`${job.path}/${sent(action)}`, { state: job.state });
}

export const JobActions = ({ job, then }) =>
  html`<span class="actions">
    ${offered(job).map(
      (action) => html`<${IconButton}
        key=${action}
        icon=${action}
        kind=${WORDS[action].destroys ? "danger" : ""}
        label=${`${WORDS[action].verb} ${shown(job.key)}`}
        onClick=${async () => {
          await actOnJob(job, action);
          then();
        }}
      />`,
    )}
  </span>`;

function Work({ title, what, state, stop }) {
  const { searched, total, found } = useStore(state);
  return html`<h2>${title}</h2>
    <progress max=${Math.max(total, 1)} value=${searched} aria-label=${title}></progress>
    <p class="numbers" role="status">${`Looked at ${count(searched)} of ${count(total)}: ${count(found)} ${what}`}</p>
    <p class="buttons"><button type="button" onClick=${stop}>Stop</button></p>`;
}

/** Goes on with `step(cursor, signal)` until nothing follows, in a dialog that shows how far it is and stops it. */
async function work(title, what, step, sum) {
  const stopped = new AbortController();
  const state = store({ searched: 0, total: 0, found: 0 });
  let closed = false;
  const shut = { close: () => {} };
  // What is done quickly needs no dialog.
  const later = setTimeout(() => {
    show(title, (close) => {
      shut.close = close;
      return html`<${Work} title=${title} what=${what} state=${state} stop=${() => close()} />`;
    }).then(() => {
      if (!closed) stopped.abort();
    });
  }, 250);
  let cursor = null;
  let total = null;
  let searched = 0;
  try {
    do {
      const answer = await step(cursor, stopped.signal);
      total ??= answer.total;
      searched += answer.searched;
      state.set({ searched: Math.min(searched, total), total, found: sum(answer) });
      cursor = answer.next;
    } while (cursor !== null && !stopped.signal.aborted);
    return cursor === null;
  } catch (error) {
    if (stopped.signal.aborted) return false;
    throw error;
  } finally {
    closed = true;
    clearTimeout(later);
    shut.close();
  }
}

/** How many jobs match, or null: it was stopped. */
export async function counted(queuePath, match, query) {
  let matched = 0;
  try {
    const whole = await work(
      "Counting",
      "found",
      (cursor, signal) => ask(`${queuePath}/count${query({ ...match, cursor })}`, { signal }),
      (answer) => (matched += answer.matched),
    );
    return whole ? matched : null;
  } catch (error) {
    refused(error);
    return null;
  }
}

/**
 * Does something to many jobs: to those with `keys`, or to all that match. `parts` are {path, keys, state} or
 * {path, match}; they say how many there are before it is done.
 */
export async function actOnMany(action, parts, number, what = "") {
  const { verb, one, many, destroys, done: outcome } = WORDS[action];
  const sentences = number === 1 ? one : many;
  const text = what ? `${jobs(number)}. ${sentences}` : sentences;
  if (!(await sure({ title: `${verb} ${what || these(number)}?`, text, verb: `${verb} ${count(number)}`, destroys })))
    return false;
  let done = 0;
  const late = [];
  let matched = 0;
  let whole = true;
  try {
    for (const { path, keys, state, match } of parts) {
      whole &&= await work(
        `${verb} ${jobs(number)}`,
        outcome,
        (cursor, signal) => change(`${path}/bulk/${sent(action)}`, keys ? { keys, state } : { match, cursor }, signal),
        (answer) => {
          done += answer.done;
          matched += answer.matched;
          late.push(...answer.refused);
          return done;
        },
      );
    }
  } catch (error) {
    refused(error);
  }
  if (done || matched === 0) say(`${jobs(done)} ${outcome}.${whole ? "" : " Stopped there."}`, done ? "good" : "late");
  if (matched > done)
    say(`${jobs(matched - done)} left alone, for this came too late. ${late[0] ? `${shown(late[0].key)}: ${late[0].message}` : ""}`, "late");
  return true;
}
