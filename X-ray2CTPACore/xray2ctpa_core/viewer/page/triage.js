// The triage pathway: what is entered goes to the server, whose rules answer with a drawing and reasons. Neither keeps it.

import { byId, element, listOf } from "./page.js";
import { send, sendSoon } from "./connection.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 360;
const ROW = 70;
const BOX = 38;
const ROWS = 5;
const ACROSS = WIDTH / 3;
const WIDE = 0.92 * ACROSS;
let of = null; // the result that was asked about last

export function listenToTriage() {
  byId("triage").addEventListener("toggle", () => { if (byId("triage").open) send(entered()); });
  byId("triage-form").addEventListener("input", () => sendSoon(entered()));
  byId("triage-form").addEventListener("submit", (event) => event.preventDefault());
}

// Another result has another score.
export function askTriageOf(result) {
  if (result === of) return;
  of = result;
  if (byId("triage").open) send(entered());
}

function entered() {
  const form = byId("triage-form");
  const checked = (name) => [...form.querySelectorAll(`[name=${name}]:checked`)].map(({ value }) => value);
  const number = (name) => (form.elements[name]?.checkValidity() && form.elements[name].value !== ""
    ? Number(form.elements[name].value) : null);
  const unit = form.elements.unit ? { unit: form.elements.unit.value } : {};
  return {
    do: "triage", wells: checked("wells"), perc: checked("perc"), gestalt_low: checked("gestalt").length > 0,
    unstable: checked("unstable").length > 0, age: number("age"), d_dimer: number("d_dimer"), ...unit,
  };
}

export function renderTriage({ notice, form, headline, boxes, arrows, dotted, reasons, beside }) {
  if (!byId("triage-form").children.length) byId("triage-form").append(...makeForm(form));
  byId("triage-notice").textContent = notice;
  byId("triage-headline").textContent = headline;
  byId("triage-reasons").replaceChildren(...listOf(reasons).children);
  byId("triage-beside").replaceChildren(...listOf(beside).children);
  const way = boxes.filter(({ on_way: isOn }) => isOn).map(({ text }) => text.replace("\n", " "));
  byId("workflow").setAttribute("aria-label", `Workflow after Figure 10 of X-ray2CTPA; this case: ${way.join(", ")}. ${notice}`);
  draw(boxes, arrows, dotted, notice);
}

function makeForm({ wells, perc, units }) {
  const box = (name, value, text) => element("label", { className: "tick" }, element("input", { type: "checkbox", name, value }), text);
  const items = (name, criteria) => criteria.map(({ name: value, text, points }) =>
    box(name, value, points ? `${text} (${points})` : text));
  const group = (title, ...children) => element("fieldset", {}, element("legend", { textContent: title }), ...children);
  const number = (title, name, max) => element("label", {}, title, element("input", { type: "number", name, min: 0, max, step: "any" }));
  return [
    box("unstable", "yes", "Unstable circulation, or pregnancy"),
    group("Wells", ...items("wells", wells)),
    group("D-dimer", element("div", { className: "row" }, number("Age, years", "age", 120), number("D-dimer", "d_dimer", 100000),
      element("label", { className: "wide" }, "Unit", element("select", { name: "unit" },
        ...units.map((value) => element("option", { value, textContent: value })))))),
    element("details", {}, element("summary", { textContent: "PERC, if PE is thought unlikely (below 15 %)" }),
      group("PERC", box("gestalt", "yes", "PE is thought unlikely"), ...items("perc", perc))),
  ];
}

function draw(boxes, arrows, dotted, notice) {
  const made = (tag, attributes, textContent = "") => {
    const item = document.createElementNS(SVG, tag);
    for (const [key, value] of Object.entries(attributes)) item.setAttribute(key, value);
    item.textContent = textContent;
    return item;
  };
  const middle = Object.fromEntries(boxes.map(({ name, column, row }) => [name, [(column + 0.5) * ACROSS, (row + 0.5) * ROW]]));
  const line = ([x1, y1], [x2, y2], names) => made("line", { x1, y1, x2, y2, class: names });
  const parts = [line(middle[dotted[0]], middle[dotted[1]], "dotted")];
  const strongLast = [...arrows].sort((a, b) => a.on_way - b.on_way);
  for (const { from, to, on_way: isOn } of strongLast) {
    const names = isOn ? "on" : "";
    parts.push(line(middle[from], middle[to], names), head(made, middle[from], middle[to], names));
  }
  for (const { from, to, text } of arrows.filter((arrow) => arrow.text)) {
    const [x, y] = [0, 1].map((side) => (middle[from][side] + middle[to][side]) / 2);
    const width = 6.5 * text.length + 4;
    parts.push(made("rect", { x: x - width / 2, y: y - 8, width, height: 16, class: "patch" }), made("text", { x, y }, text));
  }
  for (const { name, text, on_way: isOn } of boxes) {
    const [x, y] = middle[name];
    parts.push(made("rect", { x: x - WIDE / 2, y: y - BOX / 2, width: WIDE, height: BOX, class: isOn ? "on" : "" }));
    const lines = text.split("\n");
    lines.forEach((words, at) => parts.push(made("text", { x, y: y + 13 * (at - (lines.length - 1) / 2) }, words)));
  }
  const [research, rule] = [notice.slice(0, notice.indexOf(".") + 1), notice.slice(notice.indexOf(".") + 2)];
  parts.push(made("text", { x: WIDTH / 2, y: ROWS * ROW + 9, class: "research" }, research),
    made("text", { x: WIDTH / 2, y: ROWS * ROW + 24, class: "research" }, rule));
  byId("workflow").setAttribute("viewBox", `0 0 ${WIDTH} ${ROWS * ROW + 36}`);
  byId("workflow").replaceChildren(...parts);
}

// Two strokes where a line meets the box it goes to.
function head(made, [x1, y1], [x2, y2], names) {
  const part = Math.min((WIDE / 2 + 2) / Math.max(Math.abs(x1 - x2), 1e-6), (BOX / 2 + 2) / Math.max(Math.abs(y1 - y2), 1e-6));
  const [x, y] = [x2 + (x1 - x2) * part, y2 + (y1 - y2) * part];
  const towards = Math.atan2(y1 - y2, x1 - x2);
  const [left, right] = [-0.45, 0.45].map((turn) => `${x + 8 * Math.cos(towards + turn)} ${y + 8 * Math.sin(towards + turn)}`);
  return made("path", { d: `M ${left} L ${x} ${y} L ${right}`, class: names });
}
