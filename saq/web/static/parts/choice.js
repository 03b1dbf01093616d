// Which queue a page of all queues is narrowed to.

import { go, withQuery } from "../address.js";
import { html } from "../ui.js";
import { shown } from "./text.js";

export function QueueChoice({ queues, chosen }) {
  if (queues.length < 2 && chosen === null) return null;
  const names = queues.map((queue) => queue.name);
  // An option's value cannot say "none" and "" apart, so that they are numbered.
  const number = names.indexOf(chosen);
  const choose = (event) => {
    const name = names[Number(event.target.value)];
    go(withQuery({ queue: name ?? null }));
  };
  return html`<select class="field" aria-label="Queue" value=${String(number)} onChange=${choose}>
    <option value="-1">all queues</option>
    ${names.map((name, i) => html`<option key=${name} value=${String(i)}>${shown(name)}</option>`)}
  </select>`;
}
