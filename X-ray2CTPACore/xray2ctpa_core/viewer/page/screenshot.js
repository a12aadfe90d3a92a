// What is seen as one PNG: every view with its title, letters, crosshair, scale bar and lengths. SYNTHETIC is part of
// the pictures of what was generated, and stands below all of them.

import { byId, state } from "./page.js";
import { placed } from "./views.js";
import { lengthsIn, scaleBarOf } from "./measure.js";

const FOOTER = 46;

export function takeScreenshot() {
  const views = [...byId("views").children].filter((view) => view.offsetParent !== null || view.offsetWidth > 0);
  const boxes = views.map((view) => view.querySelector(".box").getBoundingClientRect());
  const left = Math.min(...boxes.map((box) => box.left));
  const top = Math.min(...boxes.map((box) => box.top)) - 20;
  const right = Math.max(...boxes.map((box) => box.right));
  const bottom = Math.max(...boxes.map((box) => box.bottom));
  const ratio = window.devicePixelRatio || 1;
  const sheet = document.createElement("canvas");
  sheet.width = Math.round((right - left) * ratio);
  sheet.height = Math.round((bottom - top + FOOTER) * ratio);
  const pen = sheet.getContext("2d");
  pen.scale(ratio, ratio);
  pen.fillStyle = "#0e1116";
  pen.fillRect(0, 0, right - left, bottom - top + FOOTER);
  views.forEach((view, at) => drawView(pen, view, boxes[at], left, top));
  drawFooter(pen, right - left, bottom - top);
  sheet.toBlob((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = "SYNTHETIC-ctpa-view.png";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }, "image/png");
}

function drawView(pen, view, box, left, top) {
  const frame = view.querySelector(".frame").getBoundingClientRect();
  const { width, height } = frame;
  const name = view.dataset.view;
  pen.save();
  pen.translate(box.left - left, box.top - top);
  write(pen, view.querySelector(".title").textContent, 2, -6, "#e8ecf1");
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
    write(pen, letter.textContent, at.left - frame.left, at.bottom - frame.top - 3, "#ffb84d");
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
    write(pen, scale.text, 8, height - 14, "#e8ecf1");
  }
  pen.restore();
}

function drawFooter(pen, width, top) {
  const { display, result } = state;
  const slab = display.slab_mm ? `; planes of ${display.slab_mm} mm, ${display.slab}` : "";
  const millimetres = result.millimetres_assumed ? "; millimetres assumed" : "";
  write(pen, result.notice, 6, top + 18, "#ffb84d", width - 12);
  write(pen, `Level ${Math.round(display.level)}, width ${Math.round(display.width)} HU${slab}${millimetres}`,
    6, top + 37, "#e8ecf1", width - 12);
}

function write(pen, text, x, y, colour, most) {
  pen.font = "600 13px system-ui, sans-serif";
  pen.fillStyle = "#000";
  pen.fillText(text, x + 1, y + 1, most);
  pen.fillStyle = colour;
  pen.fillText(text, x, y, most);
}
