// The views: their frames, pictures, crosshairs, slice numbers, and the values under the cursor.

import { byId, element, state } from "./page.js";
import { send, sendSoon } from "./connection.js";
import { listenTo } from "./gestures.js";
import { drawMarks } from "./measure.js";

const LETTERS = ["left", "right", "up", "down"];
export let placed = { views: {}, position: [0, 0, 0] };

export function viewOf(name) { return byId("views").querySelector(`.view[data-view="${CSS.escape(name)}"]`); }

export function describedView(name) { return state.views.find((view) => view.name === name); }

// A picture is the length of its view's name in a byte, the name, the image.
export async function drawPicture(buffer) {
  const bytes = new Uint8Array(buffer);
  const name = new TextDecoder().decode(bytes.subarray(1, 1 + bytes[0]));
  const canvas = name === "radiograph" || name === "preview" ? byId(name) : viewOf(name)?.querySelector("canvas");
  if (!canvas) return;
  const number = Number(canvas.dataset.asked || 0) + 1;
  canvas.dataset.asked = number;
  const image = await createImageBitmap(new Blob([bytes.subarray(1 + bytes[0])], { type: "image/jpeg" }));
  if (Number(canvas.dataset.drawn || 0) > number) return; // a later picture was decoded first
  canvas.width = image.width;
  canvas.height = image.height;
  canvas.getContext("2d").drawImage(image, 0, 0);
  canvas.dataset.drawn = number;
  if (canvas.parentElement.className === "frame") fitFrame(canvas.parentElement);
}

// A picture keeps its proportions where its view has others: another tab of this visitor is of another size.
function fitFrame(frame) {
  const { clientWidth: wide, clientHeight: high } = frame.parentElement;
  const { width, height, dataset } = frame.querySelector("canvas");
  if (!wide || !high || !dataset.drawn) return;
  const scale = Math.min(wide / width, high / height);
  const fills = Math.abs((width / height) / (wide / high) - 1) < 0.01;
  frame.style.width = fills ? "100%" : `${scale * width}px`;
  frame.style.height = fills ? "100%" : `${scale * height}px`;
}

const sizes = new ResizeObserver((entries) => entries.forEach(({ target }) => tellSize(target)));
const pending = new Map();

// Once a view has kept a size for a moment: every size costs the server memory and a drawing.
function tellSize(box) {
  const view = box.parentElement.dataset.view;
  fitFrame(box.firstElementChild);
  clearTimeout(pending.get(view));
  const tell = () => {
    if (!box.clientWidth || !box.clientHeight) return; // another view is maximised
    const ratio = window.devicePixelRatio || 1;
    send({
      do: "resize", view, x: Math.round(box.clientWidth * ratio), y: Math.round(box.clientHeight * ratio),
    });
    drawMarks(view);
  };
  pending.set(view, setTimeout(tell, pending.has(view) ? 120 : 0));
}

// Views are drawn in the sizes of the tab that is looked at.
addEventListener("focus", () => document.querySelectorAll(".box").forEach(tellSize));

// After a reconnection the session may be another.
export function resend() {
  byId("views").dataset.names = "";
  pending.clear();
}

export function layOut(views, mode) {
  const section = byId("views");
  document.querySelector("main").className = mode;
  const names = views.map(({ name }) => name).join();
  if (section.dataset.names === names) return;
  section.dataset.names = names;
  delete document.body.dataset.maximised;
  sizes.disconnect();
  pending.clear();
  section.replaceChildren(...views.map(makeView));
}

function makeView({ name, title, plane, letters, kind }) {
  const said = kind === "generated" || kind === "difference" ? `${title}, SYNTHETIC` : title;
  const view = element("figure", { className: "view" });
  Object.assign(view.dataset, { view: name, kind, plane });
  const bar = element("figcaption", {}, element("span", { className: "title", textContent: title }));
  if (plane) {
    const slider = element("input", { type: "range", className: "slice", min: 1, step: 1 });
    slider.setAttribute("aria-label", `${title}: slice`);
    slider.addEventListener("input", () => sendSoon({ do: "slice", view: name, number: Number(slider.value) }));
    bar.append(slider, element("span", { className: "number" }));
  }
  const maximise = element("button", { className: "maximise", textContent: "⤢" });
  maximise.setAttribute("aria-label", `Maximise: ${title}`);
  maximise.setAttribute("aria-pressed", "false");
  maximise.addEventListener("click", () => toggleMaximised(name));
  bar.append(maximise);
  const box = element("div", { className: "box", tabIndex: 0 });
  box.setAttribute("role", "application");
  box.setAttribute("aria-label", said);
  box.setAttribute("aria-describedby", "help");
  const canvas = element("canvas");
  canvas.setAttribute("aria-hidden", "true");
  const frame = element("div", { className: "frame" }, canvas);
  for (const line of ["across", "down"]) frame.append(element("div", { className: `line ${line}`, hidden: true }));
  [...letters].forEach((textContent, at) => frame.append(element("span", { className: `letter ${LETTERS[at]}`, textContent })));
  frame.append(document.createElementNS("http://www.w3.org/2000/svg", "svg"));
  frame.lastChild.setAttribute("aria-hidden", "true");
  frame.append(element("span", { className: "scale-bar", hidden: true }), element("span", { className: "values" }));
  box.append(frame);
  view.append(bar, box);
  listenTo(box, name);
  sizes.observe(box);
  return view;
}

export function toggleMaximised(name) {
  const isMaximised = document.body.dataset.maximised === name;
  if (isMaximised) delete document.body.dataset.maximised;
  else document.body.dataset.maximised = name;
  for (const view of byId("views").children) {
    const chosen = !isMaximised && view.dataset.view === name;
    view.classList.toggle("maximised", chosen);
    view.querySelector(".maximise").setAttribute("aria-pressed", chosen);
  }
}

addEventListener("keydown", (event) => {
  const { maximised } = document.body.dataset;
  if (event.key === "Escape" && maximised && !byId("confirm").open) toggleMaximised(maximised);
});

export function place(message) {
  placed = message;
  const [right, anterior, superior] = message.position;
  const side = (value, plus, minus) => `${value < 0 ? minus : plus} ${Math.abs(value).toFixed(1)}`;
  byId("position").textContent =
    `${side(right, "R", "L")}  ${side(anterior, "A", "P")}  ${side(superior, "S", "I")} mm`;
  for (const [name, { crosshair, slice, slices }] of Object.entries(message.views)) {
    const view = viewOf(name);
    if (!view) continue;
    const [across, down] = view.querySelectorAll(".line");
    across.hidden = down.hidden = crosshair === null;
    if (crosshair !== null) {
      down.style.left = `${100 * crosshair[0]}%`;
      across.style.top = `${100 * crosshair[1]}%`;
    }
    if (slice !== undefined) {
      const slider = view.querySelector(".slice");
      slider.max = slices;
      slider.value = slice;
      slider.setAttribute("aria-valuetext", `slice ${slice} of ${slices}`);
      view.querySelector(".number").textContent = `${slice} / ${slices}`;
    }
    drawMarks(name);
  }
}

const SHORT = { hu: "HU", truth: "true HU", difference: "difference", gradcam: "Grad-CAM", spread: "spread" };

export function probed({ view: name, values }) {
  const lines = Object.entries(values).map(([key, value]) =>
    `${SHORT[key]} ${key === "gradcam" ? value.toFixed(2) : Math.round(value)}`);
  for (const view of byId("views").children) {
    view.querySelector(".values").textContent = view.dataset.view === name ? lines.join("  ") : "";
  }
}
