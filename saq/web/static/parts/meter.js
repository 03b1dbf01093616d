// How much of something there is, as a bar.

import { html } from "../ui.js";

export function Meter({ value, max, label }) {
  const share = Math.max(0, Math.min(1, max ? value / max : 0));
  return html`<span class="meter" role="meter" aria-label=${label} aria-valuemin="0" aria-valuemax=${Math.max(max, value)} aria-valuenow=${value}><i style=${{ width: `${(share * 100).toFixed(1)}%` }}></i></span>`;
}
