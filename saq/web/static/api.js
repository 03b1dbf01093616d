// Asking the API: once, again and again, and not at all while nobody looks.

import { url } from "./address.js";
import { away, changed } from "./live.js";
import { store, useEffect, useRef, useState } from "./ui.js";

const PATIENCE = 15_000;
/** However much happens: no list is asked for more often. */
const SOONEST = 1000;
const LATEST = 15_000;

/** What stands between this page and the server, as a sentence; null if nothing does. */
export const trouble = store(null);

export class Refused extends Error {
  constructor(status, answer, after) {
    super(answer?.message ?? `The server answered with ${status}.`);
    this.status = status;
    this.word = answer?.error ?? "";
    this.id = answer?.id ?? null;
    this.after = after;
  }
}

/** An error as a sentence for people. */
export function sentence(error) {
  if (error instanceof Refused) return error.id ? `${error.message} (${error.id})` : error.message;
  console.error(error);
  return "This page could not show the answer.";
}

export async function ask(path, { signal, ...options } = {}) {
  const patience = AbortSignal.timeout(PATIENCE);
  let response;
  let answer;
  try {
    const either = signal ? AbortSignal.any([signal, patience]) : patience;
    response = await fetch(url(`api/${path}`), { cache: "no-store", signal: either, ...options });
    answer = await response.json().catch(() => null);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw noted(new Refused(0, { message: "The server does not answer." }));
  }
  if (!response.ok || answer === null)
    throw noted(new Refused(response.status, answer, Number(response.headers.get("Retry-After")) || 0));
  trouble.set(null);
  answer.received = performance.now();
  return answer;
}

/** What is wrong with the server, not with what was asked for, is said above everything. */
function noted(error) {
  if (error.status === 401) trouble.set("The server asks for a user name and a password. Load this page again to give them.");
  else if (error.status === 0) trouble.set("The server does not answer. Trying again.");
  else if (error.status >= 500 && error.word !== "too_many_streams") trouble.set(`${sentence(error)} Trying again.`);
  return error;
}

export const change = (path, body = {}, signal) =>
  ask(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });

/** The clock of the server that gave an answer, now. */
export const now = (answer) => answer.now + (performance.now() - answer.received);

function poll(fetcher, every, queue, tell) {
  let timer = 0;
  let due = Infinity;
  let asked = -Infinity;
  let failures = 0;
  let held = false;
  let asking = false;
  let again = false;
  const idle = () => held || document.hidden || over.signal.aborted;
  const over = new AbortController();

  function plan(ms) {
    clearTimeout(timer);
    due = performance.now() + ms;
    if (!idle()) timer = setTimeout(turn, ms);
  }

  async function turn() {
    clearTimeout(timer);
    again = asking;
    if (again || over.signal.aborted) return;
    asking = true;
    asked = performance.now();
    let next = every;
    try {
      const answer = await fetcher(over.signal);
      failures = 0;
      if (!over.signal.aborted) tell({ answer, error: null });
    } catch (error) {
      if (over.signal.aborted) return;
      failures += 1;
      next = error.after ? error.after * 1000 : Math.min(LATEST, 1000 * 2 ** Math.min(failures, 4));
      if (error.status === 404) next = Math.max(next, LATEST);
      tell({ error });
    } finally {
      asking = false;
    }
    if (again) turn();
    else plan(next);
  }

  const hurry = () => {
    const soon = Math.max(0, asked + SOONEST - performance.now());
    if (performance.now() + soon < due) plan(soon);
  };
  const nudge = (names) => {
    if (!failures && (queue === "*" || names.has(queue))) hurry();
  };
  const look = () => plan(Math.max(0, due - performance.now()));
  const deaf = [away.listen(hurry), ...(queue === undefined ? [] : [changed.listen(nudge)])];
  document.addEventListener("visibilitychange", look);
  turn();
  return {
    turn,
    hold(yes) {
      if (held === yes) return;
      held = yes;
      if (held) clearTimeout(timer);
      else plan(Math.max(0, Math.min(due, asked + SOONEST) - performance.now()));
    },
    stop() {
      over.abort();
      clearTimeout(timer);
      for (const stop of deaf) stop();
      document.removeEventListener("visibilitychange", look);
    },
  };
}

/**
 * What a fetcher brings, kept current: every so many ms, and when something happens in `queue` ("*": in any). A new
 * `key` is another question (null: none is asked); until it is answered, `fresh` is false and the old answer stays.
 * While `held` nothing changes.
 */
export function useAsked(key, fetcher, { every = 10_000, queue, held = false } = {}) {
  const [found, setFound] = useState({ answer: null, error: null, key: null });
  const polling = useRef(null);
  const latest = useRef(fetcher);
  latest.current = fetcher;
  useEffect(() => {
    if (key === null) return undefined;
    // What could not be had for this question is not answered with what was had for another.
    const tell = (news) => setFound((old) => ({ answer: old.key === key ? old.answer : null, error: null, ...news, key }));
    polling.current = poll((signal) => latest.current(signal), every, queue, tell);
    return () => polling.current.stop();
  }, [key, every, queue]);
  useEffect(() => polling.current?.hold(held), [held, key]);
  return { ...found, fresh: found.key === key, again: () => polling.current?.turn() };
}

/** The same of one path of the API. */
export const useAnswer = (path, settings) => useAsked(path, (signal) => ask(path, { signal }), settings);
