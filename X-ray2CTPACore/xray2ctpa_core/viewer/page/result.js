// The panel beside the views: score, window, overlay, planes and rendering, provenance; and the tools.

import { byId, element, listOf, renderShelf, say, state } from "./page.js";
import { send, sendSoon } from "./connection.js";
import { layOut } from "./views.js";
import { chooseTool } from "./gestures.js";
import { clearLengths } from "./measure.js";
import { askTriageOf } from "./triage.js";

const SLIDERS = { opacity: percent, threshold: percent, slab_mm: (mm) => (mm === 0 ? "one slice" : `${mm} mm`) };
const SELECTS = ["overlay", "slab", "rendering"];
const NUMBERS = ["level", "width"];

function percent(part) { return `${Math.round(100 * part)} %`; }

let shown = null; // identifier of the result to which the lengths belong

export function renderResult() {
  const { result, display, choices, ranges } = state;
  const current = state.results.find((one) => one.current)?.id;
  if (shown !== current) clearLengths();
  shown = current;
  byId("unreliable").textContent = result.unreliable || "";
  byId("unreliable").hidden = !result.unreliable;
  byId("scores").classList.toggle("greyed", Boolean(result.unreliable));
  byId("score-text").textContent = result.scores[0];
  byId("other-scores").replaceChildren(...listOf(result.scores.slice(1)).children);
  byId("sentences").replaceChildren(...listOf(result.sentences).children);
  const assumed = "Millimetres are assumed: the radiograph's size is the cohort's mean, so lengths are, too.";
  const doubts = [...(result.millimetres_assumed ? [assumed] : []), ...result.doubts];
  byId("doubts").replaceChildren(...listOf(doubts).children);
  byId("doubt").hidden = !result.millimetres_assumed;
  renderScale(result.pe);
  byId("rows").replaceChildren(...result.rows.map(([name, value]) => element(
    "tr", {}, element("th", { textContent: name, scope: "row" }), element("td", { textContent: value }),
  )));
  renderChoices(choices);
  for (const button of byId("window").children) {
    button.setAttribute("aria-pressed", button.textContent === display.window);
  }
  for (const button of byId("mode").children) {
    button.setAttribute("aria-pressed", button.dataset.mode === display.mode);
  }
  for (const name of SELECTS) byId(name).value = display[name];
  byId("overlay").querySelector("[value=spread]").hidden = !result.has_spread;
  byId("overlay").querySelector("[value=radiograph_gradcam]").hidden = !result.pe.second_opinion?.gradcam;
  for (const [name, inWords] of Object.entries(SLIDERS)) {
    if (document.activeElement !== byId(name)) byId(name).value = display[name];
    byId(`${name}-value`).textContent = inWords(display[name]);
  }
  for (const name of NUMBERS) {
    [byId(name).min, byId(name).max] = ranges[name];
    if (document.activeElement !== byId(name)) byId(name).value = Math.round(display[name]);
  }
  byId("threshold").disabled = !display.overlay.endsWith("gradcam");
  byId("slab").disabled = display.slab_mm === 0;
  byId("bars").replaceChildren(...state.bars.map(makeBar));
  askTriageOf(state.results.find(({ current }) => current)?.id);
  renderShelf("results");
  layOut(state.views, display.mode);
}

function renderChoices(choices) {
  if (byId("window").children.length) return;
  byId("window").replaceChildren(...choices.window.map((name) => {
    const button = element("button", { textContent: name });
    button.addEventListener("click", () => send({ do: "show", window: name }));
    return button;
  }));
  for (const name of ["slab", "rendering"]) {
    byId(name).replaceChildren(...choices[name].map((value) => element("option", { value, textContent: value })));
  }
}

function makeBar({ title, unit, note, low, high, colours }) {
  const strip = element("div", { className: "strip" });
  strip.style.background = `linear-gradient(90deg, ${colours.join(", ")})`;
  const ends = element("div", { className: "ends" }, element("span", { textContent: format(low, unit) }),
    element("span", { textContent: format(high, unit) }));
  const bar = element("div", { className: "bar" }, element("span", { textContent: title }), strip, ends,
    element("small", { textContent: note }));
  bar.setAttribute("role", "img");
  bar.setAttribute("aria-label", `Colour bar: ${title} from ${format(low, unit)} to ${format(high, unit)}; ${note}`);
  return bar;
}

function format(value, unit) { return [Number(value.toFixed(2)), unit].filter((part) => part !== "").join(" "); }

function renderScale({ probability, per_sample: samples, threshold, second_opinion: opinion }) {
  byId("scale").hidden = probability === null && !opinion;
  byId("opinion-key").hidden = !opinion;
  const mark = (tag, value, className) => {
    const item = element(tag, { className });
    item.style.left = `${100 * value}%`;
    return item;
  };
  byId("scale").replaceChildren(
    ...(probability === null ? [] : [
      mark("i", threshold, "operating"),
      ...(samples.length > 1 ? samples.map((value) => mark("i", value, "sample")) : []),
      mark("b", probability, "score"),
    ]),
    ...(opinion ? [mark("b", opinion.probability, "opinion")] : []),
  );
}

// The program makes a file of the result when it is asked for; where it cannot, it says why.
async function download(event) {
  event.preventDefault();
  const link = event.currentTarget;
  if (link.getAttribute("aria-busy") === "true") return;
  link.setAttribute("aria-busy", "true");
  try {
    const answer = await fetch(link.href);
    if (answer.ok) {
      const [, name] = answer.headers.get("Content-Disposition").match(/filename\*=UTF-8''(.*)$/);
      save(await answer.blob(), decodeURIComponent(name));
    } else {
      const said = await answer.text();
      try { say(JSON.parse(said).text, JSON.parse(said).hint); } catch { say(said, ""); }
    }
  } catch { say("The download broke off.", "Try again."); }
  link.removeAttribute("aria-busy");
}

export function save(blob, name) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

export function listenToControls() {
  for (const id of ["download", "dicom"]) byId(id).addEventListener("click", download);
  byId("hottest").addEventListener("click", () => send({ do: "hottest" }));
  byId("reset").addEventListener("click", () => send({ do: "reset" }));
  byId("clear").addEventListener("click", clearLengths);
  for (const button of byId("mode").children) {
    button.addEventListener("click", () => send({ do: "show", mode: button.dataset.mode }));
  }
  for (const button of byId("tools").querySelectorAll("[data-tool]")) {
    button.addEventListener("click", () => chooseTool(button.dataset.tool));
  }
  for (const name of SELECTS) {
    byId(name).addEventListener("change", (event) => send({ do: "show", [name]: event.target.value }));
  }
  for (const name of Object.keys(SLIDERS)) {
    byId(name).addEventListener("input", (event) => sendSoon({ do: "show", [name]: Number(event.target.value) }));
  }
  for (const name of NUMBERS) {
    byId(name).addEventListener("change", (event) => {
      if (event.target.checkValidity() && event.target.value !== "") {
        send({ do: "show", [name]: Number(event.target.value) });
      }
    });
  }
}
