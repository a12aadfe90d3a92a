"use strict";
// The page draws what its session says (messages "state" and "place", pictures by view) and sends what the
// visitor wishes. It keeps no state of its own beside the connection.

const byId = (id) => document.getElementById(id);
const WINDOWS = ["CTPA", "lung", "mediastinum"];
const NAMES = {
  XRay2CTPAFilm: "input X-ray", Red: "axial plane", Green: "coronal plane", Yellow: "sagittal plane",
  "3D": "volume rendering",
};
let socket = null;
let state = null;
const waiting = new Map(); // messages of this animation frame, by what they are about

function send(message) {
  if (socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

// Once per animation frame, the latest only: a plane that is dragged through shall not lag behind.
function sendSoon(message) {
  if (waiting.size === 0) {
    requestAnimationFrame(() => { waiting.forEach((last) => send(last)); waiting.clear(); });
  }
  const about = `${message.do} ${Object.keys(message)}`;
  const former = waiting.get(about);
  if (former && message.do === "turn") message = { ...message, x: message.x + former.x, y: message.y + former.y };
  waiting.set(about, message);
}

// --- Connection -------------------------------------------------------------------------------

function connect() {
  socket = new WebSocket(`ws://${location.host}/socket`);
  socket.binaryType = "arraybuffer";
  let opened = false;
  socket.onopen = () => { opened = true; };
  socket.onmessage = (event) => {
    if (typeof event.data === "string") receive(JSON.parse(event.data));
    else draw(event.data);
  };
  socket.onclose = () => {
    if (opened) {
      say("The page's program has ended or cannot be reached.", "Start it again, then reload this page.");
      document.body.dataset.phase = "lost";
    } else {
      say("This page has no session.", "Open the address that the program printed.");
    }
  };
}

function receive(message) {
  if (message.kind === "state") { state = message; render(); }
  else if (message.kind === "place") place(message);
  else if (message.kind === "problem") say(message.text, message.hint);
}

async function draw(buffer) {
  const bytes = new Uint8Array(buffer);
  const name = new TextDecoder().decode(bytes.subarray(1, 1 + bytes[0]));
  const canvas = canvasOf(name);
  if (!canvas) return;
  const number = Number(canvas.dataset.asked || 0) + 1;
  canvas.dataset.asked = number;
  const image = await createImageBitmap(new Blob([bytes.subarray(1 + bytes[0])], { type: "image/jpeg" }));
  if (Number(canvas.dataset.drawn || 0) > number) return; // a later picture was decoded first
  canvas.width = image.width;
  canvas.height = image.height;
  canvas.getContext("2d").drawImage(image, 0, 0);
  canvas.dataset.drawn = number;
}

function canvasOf(name) {
  if (name === "film" || name === "preview") return byId(name);
  const view = byId("views").querySelector(`[data-view="${CSS.escape(name)}"]`);
  return view && view.firstElementChild;
}

// --- State ------------------------------------------------------------------------------------

function say(text, hint) {
  byId("message").textContent = [text, hint].filter(Boolean).join(" ");
  byId("message").hidden = !text;
}

function show(id, visible) { byId(id).hidden = !visible; }

function render() {
  const { phase } = state;
  document.body.dataset.phase = phase;
  say(state.message ? state.message.text : "", state.message ? state.message.hint : "");
  show("choose", phase === "empty");
  show("prepare", ["checking", "ready", "running"].includes(phase));
  show("views", phase === "done");
  show("side", phase === "done");
  show("download", phase === "done");
  show("start-over", phase === "done" || phase === "ready");
  show("mode", phase === "done" && state.result.has_truth);
  if (phase === "empty") renderChoose();
  else if (phase === "done") renderResult();
  else renderPrepare();
}

function renderChoose() {
  byId("forms").textContent = `DICOM, PNG, JPEG, TIFF, NIfTI, NRRD or MHA, up to ${state.max_mb} MB`;
  show("sending", false);
}

function renderPrepare() {
  const { phase, verdict, progress } = state;
  byId("film-name").textContent = state.film;
  if (phase === "checking") delete byId("film").dataset.drawn;
  if (phase !== "running") delete byId("preview").dataset.drawn;
  show("settings", phase === "ready");
  show("running", phase !== "ready");
  if (phase === "ready") renderVerdict(verdict.gate, verdict.input.notes);
  else byId("verdict").replaceChildren();
  show("preview", phase === "running" && progress.fraction !== null);
  const bar = byId("bar");
  if (phase === "running") {
    byId("stage").textContent = progress.stage;
    byId("left").textContent = timeLeft(progress);
    if (progress.fraction === null) bar.removeAttribute("value");
    else bar.value = progress.fraction;
  } else if (phase === "checking") {
    byId("stage").textContent = "Checking whether this is a frontal chest X-ray";
    byId("left").textContent = "";
    bar.removeAttribute("value");
  }
}

function renderVerdict(gate, notes) {
  const line = document.createElement("p");
  line.className = gate.accepted ? "accepted" : "refused";
  line.textContent = `${gate.accepted ? "Accepted" : "Refused"} as a frontal chest X-ray ` +
    `(score ${gate.is_frontal_cxr.toFixed(2)})`;
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

function listOf(lines) {
  const list = document.createElement("ul");
  list.replaceChildren(...lines.map((text) => {
    const item = document.createElement("li");
    item.textContent = text;
    return item;
  }));
  return list;
}

function renderResult() {
  const { result, display, views } = state;
  byId("score-text").textContent = result.sentences[0];
  byId("sentences").replaceChildren(...listOf(result.sentences.slice(1)).children);
  renderScale(result.pe);
  byId("rows").replaceChildren(...result.rows.map(([name, value]) => {
    const row = document.createElement("tr");
    const [head, cell] = [document.createElement("th"), document.createElement("td")];
    head.textContent = name;
    cell.textContent = value;
    row.append(head, cell);
    return row;
  }));
  for (const button of byId("window").children) {
    button.setAttribute("aria-pressed", button.textContent === display.window);
  }
  for (const button of byId("mode").children) {
    button.setAttribute("aria-pressed", button.dataset.mode === display.mode);
  }
  byId("overlay").value = display.overlay;
  byId("overlay").querySelector("[value=spread]").hidden = !result.has_spread;
  for (const name of ["opacity", "threshold"]) {
    if (document.activeElement !== byId(name)) byId(name).value = display[name];
    byId(`${name}-value`).textContent = `${Math.round(100 * display[name])} %`;
  }
  byId("threshold").disabled = display.overlay !== "gradcam";
  layOut(views, display.mode);
}

function renderScale({ probability, per_sample: samples, threshold }) {
  const mark = (tag, value, kind) => {
    const item = document.createElement(tag);
    item.className = kind;
    item.style.left = `${100 * value}%`;
    return item;
  };
  byId("scale").replaceChildren(
    mark("i", threshold, "operating"),
    ...(samples.length > 1 ? samples.map((value) => mark("i", value, "sample")) : []),
    mark("b", probability, "score"),
  );
}

function layOut(names, mode) {
  const views = byId("views");
  views.className = mode;
  if (views.dataset.names === names.join()) return;
  views.dataset.names = names.join();
  sizes.disconnect();
  views.replaceChildren(...names.map(makeView));
}

// --- Views ------------------------------------------------------------------------------------

const sizes = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const ratio = window.devicePixelRatio || 1;
    send({
      do: "resize", view: target.dataset.view,
      x: Math.round(target.clientWidth * ratio), y: Math.round(target.clientHeight * ratio),
    });
  }
});

function makeView(name) {
  const view = document.createElement("figure");
  view.className = "view";
  view.dataset.view = name;
  view.tabIndex = 0;
  const canvas = document.createElement("canvas");
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", NAMES[name] || name);
  view.append(canvas);
  for (const kind of ["across", "down"]) {
    const line = document.createElement("div");
    line.className = `line ${kind}`;
    line.hidden = true;
    view.append(line);
  }
  const flat = name !== "3D";
  view.addEventListener("wheel", (event) => {
    event.preventDefault();
    const steps = -Math.sign(event.deltaY);
    send({ do: event.ctrlKey || !flat ? "zoom" : "scroll", view: name, y: steps });
  }, { passive: false });
  view.addEventListener("keydown", (event) => {
    const steps = { ArrowUp: 1, ArrowDown: -1, PageUp: 5, PageDown: -5 }[event.key];
    if (steps === undefined) return;
    event.preventDefault();
    send({ do: "scroll", view: name, y: steps });
  });
  view.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    view.setPointerCapture(event.pointerId);
    if (flat) pointAt(view, event);
  });
  view.addEventListener("pointermove", (event) => {
    if (!(event.buttons & 1)) return;
    if (flat) pointAt(view, event);
    else {
      sendSoon({ do: "turn", x: event.movementX / view.clientWidth, y: event.movementY / view.clientHeight });
    }
  });
  sizes.observe(view);
  return view;
}

function pointAt(view, event) {
  const box = view.getBoundingClientRect();
  sendSoon({
    do: "point", view: view.dataset.view,
    x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height,
  });
}

function place({ position, crosshairs }) {
  const [right, anterior, superior] = position;
  const side = (value, plus, minus) => `${value < 0 ? minus : plus} ${Math.abs(value).toFixed(1)}`;
  byId("position").textContent =
    `${side(right, "R", "L")}  ${side(anterior, "A", "P")}  ${side(superior, "S", "I")} mm`;
  for (const [name, at] of Object.entries(crosshairs)) {
    const view = byId("views").querySelector(`[data-view="${CSS.escape(name)}"]`);
    if (!view) continue;
    const [across, down] = view.querySelectorAll(".line");
    across.hidden = down.hidden = at === null;
    if (at === null) continue;
    down.style.left = `${100 * at[0]}%`;
    across.style.top = `${100 * at[1]}%`;
  }
}

// --- Uploads ----------------------------------------------------------------------------------

function upload(file) {
  if (!file || !state || !["empty", "ready", "done"].includes(state.phase)) return;
  if (file.size > state.max_mb * 2 ** 20) {
    say(`Expected a film of at most ${state.max_mb} MB, got ${Math.ceil(file.size / 2 ** 20)} MB.`,
      "Export it as PNG, or name the file on the command line: xray2ctpa view FILE.");
    return;
  }
  say("", "");
  const request = new XMLHttpRequest();
  request.open("POST", `upload?name=${encodeURIComponent(file.name)}`);
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
  request.send(file);
}

// --- Controls ---------------------------------------------------------------------------------

function listen() {
  byId("file").addEventListener("change", (event) => {
    upload(event.target.files[0]);
    event.target.value = "";
  });
  document.addEventListener("dragover", (event) => { event.preventDefault(); byId("drop").classList.add("over"); });
  document.addEventListener("dragleave", () => byId("drop").classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    byId("drop").classList.remove("over");
    upload(event.dataTransfer.files[0]);
  });
  byId("drop").addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); byId("file").click(); }
  });
  byId("force").addEventListener("change", (event) => { byId("generate").disabled = !event.target.checked; });
  byId("settings").addEventListener("submit", (event) => {
    event.preventDefault();
    const number = (id) => (byId(id).value === "" ? null : Number(byId(id).value));
    send({
      do: "generate", steps: number("steps"), samples: number("samples"), seed: number("seed"),
      force: byId("force").checked,
    });
  });
  byId("cancel").addEventListener("click", () => send({ do: "cancel" }));
  byId("start-over").addEventListener("click", () => send({ do: "start_over" }));
  byId("hottest").addEventListener("click", () => send({ do: "hottest" }));
  byId("reset").addEventListener("click", () => send({ do: "reset" }));
  byId("window").replaceChildren(...WINDOWS.map((name) => {
    const button = document.createElement("button");
    button.textContent = name;
    button.addEventListener("click", () => send({ do: "show", window: name }));
    return button;
  }));
  for (const button of byId("mode").children) {
    button.addEventListener("click", () => send({ do: "show", mode: button.dataset.mode }));
  }
  byId("overlay").addEventListener("change", (event) => send({ do: "show", overlay: event.target.value }));
  for (const name of ["opacity", "threshold"]) {
    byId(name).addEventListener("input", (event) => sendSoon({ do: "show", [name]: Number(event.target.value) }));
  }
}

listen();
connect();
