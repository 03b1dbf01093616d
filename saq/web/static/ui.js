// What the page is drawn with. Every value becomes a text node or an attribute; there is no way from a value to markup.

import { h, render } from "./vendor/preact.mjs";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "./vendor/hooks.mjs";
import htm from "./vendor/htm.mjs";

export const html = htm.bind(h);
export { render, useEffect, useLayoutEffect, useMemo, useRef, useState };

/** A value that several parts show: `get`, `set`, and `listen`, which answers how to stop. */
export function store(value) {
  const listeners = new Set();
  return {
    get: () => value,
    set(next) {
      if (Object.is(next, value)) return;
      value = next;
      for (const listener of [...listeners]) listener(value);
    },
    listen(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

export function useStore(of) {
  const [value, setValue] = useState(of.get());
  useEffect(() => {
    setValue(of.get());
    return of.listen(setValue);
  }, [of]);
  return value;
}

/** What this browser remembers: only ever one of the choices given. */
export function remembered(name, choices) {
  const key = `saq.${name}`;
  let value = null;
  try {
    value = localStorage.getItem(key);
  } catch {
    // No storage is allowed here: nothing is remembered.
  }
  const of = store(choices.includes(value) ? value : choices[0]);
  of.listen((next) => {
    try {
      localStorage.setItem(key, next);
    } catch {
      // As above.
    }
  });
  return of;
}

export const classes = (...names) => names.filter(Boolean).join(" ");
