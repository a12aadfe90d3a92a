// Choosing a radiograph, sending it, what the input check says of it, and the run.

import { byId, element, listOf, renderShelf, say, show, state } from "./page.js";
import { send } from "./connection.js";

export function renderChoose() {
  byId("forms").textContent = `DICOM, PNG, JPEG, TIFF, NIfTI (pairs too), NRRD or MHA, up to ${state.max_mb} MB`;
  show("sending", false);
  show("sample", state.has_sample);
  renderShelf("earlier");
}

export function renderPrepare() {
  const { phase, verdict, progress } = state;
  byId("radiograph-name").textContent = state.radiograph || "";
  if (phase === "checking") delete byId("radiograph").dataset.drawn;
  if (phase !== "running") delete byId("preview").dataset.drawn;
  show("settings", phase === "ready");
  show("running", phase !== "ready");
  renderShelf("others");
  show("others", phase === "ready");
  if (phase === "ready") { renderVerdict(verdict.gate, verdict.input.notes); renderPresets(); }
  else byId("verdict").replaceChildren();
  show("preview", phase === "running" && progress.fraction !== null);
  const bar = byId("bar");
  if (phase === "running") {
    byId("stage").textContent = progress.stage;
    byId("left").textContent = timeLeft(progress);
    if (progress.fraction === null) bar.removeAttribute("value");
    else bar.value = progress.fraction;
  } else if (phase === "checking") {
    byId("stage").textContent = "Checking whether this is a frontal chest radiograph";
    byId("left").textContent = "";
    bar.removeAttribute("value");
  }
}

function renderPresets() {
  if (byId("preset").options.length) return;
  byId("preset").replaceChildren(...state.presets.map(({ name, steps }, number) => element("option", {
    value: number, textContent: `${name}: ${steps} ${steps === 1 ? "step" : "steps"}`, selected: number === 1,
  })));
  usePreset();
}

function usePreset() { byId("samples").value = state.presets[byId("preset").value].samples; }

function renderVerdict(gate, notes) {
  const line = element("p", {
    className: gate.accepted ? "accepted" : "refused",
    textContent: `${gate.accepted ? "Accepted" : "Refused"} as a frontal chest radiograph ` +
      `(score ${gate.is_frontal_cxr.toFixed(2)})`,
  });
  byId("verdict").replaceChildren(line, listOf([...notes, ...gate.warnings]));
  show("force-label", !gate.accepted);
  if (gate.accepted) byId("force").checked = false;
  byId("generate").disabled = !gate.accepted && !byId("force").checked;
}

function timeLeft({ fraction, seconds_left: left }) {
  if (fraction === null) return "";
  const percent = `${Math.round(100 * fraction)} %`;
  if (left === null) return percent;
  if (fraction >= 1) return `${percent}, now the score and its Grad-CAM`;
  const text = left < 90 ? `${Math.ceil(left)} s` : `${Math.ceil(left / 60)} min`;
  return `${percent}, about ${text} left`;
}

// Header and data file of a NIfTI or Analyze pair, of one name and both compressed or neither, in this order;
// null for other files.
function pairOf(files) {
  const named = (file, half) => file.name.toLowerCase().replace(new RegExp(`\\.${half}(?=(\\.gz)?$)`), "");
  const header = files.find((file) => /\.hdr(\.gz)?$/i.test(file.name));
  const data = files.find((file) => /\.img(\.gz)?$/i.test(file.name));
  const isPair = files.length === 2 && header && data && named(header, "hdr") === named(data, "img");
  return isPair ? [header, data] : null;
}

function upload(chosen) {
  if (!chosen.length || !state) return;
  if (!["empty", "ready", "done"].includes(state.phase)) {
    say(`Expected to wait for the present ${state.phase === "running" ? "run" : "work"}, got another radiograph.`,
      state.phase === "opening" ? "Wait a moment." : "Cancel it first.");
    return;
  }
  const files = pairOf([...chosen]) || [...chosen];
  if (files.length > 1 && !pairOf(files)) {
    say(`Expected one radiograph, got ${files.length} files.`, "Choose one; of a pair, the .hdr and the .img of one name.");
    return;
  }
  const size = files.reduce((sum, file) => sum + file.size, 0);
  if (size > state.max_mb * 2 ** 20) {
    say(`Expected a radiograph of at most ${state.max_mb} MB, got ${Math.ceil(size / 2 ** 20)} MB.`,
      "Export it as PNG, or name the file on the command line: xray2ctpa view FILE.");
    return;
  }
  say("", "");
  const request = new XMLHttpRequest();
  const header = files.length === 2 ? `&header=${files[0].size}` : "";
  request.open("POST", `upload?name=${encodeURIComponent(files[0].name)}${header}`);
  request.upload.onprogress = (event) => {
    show("sending", true);
    byId("sending").value = event.loaded / event.total;
  };
  request.onload = () => {
    show("sending", false);
    if (request.status >= 400) {
      let answer = { text: "The upload was refused.", hint: "" };
      try { answer = JSON.parse(request.responseText); } catch { /* not of this page's program */ }
      say(answer.text, answer.hint);
    }
  };
  request.onerror = () => { show("sending", false); say("The upload broke off.", "Try again."); };
  request.send(files.length === 2 ? new Blob(files) : files[0]);
}

export function listenToUploads() {
  byId("file").addEventListener("change", (event) => {
    upload(event.target.files);
    event.target.value = "";
  });
  document.addEventListener("dragover", (event) => { event.preventDefault(); byId("drop").classList.add("over"); });
  document.addEventListener("dragleave", () => byId("drop").classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    byId("drop").classList.remove("over");
    upload(event.dataTransfer.files);
  });
  byId("sample").addEventListener("click", () => send({ do: "sample" }));
  byId("preset").addEventListener("change", usePreset);
  byId("force").addEventListener("change", (event) => { byId("generate").disabled = !event.target.checked; });
  byId("settings").addEventListener("submit", (event) => {
    event.preventDefault();
    const number = (id) => (byId(id).value === "" ? null : Number(byId(id).value));
    send({
      do: "generate", steps: state.presets[byId("preset").value].steps, samples: number("samples"),
      seed: number("seed"), force: byId("force").checked,
    });
  });
  byId("cancel").addEventListener("click", () => send({ do: "cancel" }));
}
