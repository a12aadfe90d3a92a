// Lengths and scale bars, in millimetres of the plane; they say where millimetres are assumed.

import { byId, state } from "./page.js";
import { describedView, placed, viewOf } from "./views.js";

const SVG = "http://www.w3.org/2000/svg";
const NICE_MM = [1, 2, 5, 10, 20, 50, 100];
const lengths = []; // {group, slice, from: [mm, mm], to: [mm, mm]}
let growing = null;

function isAssumed() { return state.result.millimetres_assumed; }

// Views of one plane share their lengths.
function groupOf(name) { return describedView(name).plane || name; }

function toMm(name, { x, y }) {
  const [left, top, width, height] = placed.views[name].extent;
  return [left + x * width, top - y * height];
}

export function beginLength(name, at) {
  if (!placed.views[name] || !placed.views[name].extent) return;
  const from = toMm(name, at);
  growing = { name, group: groupOf(name), slice: placed.views[name].slice, from, to: from };
  lengths.push(growing);
}

export function stretchLength(at) {
  if (!growing) return;
  growing.to = toMm(growing.name, at);
  redraw();
}

// A length shorter than a voxel was a click.
export function endLength(isKept) {
  if (!growing) return;
  if (!isKept || millimetres(growing) < 1) lengths.splice(lengths.indexOf(growing), 1);
  growing = null;
  redraw();
}

export function clearLengths() { lengths.length = 0; redraw(); }

function millimetres({ from, to }) { return Math.hypot(to[0] - from[0], to[1] - from[1]); }

export function lengthText(length) { return `${millimetres(length).toFixed(1)} mm${isAssumed() ? " (assumed)" : ""}`; }

// The lengths of a view as it is now, in parts of its width and height.
export function lengthsIn(name) {
  const { extent, slice } = placed.views[name] || {};
  if (!extent) return [];
  const part = ([right, up]) => [(right - extent[0]) / extent[2], (extent[1] - up) / extent[3]];
  return lengths.filter((one) => one.group === groupOf(name) && one.slice === slice)
    .map((one) => ({ from: part(one.from), to: part(one.to), text: lengthText(one) }));
}

// The longest nice length of at most a third of a view: {part of its width, text}; null where there are no mm.
export function scaleBarOf(name) {
  const { extent } = placed.views[name] || {};
  if (!extent) return null;
  const mm = NICE_MM.filter((one) => one <= extent[2] / 3).pop();
  return mm ? { part: mm / extent[2], text: `${mm} mm${isAssumed() ? " (assumed)" : ""}` } : null;
}

function redraw() { Object.keys(placed.views).forEach(drawMarks); }

export function drawMarks(name) {
  const view = viewOf(name);
  if (!view || !placed.views[name]) return;
  byId("clear").hidden = lengths.length === 0;
  const bar = view.querySelector(".scale-bar");
  const scale = scaleBarOf(name);
  bar.hidden = !scale;
  if (scale) {
    bar.textContent = scale.text;
    bar.style.width = `${100 * scale.part}%`;
  }
  view.querySelector("svg").replaceChildren(...lengthsIn(name).flatMap(({ from, to, text }) => {
    const line = document.createElementNS(SVG, "line");
    const ends = { x1: from[0], y1: from[1], x2: to[0], y2: to[1] };
    for (const [key, part] of Object.entries(ends)) line.setAttribute(key, `${100 * part}%`);
    const label = document.createElementNS(SVG, "text");
    label.setAttribute("x", `${100 * Math.min(to[0], 0.7) + 1}%`);
    label.setAttribute("y", `${100 * Math.max(to[1], 0.06) - 1}%`);
    label.textContent = text;
    return [line, label];
  }));
}
