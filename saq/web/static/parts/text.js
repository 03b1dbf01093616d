// Text of others: cut where there is no room, whole on demand, and to be copied.

import { indented } from "../format.js";
import { html, useState } from "../ui.js";
import { IconButton } from "./icons.js";
import { say } from "./toasts.js";

/** A name, even if it is none. */
export const shown = (text) => (text === "" ? "(empty)" : text === null || text === undefined ? "–" : text);

/** One line, cut by its cell; the whole of it is the title. */
export const Cut = ({ text, mono = true }) =>
  html`<span class=${mono ? "cut mono" : "cut"} title=${text ?? ""}>${shown(text)}</span>`;

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Without TLS there is no clipboard for a page; a selection there is.
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "unseen";
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

export function Copy({ text, what }) {
  const [done, setDone] = useState(false);
  const copy = async () => {
    if (!(await copied(text))) {
      say("The browser did not let this page copy it.", "bad");
      return;
    }
    setDone(true);
    setTimeout(() => setDone(false), 1500);
  };
  return html`<${IconButton} icon=${done ? "done" : "copy"} label=${done ? "Copied" : `Copy ${what}`} onClick=${copy} />`;
}

const LINES = 18;

/** A value with all its lines: JSON indented unless one wants it raw, long ones folded. */
export function Block({ title, text, tone, json = true }) {
  const [raw, setRaw] = useState(false);
  const [whole, setWhole] = useState(false);
  if (text === null || text === undefined) return null;
  const pretty = json ? indented(text) : text;
  const lines = (raw ? text : pretty).split("\n");
  // Of a trace, the end says what went wrong; the beginning of anything else says what it is.
  const folded = lines.length > LINES + 4 && !whole;
  const visible = !folded ? lines : json ? lines.slice(0, LINES) : lines.slice(-LINES);
  const more = lines.length - visible.length;
  const fold = html`<button type="button" class="fold" onClick=${() => setWhole(!whole)}>
    ${folded ? `Show ${more} more lines` : "Show less"}
  </button>`;
  return html`<section class="block" data-tone=${tone}>
    <div class="title">
      <h2>${title}</h2>
      <span class="tools">
        ${pretty !== text && html`<button type="button" class="small" aria-pressed=${raw} onClick=${() => setRaw(!raw)}>Raw</button>`}
        <${Copy} text=${text} what=${title.toLowerCase()} />
      </span>
    </div>
    ${folded && !json && fold}
    <pre tabindex="0" aria-label=${title}>${visible.join("\n")}</pre>
    ${(folded && json) || whole ? fold : null}
  </section>`;
}
