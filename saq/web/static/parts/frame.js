// The frame of every page: where one can go, whether it is live, and what is wrong.

import { trouble } from "../api.js";
import { url } from "../address.js";
import { help, nextTheme, theme } from "../keys.js";
import { status } from "../live.js";
import { html, useStore } from "../ui.js";
import { about } from "./actions.js";
import { IconButton } from "./icons.js";
import { shown } from "./text.js";

const PAGES = [
  ["overview", "", "Overview"],
  ["failed", "failed", "Failed"],
  ["schedule", "schedule", "Schedule"],
  ["workers", "workers", "Workers"],
];

const SAID = {
  connecting: ["Connecting", "The stream of events is being opened"],
  live: ["Live", "Events come as they happen"],
  polling: ["Polling", "There is no stream of events; asked every two seconds"],
  waiting: ["Waiting", "The server does not answer; asked again and again"],
  paused: ["Paused", "Nothing is asked while nobody looks"],
};

export function Frame({ place, children }) {
  const now = useStore(status);
  const wrong = useStore(trouble);
  const chosen = useStore(theme);
  const { read_only: readOnly, redacted } = useStore(about);
  const [word, meaning] = SAID[now];
  const crumbs = [
    place.queue !== null && [url(place.queuePath), shown(place.queue)],
    place.job !== null && [url(place.path), shown(place.job)],
  ].filter(Boolean);
  return html`
    <a class="skip" href="#main">Skip to the content</a>
    <header>
      <a class="brand" href=${url("")}><img src=${url("static/icon.svg")} alt="" width="20" height="20" />saq</a>
      <nav class="main" aria-label="Pages">
        ${PAGES.map(([page, path, label]) => html`<a key=${page} href=${url(path)} aria-current=${page === place.page ? "page" : undefined}>${label}</a>`)}
      </nav>
      ${crumbs.length > 0 &&
      html`<nav class="crumbs" aria-label="Where you are">
        ${crumbs.map(([href, name], i) => html`<a key=${href} class="cut" href=${href} aria-current=${i === crumbs.length - 1 ? "page" : undefined} title=${name}>${name}</a>`)}
      </nav>`}
      <span class="gap"></span>
      ${readOnly && about.get().version && html`<span class="chip" title="Nothing can be changed here">read-only</span>`}
      ${redacted && html`<span class="chip" title="Some values are hidden here">redacted</span>`}
      <span class="live" role="status" data-status=${now} title=${meaning}>${word}</span>
      <${IconButton} icon=${chosen} label=${`Theme: ${chosen}`} onClick=${nextTheme} />
      <button type="button" class="plain" aria-label="Keyboard shortcuts" title="Keyboard shortcuts (?)" onClick=${help}><span class="glyph" aria-hidden="true">?</span></button>
    </header>
    <div class="trouble" role="alert" data-shown=${wrong ? "yes" : "no"}>${wrong}</div>
    <main id="main" tabindex="-1" data-live=${wrong ? "no" : "yes"}>${children}</main>
  `;
}
