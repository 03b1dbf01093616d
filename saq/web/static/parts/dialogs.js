// Dialogs: one at a time, above everything, closed by Escape. The browser keeps the focus inside and brings it back.

import { html, store, useEffect, useRef, useStore } from "../ui.js";

const open = store(null);

/** Shows a dialog whose content is `draw(close)`; resolves to what it is closed with, undefined for Escape. */
export function show(label, draw) {
  open.get()?.close(undefined);
  return new Promise((resolve) => {
    const close = (value) => {
      if (open.get() === it) open.set(null);
      resolve(value);
    };
    const it = { label, draw, close };
    open.set(it);
  });
}

/** Asks before something is done. Escape and the first button say no, and the focus begins there if it destroys. */
export const sure = ({ title, text, verb, destroys = false }) =>
  show(
    title,
    (close) => html`<h2>${title}</h2>
      <p>${text}</p>
      <p class="buttons">
        <button type="button" data-first=${destroys} onClick=${() => close(false)}>Leave it</button>
        <button type="button" data-first=${!destroys} class=${destroys ? "strong danger" : "strong"} onClick=${() => close(true)}>${verb}</button>
      </p>`,
  );

export function Dialogs() {
  const it = useStore(open);
  const node = useRef(null);
  useEffect(() => {
    if (!it) return undefined;
    const dialog = node.current;
    const before = document.activeElement;
    dialog.showModal();
    (dialog.querySelector("[data-first=true]") ?? dialog.querySelector("button")).focus();
    return () => {
      if (dialog.open) dialog.close();
      if (before?.isConnected) before.focus();
    };
  }, [it]);
  if (!it) return null;
  const escape = (event) => {
    event.preventDefault();
    it.close(undefined);
  };
  const outside = (event) => event.target === node.current && it.close(undefined);
  return html`<dialog ref=${node} aria-label=${it.label} onCancel=${escape} onMouseDown=${outside}>
    <div class="inside">${it.draw(it.close)}</div>
  </dialog>`;
}
