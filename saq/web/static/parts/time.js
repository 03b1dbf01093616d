// Times as people read them: how long ago, with the exact moment as the title.

import { now } from "../api.js";
import { ago, clock, roughly } from "../format.js";
import { html, store, useEffect, useState } from "../ui.js";

const tick = store(0);
setInterval(() => document.hidden || tick.set(tick.get() + 1), 1000);

/** Draws again each second. */
export function useTick() {
  const [, setTick] = useState(0);
  useEffect(() => tick.listen(setTick), []);
}

const WAYS = {
  ago,
  for: (ms) => roughly(ms),
  in: (ms) => (ms > -1000 ? "now" : `in ${roughly(-ms)}`),
};

/** A moment, told from now on: `how` is ago, for or in. `base` is the answer that it stands in. */
export function Since({ at, base, how = "ago", what = "" }) {
  useTick();
  if (!at) return html`<span class="none">–</span>`;
  return html`<time title=${`${what} ${clock(at)}`.trim()}>${WAYS[how](now(base) - at)}</time>`;
}
