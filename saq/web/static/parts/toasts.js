// What was done, or could not be done: said for a while, and to a screen reader as well.

import { html, store, useStore } from "../ui.js";
import { IconButton } from "./icons.js";

const PASSING = 6000;
const LASTING = 12_000;
const MOST = 3;

const toasts = store([]);
let number = 0;

const drop = (id) => toasts.set(toasts.get().filter((toast) => toast.id !== id));

/** `kind` is good, late (it came too late) or bad. */
export function say(text, kind = "good") {
  const id = ++number;
  toasts.set([...toasts.get(), { id, text, kind }].slice(-MOST));
  setTimeout(() => drop(id), kind === "good" ? PASSING : LASTING);
}

export function Toasts() {
  const all = useStore(toasts);
  return html`<div class="toasts" role="status" aria-live="polite" aria-relevant="additions">
    ${all.map(
      ({ id, text, kind }) => html`<div class="toast" data-kind=${kind} key=${id}>
        <span>${text}</span>
        <${IconButton} icon="close" label="Dismiss" onClick=${() => drop(id)} />
      </div>`,
    )}
  </div>`;
}
