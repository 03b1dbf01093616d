// Addresses: where this page is, and how to get to another one without loading it anew.
//
// Whatever the API calls `path` is encoded and relative to the root. Segments of our own address are passed on to the
// API as they are, undecoded; they are decoded for the eye only.

import { store, useStore } from "./ui.js";

export const root = new URL(document.documentElement.dataset.root, location.href);

/** The address of a path below the root; nothing else can come of it. */
export function url(path) {
  const found = new URL(path, root);
  return found.href.startsWith(root.href) ? found.href : root.href;
}

const MARKED = { "=": "", "=.": ".", "=..": ".." };

/** A name as one segment of an address, as the server writes it. */
export function segment(name) {
  if (name === "") return "=";
  return name === "." || name === ".." ? `=${name}` : encodeURIComponent(name.toWellFormed?.() ?? name);
}

/** A segment as a name. */
export function named(raw) {
  if (Object.hasOwn(MARKED, raw)) return MARKED[raw];
  try {
    return decodeURIComponent(raw);
  } catch {
    return raw;
  }
}

const TOP = ["failed", "schedule", "workers"];

function read() {
  const segments = location.pathname.slice(root.pathname.length).split("/");
  const query = Object.fromEntries(new URLSearchParams(location.search));
  const place = { page: "missing", path: segments.join("/"), query, queue: null, job: null, trail: [] };
  if (Array.isArray(history.state?.trail)) place.trail = history.state.trail;
  if (segments.length === 1 && segments[0] === "") place.page = "overview";
  else if (segments.length === 1 && TOP.includes(segments[0])) place.page = segments[0];
  else if (segments[0] === "queues" && segments.length >= 2) {
    place.queue = named(segments[1]);
    place.queuePath = segments.slice(0, 2).join("/");
    if (segments.length === 2) place.page = "queue";
    if (segments.length === 4 && segments[2] === "jobs") {
      place.page = "job";
      place.job = named(segments[3]);
    }
  }
  return place;
}

const here = store(read());

export const usePlace = () => useStore(here);
export const place = () => here.get();

/** Goes to an address of this page. `trail` holds the cursors one came by, to page back. */
export function go(href, { replace = false, trail = [] } = {}) {
  history[replace ? "replaceState" : "pushState"]({ trail }, "", href);
  here.set(read());
}

/** This address with other words in its query; null and "" take one out. */
export function withQuery(changes, path = here.get().path) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries({ ...here.get().query, ...changes })) {
    if (value !== null && value !== undefined && value !== "") query.set(name, value);
  }
  const text = query.toString();
  return url(path) + (text ? `?${text}` : "");
}

export function parameters(values) {
  const given = Object.entries(values).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return given.length ? `?${new URLSearchParams(given)}` : "";
}

/** Links of this page are followed without loading it; those to a new tab, a file or elsewhere are left alone. */
function follow(event) {
  const link = event.target.closest?.("a[href]");
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey)
    return;
  if (link.target || link.hasAttribute("download") || !link.href.startsWith(root.href)) return;
  const to = new URL(link.href);
  if (to.hash || /^(api|static)\//.test(to.pathname.slice(root.pathname.length))) return;
  event.preventDefault();
  if (link.href !== location.href) go(link.href);
}

export function listen() {
  // Its address is relative to a page that one leaves: a browser looks it up again from the next one.
  const icon = document.querySelector("link[rel=icon]");
  icon.href = icon.href;
  document.addEventListener("click", follow);
  addEventListener("popstate", () => here.set(read()));
}
