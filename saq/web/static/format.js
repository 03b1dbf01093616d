// How numbers, times and spans are written. No fraction that changes with every drawing, and no width that jumps.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

const NONE = "–";
const known = (n) => typeof n === "number" && Number.isFinite(n);
const two = (n) => String(n).padStart(2, "0");

export const count = (n) => (known(n) ? whole.format(n) : NONE);
/** At most six characters: for an axis, or where there is little room. */
export const compact = (n) => (known(n) ? (Math.abs(n) < 10000 ? whole.format(n) : short.format(n)) : NONE);

/** Something for each second or minute. */
export function rate(n) {
  if (!known(n)) return NONE;
  if (n === 0 || n >= 100) return compact(Math.round(n));
  return n.toFixed(n < 10 ? 1 : 0);
}

/** A span of time as it was measured, in the two units that matter. */
export function span(ms) {
  if (!known(ms)) return NONE;
  ms = Math.max(0, ms);
  if (ms === 0) return "0 ms";
  if (ms < 0.05) return "< 0.1 ms";
  if (ms < 9.95) return `${ms.toFixed(1)} ms`;
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  if (ms < 59950) return `${(ms / 1000).toFixed(ms < 9995 ? 2 : 1)} s`;
  return roughly(ms);
}

/** How long ago, in the one unit that matters: lists stay calm. */
export function ago(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 1) return "now";
  if (s < 60) return `${s} s ago`;
  if (s < 3600) return `${Math.floor(s / 60)} m ago`;
  return s < 172800 ? `${Math.floor(s / 3600)} h ago` : `${whole.format(Math.floor(s / 86400))} d ago`;
}

/** A span that goes on while one looks. */
export function roughly(ms) {
  if (!known(ms)) return NONE;
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} m ${two(s % 60)} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${two(Math.floor((s % 3600) / 60))} m`;
  return `${whole.format(Math.floor(s / 86400))} d ${two(Math.floor((s % 86400) / 3600))} h`;
}

/** A limit in seconds. */
export const limit = (seconds, none) => (seconds ? (seconds % 1 ? span : roughly)(seconds * 1000) : none);

/** A moment, by the clock on the wall here. */
export function clock(ms) {
  const at = new Date(ms);
  if (!ms || Number.isNaN(at.getTime())) return NONE;
  return `${day(at)} ${time(at)}`;
}

const day = (at) => `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
const time = (at) => `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;

export const timeOfDay = (ms) => time(new Date(ms));
export const minute = (ms) => time(new Date(ms)).slice(0, 5);
export const weekday = (ms) => new Date(ms).toLocaleDateString("en", { weekday: "short" });

export const percent = (part) => (known(part) ? `${Math.round(part * 100)} %` : NONE);
export const jobs = (n) => `${count(n)} ${n === 1 ? "job" : "jobs"}`;
export const these = (n) => (n === 1 ? "this job" : `these ${count(n)} jobs`);

/**
 * JSON with line breaks. It goes by the characters and reads no value, so that a number keeps all its digits, what
 * was cut stays as it is, and what is no JSON at all comes back unchanged.
 */
export function indented(text) {
  if (!/^\s*[[{]/.test(text)) return text;
  let out = "";
  let depth = 0;
  const line = () => `\n${"  ".repeat(Math.min(depth, 40))}`;
  for (let i = 0; i < text.length; i++) {
    const letter = text[i];
    if (letter === '"') {
      const from = i++;
      while (i < text.length && text[i] !== '"') i += text[i] === "\\" ? 2 : 1;
      out += text.slice(from, i + 1);
    } else if (letter === "{" || letter === "[") {
      const close = letter === "{" ? "}" : "]";
      const after = /^\s*(.)?/.exec(text.slice(i + 1, i + 50));
      if (after[1] === close) {
        out += letter + close;
        i += after[0].length;
      } else {
        depth++;
        out += letter + line();
      }
    } else if (letter === "}" || letter === "]") {
      depth = Math.max(0, depth - 1);
      out += line() + letter;
    } else if (letter === ",") {
      out += `,${line()}`;
    } else if (letter === ":") {
      out += ": ";
    } else if (!/\s/.test(letter)) {
      out += letter;
    } else if (/…/.test(text[i + 1] ?? "")) {
      out += " ";
    }
  }
  return out;
}
