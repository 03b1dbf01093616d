// The keyboard: what a single letter does where nothing is typed. All of it can be done with Tab and Enter as well.

import { go, url } from "./address.js";
import { show } from "./parts/dialogs.js";
import { html, remembered, useStore } from "./ui.js";

export const theme = remembered("theme", ["auto", "light", "dark"]);
const shortcuts = remembered("shortcuts", ["on", "off"]);

export function nextTheme() {
  theme.set({ auto: "light", light: "dark", dark: "auto" }[theme.get()]);
}

theme.listen((chosen) => {
  if (chosen === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
});

const find = (selector) => document.querySelector(selector);
const press = (selector) => find(selector)?.click();

/** The next or previous row, by the link it has. */
function row(step) {
  const links = [...document.querySelectorAll("tbody tr")].map((one) => one.querySelector("a[href], button")).filter(Boolean);
  if (!links.length) return;
  const at = links.findIndex((link) => link.closest("tr").contains(document.activeElement));
  links[Math.max(0, Math.min(links.length - 1, at < 0 ? 0 : at + step))].focus();
}

const SHORTCUTS = [
  ["/", "Search", () => find("[data-search]")?.focus()],
  ["g o", "Overview", () => go(url(""))],
  ["g f", "Failed jobs", () => go(url("failed"))],
  ["g s", "Schedule", () => go(url("schedule"))],
  ["g w", "Workers", () => go(url("workers"))],
  ["j", "Next row", () => row(1)],
  ["k", "Previous row", () => row(-1)],
  ["x", "Select the row", () => document.activeElement?.closest("tr")?.querySelector("input[type=checkbox]")?.click()],
  ["n", "Next page", () => press("[data-page=after]")],
  ["p", "Previous page", () => press("[data-page=before]")],
  ["t", "Change the theme", nextTheme],
  ["?", "This list", help],
];

function Help({ close }) {
  const enabled = useStore(shortcuts);
  return html`<h2>Keyboard</h2>
    <dl class="keys">
      ${SHORTCUTS.map(
        ([keys, what]) => html`<div key=${keys}>
          <dt>${keys.split(" ").map((key) => html`<kbd>${key}</kbd>`)}</dt>
          <dd>${what}</dd>
        </div>`,
      )}
      <div><dt><kbd>Esc</kbd></dt><dd>Close, or clear the search</dd></div>
    </dl>
    <p>
      <label class="check">
        <input type="checkbox" checked=${enabled === "on"} onChange=${(event) => shortcuts.set(event.target.checked ? "on" : "off")} />
        Letters are shortcuts
      </label>
    </p>
    <p class="buttons"><button type="button" data-first="true" onClick=${() => close()}>Close</button></p>`;
}

export function help() {
  show("Keyboard", (close) => html`<${Help} close=${close} />`);
}

let begun = "";
let forget = 0;

function pressed(event) {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || find("dialog[open]")) return;
  const typing = event.target.closest?.("input:not([type=checkbox]), textarea, select");
  if (event.key === "Escape" && typing) {
    typing.blur();
    return;
  }
  if (typing || event.key.length !== 1 || (shortcuts.get() === "off" && event.key !== "?")) return;
  const keys = begun ? `${begun} ${event.key}` : event.key;
  clearTimeout(forget);
  begun = "";
  const found = SHORTCUTS.find(([known]) => known === keys);
  if (found) {
    event.preventDefault();
    found[2]();
  } else if (SHORTCUTS.some(([known]) => known.startsWith(`${keys} `))) {
    begun = keys;
    forget = setTimeout(() => (begun = ""), 1000);
  }
}

export const listen = () => document.addEventListener("keydown", pressed);
