// Charts: a canvas that uPlot draws, and beside it in words what it shows.

import { clock, minute, weekday } from "./format.js";
import { classes, html, useEffect, useLayoutEffect, useRef, useState, useStore } from "./ui.js";
import { theme } from "./keys.js";
import uPlot from "./vendor/uplot.mjs";

const HEIGHT = 132;
const dark = matchMedia("(prefers-color-scheme: dark)");

/** A colour of the style sheet as a canvas understands it, which knows nothing of light-dark(). */
function colour(name, node) {
  const probe = document.createElement("i");
  probe.className = `tone-${name}`;
  node.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

const faded = (rgb, share) => rgb.replace(/^rgb\((.*)\)$/, (_, parts) => `rgba(${parts}, ${share})`);

/** Between two labels of a time axis lie so many seconds: whole minutes at the least. */
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440].map((minutes) => minutes * 60);

/** What the labels of a time axis say: the time of day, at midnight the day. */
function labels(_, splits) {
  return splits.map((at) => {
    const midnight = new Date(at * 1000).getHours() === 0 && new Date(at * 1000).getMinutes() === 0;
    return midnight ? weekday(at * 1000) : minute(at * 1000);
  });
}

function options({ lines, format, node, width, span, point }) {
  const [text, grid, ground] = ["faint", "line", "surface"].map((name) => colour(name, node));
  const axis = { stroke: text, font: `11px ${getComputedStyle(node).fontFamily}`, ticks: { show: false } };
  return {
    width,
    height: HEIGHT,
    padding: [8, 14, 0, 0],
    legend: { show: false },
    cursor: {
      y: false,
      drag: { x: false, y: false },
      points: { size: 6, fill: ground, width: 1.5 },
      sync: { key: "saq", setSeries: false },
    },
    select: { show: false },
    hooks: { setCursor: [(plot) => point(plot.cursor.idx ?? null)] },
    scales: {
      x: { time: true, ...(span ? { range: () => span.current } : {}) },
      y: { range: (_, low, high) => [0, Math.max(high || 0, format.least ?? 1) * 1.1] },
    },
    axes: [
      { ...axis, size: 22, gap: 5, space: 40, incrs: STEPS, grid: { show: false }, values: labels },
      { ...axis, size: 52, gap: 6, space: 32, grid: { stroke: grid, width: 1 }, values: (_, splits) => splits.map((n) => (format.whole && n % 1 ? "" : format(n))) },
    ],
    series: [
      {},
      ...lines.map(({ tone, fill }) => {
        const stroke = colour(tone, node);
        return { stroke, width: 1.5, fill: fill ? faded(stroke, 0.12) : undefined, points: { show: false }, spanGaps: false };
      }),
    ],
  };
}

/** The last value there is. */
const last = (values) => values.findLast((value) => value !== null && value !== undefined) ?? null;

/**
 * times: seconds. lines: {label, tone, values, fill, total}. `span` pins both ends of the time axis. While nobody
 * points at a moment, the legend says `total` of each line, or its last value.
 */
export function Chart({ title, unit, times, lines, format, span, none }) {
  const box = useRef(null);
  const plot = useRef(null);
  const window_ = useRef(span);
  const [at, setAt] = useState(null);
  const [system, setSystem] = useState(dark.matches);
  const chosen = useStore(theme);
  window_.current = span;
  const data = [times, ...lines.map((line) => line.values)];
  const known = lines.some((line) => line.values.some((value) => value !== null));
  const shape = lines.map(({ label, tone }) => label + tone).join();

  useEffect(() => {
    const look = () => setSystem(dark.matches);
    dark.addEventListener("change", look);
    return () => dark.removeEventListener("change", look);
  }, []);
  useEffect(() => {
    const node = box.current;
    const settings = { lines, format, node, width: node.clientWidth || 300, span: span && window_, point: setAt };
    const made = new uPlot(options(settings), data, node);
    plot.current = made;
    const sizes = new ResizeObserver(() => node.clientWidth && made.setSize({ width: node.clientWidth, height: HEIGHT }));
    sizes.observe(node);
    return () => {
      sizes.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [shape, format, chosen, system, Boolean(span)]);
  useLayoutEffect(() => plot.current?.setData(data), [times, lines]);

  const value = (line) => (at !== null ? line.values[at] : line.total !== undefined ? line.total : last(line.values));
  const words = known ? lines.map((line) => `${line.label} ${format(line.total ?? last(line.values))}`).join(", ") : none;
  return html`<figure class="chart">
    <figcaption>
      <span class="name">${title}<span class="unit">${at !== null && times[at] ? clock(times[at] * 1000).slice(11) : unit}</span></span>
      <span class="legend">
        ${lines.map(
          (line) => html`<span key=${line.label} class=${classes("line", `tone-${line.tone}`)}><i></i><span class="label">${line.label}</span> <b>${format(value(line))}</b></span>`,
        )}
      </span>
    </figcaption>
    <div class="canvas" role="img" aria-label=${`${title}, ${unit}: ${words}`} ref=${box}></div>
    ${!known && html`<p class="nothing">${none}</p>`}
  </figure>`;
}

/** A line without axes, for a row of a table. */
export function Spark({ values, tone = "accent", label }) {
  const high = Math.max(...values.map((value) => value ?? 0), 1e-9);
  const step = 96 / Math.max(1, values.length - 1);
  const points = values.map((value, i) => `${(i * step).toFixed(1)},${(21 - ((value ?? 0) / high) * 19).toFixed(1)}`);
  return html`<svg class=${`spark tone-${tone}`} viewBox="0 0 96 22" width="96" height="22" role="img" aria-label=${label}>
    <path d="M0 21.5H96" class="ground" />
    ${points.length > 1 && html`<polyline points=${points.join(" ")} />`}
  </svg>`;
}
