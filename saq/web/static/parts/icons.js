// Icons, drawn here. None says anything that a word beside it, or a label, does not say.

import { html } from "../ui.js";

const SHAPES = {
  retry: "M13 8a5 5 0 1 1-1.6-3.7M13 2v3h-3",
  requeue: "M13 8a5 5 0 1 1-1.6-3.7M13 2v3h-3",
  run: "M5 3.5v9l7-4.5z",
  abort: "M4.5 4.5h7v7h-7z",
  delete: "M3 4.5h10M6.5 4V2.5h3V4M4.5 4.5l.5 9h6l.5-9M6.8 7v4M9.2 7v4",
  pause: "M5.5 3.5v9M10.5 3.5v9",
  resume: "M5 3.5v9l7-4.5z",
  quiet: "M5.5 3.5v9M10.5 3.5v9",
  copy: "M5.5 5.5v-3h8v8h-3M2.5 5.5h8v8h-8z",
  done: "M3 8.5l3.2 3.2L13 4.8",
  close: "M4 4l8 8M12 4l-8 8",
  search: "M11 7a4 4 0 1 1-8 0 4 4 0 0 1 8 0zM10 10l3.5 3.5",
  before: "M10 3.5L5.5 8l4.5 4.5",
  after: "M6 3.5L10.5 8 6 12.5",
  first: "M11.5 3.5L7 8l4.5 4.5M4.5 3.5v9",
  auto: "M8 2.5a5.5 5.5 0 1 0 0 11zM8 2.5a5.5 5.5 0 0 1 0 11",
  light: "M8 5.2a2.8 2.8 0 1 0 0 5.6 2.8 2.8 0 0 0 0-5.6zM8 1.2v1.3M8 13.5v1.3M1.2 8h1.3M13.5 8h1.3M3.2 3.2l.9.9M11.9 11.9l.9.9M3.2 12.8l.9-.9M11.9 4.1l.9-.9",
  dark: "M13 9.6A5.6 5.6 0 0 1 6.4 3 5.6 5.6 0 1 0 13 9.6z",
  reload: "M13 8a5 5 0 1 1-1.6-3.7M13 2v3h-3",
};

export const Icon = ({ name }) =>
  html`<svg class="icon" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true" focusable="false"><path d=${SHAPES[name]} /></svg>`;

/** A button that is an icon; its label is for the ear and the tooltip. */
export const IconButton = ({ icon, label, kind, ...rest }) =>
  html`<button type="button" class="plain" data-kind=${kind} aria-label=${label} title=${label} ...${rest}><${Icon} name=${icon} /></button>`;
