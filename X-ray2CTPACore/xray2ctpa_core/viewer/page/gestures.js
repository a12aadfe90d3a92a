// Mouse, trackpad, touch and keyboard over a view become wishes.

import { byId, state } from "./page.js";
import { send, sendSoon } from "./connection.js";
import { describedView, toggleMaximised } from "./views.js";
import { beginLength, endLength, stretchLength } from "./measure.js";

const WHEEL_PIXELS = 40; // of a trackpad for a slice; a notch of a wheel is more and counts as one
const SWIPE_PIXELS = 12;
const KEY_PAN = 0.1;
const TOOLS = { c: "crosshair", w: "window", p: "pan", z: "zoom", l: "length" };
let tool = "crosshair";

export function chooseTool(name) {
  tool = name;
  byId("views").dataset.tool = name;
  for (const button of byId("tools").querySelectorAll("[data-tool]")) {
    button.setAttribute("aria-pressed", button.dataset.tool === name);
  }
}

export function listenTo(box, name) {
  const { plane, kind } = describedView(name);
  const isRendering = !plane && kind === "generated";
  const at = (event) => {
    const frame = box.firstElementChild.getBoundingClientRect();
    const part = (value) => Math.min(1, Math.max(0, value));
    return { x: part((event.clientX - frame.left) / frame.width), y: part((event.clientY - frame.top) / frame.height) };
  };
  listenToWheel(box, name, plane, at);
  listenToKeys(box, name, plane, isRendering);
  listenToPointers(box, name, plane, isRendering, at);
  box.addEventListener("contextmenu", (event) => event.preventDefault());
  box.addEventListener("pointermove", (event) => {
    if (plane && event.pointerType === "mouse" && event.buttons === 0) sendSoon({ do: "probe", view: name, ...at(event) });
  });
}

function listenToWheel(box, name, plane, at) {
  let left = 0; // pixels that have not made a slice yet
  box.addEventListener("wheel", (event) => {
    event.preventDefault();
    const pixels = event.deltaY * [1, WHEEL_PIXELS, 10 * WHEEL_PIXELS][event.deltaMode];
    if (event.ctrlKey || !plane) {
      const most = Math.max(-60, Math.min(60, pixels));
      sendSoon({ do: "zoom", view: name, factor: Math.exp(-most / (event.ctrlKey ? 200 : 400)), ...at(event) });
      return;
    }
    left = Math.abs(pixels) >= WHEEL_PIXELS ? Math.sign(pixels) * WHEEL_PIXELS : left + pixels;
    const steps = Math.trunc(left / WHEEL_PIXELS);
    if (steps === 0) return;
    left -= steps * WHEEL_PIXELS;
    sendSoon({ do: "scroll", view: name, steps: -steps });
  }, { passive: false });
}

function listenToKeys(box, name, plane, isRendering) {
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const slices = { ArrowUp: 1, ArrowDown: -1, PageUp: 5, PageDown: -5, Home: -1e4, End: 1e4 };
  box.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { key } = event;
    const arrow = arrows[key];
    const letter = key.toLowerCase();
    if (arrow && isRendering) send({ do: "turn", x: arrow[0] / 24, y: arrow[1] / 24 });
    else if (arrow && (event.shiftKey || !plane)) {
      send({ do: "pan", view: name, x: KEY_PAN * arrow[0], y: KEY_PAN * arrow[1] });
    } else if (plane && slices[key]) send({ do: "scroll", view: name, steps: slices[key] });
    else if (key === "+" || key === "=") send({ do: "zoom", view: name, factor: 1.25 });
    else if (key === "-") send({ do: "zoom", view: name, factor: 0.8 });
    else if (letter === "m") toggleMaximised(name);
    else if (letter === "r") send({ do: "reset" });
    else if (TOOLS[letter]) chooseTool(TOOLS[letter]);
    else return;
    event.preventDefault();
  });
}

function listenToPointers(box, name, plane, isRendering, at) {
  const pointers = new Map(); // where each finger or the mouse is, by its identifier
  let doing = null; // what one pointer does
  let start = null;
  let swiped = 0;

  box.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "mouse" && pointers.size) return;
    box.focus({ preventScroll: true });
    box.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, event);
    if (pointers.size > 1) { if (doing === "length") endLength(false); doing = "pinch"; return; }
    start = event;
    swiped = 0;
    doing = whatOf(event);
    if (doing === "crosshair" && event.pointerType === "mouse") sendSoon({ do: "point", view: name, ...at(event) });
    if (doing === "length") beginLength(name, at(event));
  });

  const whatOf = (event) => {
    if (event.button === 1 || (event.button === 0 && event.shiftKey)) return isRendering ? "turn" : "pan";
    if (event.button === 2) return "zoom";
    if (isRendering) return tool === "zoom" ? "zoom" : "turn";
    if (!plane && ["window", "length"].includes(tool)) return tool === "length" ? "length" : "pan";
    return tool;
  };

  box.addEventListener("pointermove", (event) => {
    const former = pointers.get(event.pointerId);
    if (!former) return;
    const across = event.clientX - former.clientX;
    const down = event.clientY - former.clientY;
    const size = { width: box.firstElementChild.clientWidth, height: box.firstElementChild.clientHeight };
    if (doing === "pinch") pinch(former, event, size);
    else if (doing === "turn") sendSoon({ do: "turn", x: across / size.width, y: down / size.height });
    else if (doing === "pan") sendSoon({ do: "pan", view: name, x: across / size.width, y: down / size.height });
    else if (doing === "zoom") sendSoon({ do: "zoom", view: name, factor: Math.exp(-down / 150), ...at(start) });
    else if (doing === "window") window_(across, down);
    else if (doing === "length") stretchLength(at(event));
    else if (doing === "crosshair" && event.pointerType === "mouse") sendSoon({ do: "point", view: name, ...at(event) });
    else if (doing === "crosshair" && plane) swipe(across - down);
    pointers.set(event.pointerId, event);
  });

  const swipe = (pixels) => {
    swiped += pixels;
    const steps = Math.trunc(swiped / SWIPE_PIXELS);
    if (steps === 0) return;
    swiped -= steps * SWIPE_PIXELS;
    start = null; // it is no tap any more
    sendSoon({ do: "scroll", view: name, steps });
  };

  const pinch = (former, event, size) => {
    const other = [...pointers.values()].find(({ pointerId }) => pointerId !== event.pointerId);
    if (!other) return;
    const between = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY) || 1;
    const middle = at({ clientX: (event.clientX + other.clientX) / 2, clientY: (event.clientY + other.clientY) / 2 });
    sendSoon({ do: "zoom", view: name, factor: between(event) / between(former), ...middle });
    if (!isRendering) {
      sendSoon({
        do: "pan", view: name, x: (event.clientX - former.clientX) / 2 / size.width,
        y: (event.clientY - former.clientY) / 2 / size.height,
      });
    }
  };

  const end = (event) => {
    if (!pointers.delete(event.pointerId)) return;
    const isTap = start && event.type === "pointerup" && event.pointerType !== "mouse" &&
      Math.hypot(event.clientX - start.clientX, event.clientY - start.clientY) < 10;
    if (doing === "crosshair" && isTap) {
      send({ do: "point", view: name, ...at(event) });
      if (plane) send({ do: "probe", view: name, ...at(event) });
    }
    if (doing === "length") endLength(event.type === "pointerup");
    if (pointers.size === 0) doing = null;
  };
  box.addEventListener("pointerup", end);
  box.addEventListener("pointercancel", end);
}

// Right widens the window, down darkens it, as in Slicer.
let wished = null;
function window_(across, down) {
  const { level, width } = wished || state.display;
  const within = (value, [low, high]) => Math.min(high, Math.max(low, value));
  wished = {
    level: within(level + down * Math.max(width, 100) / 300, state.ranges.level),
    width: within(width + across * Math.max(width, 100) / 300, state.ranges.width),
  };
  sendSoon({ do: "show", ...wished });
}
addEventListener("pointerup", () => { wished = null; });
