// What is seen as one PNG: every view with its title, letters, crosshair, scale bar and lengths. SYNTHETIC is part of
// the pictures of what was generated, and stands below all of them, with the reason why scores mean nothing if there is one.

import { byId, state } from "./page.js";
import { placed } from "./views.js";
import { save } from "./result.js";
import { lengthsIn, scaleBarOf } from "./measure.js";

const LINE = 19; // height of a line below the views
const NOTICE_COLOUR = "#ffb84d";
const TEXT_COLOUR = "#e8ecf1";
const FONT = "600 13px system-ui, sans-serif";

export function takeScreenshot() {
  const views = [...byId("views").children].filter((view) => view.offsetParent !== null || view.offsetWidth > 0);
  const boxes = views.map((view) => view.querySelector(".box").getBoundingClientRect());
  const left = Math.min(...boxes.map((box) => box.left));
  const top = Math.min(...boxes.map((box) => box.top)) - 20;
  const right = Math.max(...boxes.map((box) => box.right));
  const bottom = Math.max(...boxes.map((box) => box.bottom));
  const ratio = window.devicePixelRatio || 1;
  const sheet = document.createElement("canvas");
  const pen = sheet.getContext("2d");
  const footer = linesBelow(pen, right - left - 12);
  const height = bottom - top + footer.length * LINE + 8;
  sheet.width = Math.round((right - left) * ratio);
  sheet.height = Math.round(height * ratio);
  pen.scale(ratio, ratio);
  pen.fillStyle = "#0e1116";
  pen.fillRect(0, 0, right - left, height);
  views.forEach((view, at) => drawView(pen, view, boxes[at], left, top));
  footer.forEach(([text, colour], at) => write(pen, text, 6, bottom - top + (at + 1) * LINE, colour));
  sheet.toBlob((blob) => save(blob, "SYNTHETIC-ctpa-view.png"), "image/png");
}

function drawView(pen, view, box, left, top) {
  const frame = view.querySelector(".frame").getBoundingClientRect();
  const { width, height } = frame;
  const name = view.dataset.view;
  pen.save();
  pen.translate(box.left - left, box.top - top);
  write(pen, view.querySelector(".title").textContent, 2, -6, TEXT_COLOUR);
  pen.translate(frame.left - box.left, frame.top - box.top);
  pen.beginPath();
  pen.rect(0, 0, width, height);
  pen.clip();
  pen.drawImage(view.querySelector("canvas"), 0, 0, width, height);
  const { crosshair } = placed.views[name] || {};
  if (crosshair) {
    pen.fillStyle = "rgba(96, 190, 255, .65)";
    pen.fillRect(crosshair[0] * width, 0, 1, height);
    pen.fillRect(0, crosshair[1] * height, width, 1);
  }
  for (const letter of view.querySelectorAll(".letter")) {
    const at = letter.getBoundingClientRect();
    write(pen, letter.textContent, at.left - frame.left, at.bottom - frame.top - 3, NOTICE_COLOUR);
  }
  for (const { from, to, text } of lengthsIn(name)) {
    pen.strokeStyle = "#7dff9b";
    pen.beginPath();
    pen.moveTo(from[0] * width, from[1] * height);
    pen.lineTo(to[0] * width, to[1] * height);
    pen.stroke();
    write(pen, text, to[0] * width + 4, to[1] * height - 4, "#7dff9b");
  }
  const scale = scaleBarOf(name);
  if (scale) {
    pen.fillStyle = "#e8ecf1";
    pen.fillRect(8, height - 10, scale.part * width, 2);
    write(pen, scale.text, 8, height - 14, TEXT_COLOUR);
  }
  pen.restore();
}

// [text, colour] of each line below the views, no wider than `width`.
function linesBelow(pen, width) {
  const { display, result } = state;
  const slab = display.slab_mm ? `; planes of ${display.slab_mm} mm, ${display.slab}` : "";
  const millimetres = result.millimetres_assumed ? "; millimetres assumed" : "";
  const shown = `Level ${Math.round(display.level)}, width ${Math.round(display.width)} HU${slab}${millimetres}`;
  const said = [[result.notice, NOTICE_COLOUR], [result.unreliable, NOTICE_COLOUR], [shown, TEXT_COLOUR]];
  pen.font = FONT;
  return said.filter(([text]) => text).flatMap(([text, colour]) => wrapped(pen, text, width).map((line) => [line, colour]));
}

function wrapped(pen, text, width) {
  const lines = [""];
  for (const word of text.split(" ")) {
    const longer = `${lines[lines.length - 1]} ${word}`.trim();
    if (lines[lines.length - 1] && pen.measureText(longer).width > width) lines.push(word);
    else lines[lines.length - 1] = longer;
  }
  return lines;
}

function write(pen, text, x, y, colour) {
  pen.font = FONT;
  pen.fillStyle = "#000";
  pen.fillText(text, x + 1, y + 1);
  pen.fillStyle = colour;
  pen.fillText(text, x, y);
}
