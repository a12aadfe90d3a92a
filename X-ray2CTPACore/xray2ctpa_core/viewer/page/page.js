// The page draws what its session says (messages "state", "place", "probe" and "triage", pictures by view) and sends what the
// visitor wishes. Beside the connection it keeps only the chosen tool, lengths, and which view is maximised.

import { connect, send } from "./connection.js";
import { renderResult, listenToControls } from "./result.js";
import { renderChoose, renderPrepare, listenToUploads } from "./upload.js";
import { drawPicture, place, probed, resend } from "./views.js";
import { takeScreenshot } from "./screenshot.js";
import { listenToTriage, renderTriage } from "./triage.js";

export const byId = (id) => document.getElementById(id);
export let state = null;

const SAID_MS = 8000; // that a message of this tab stays at least, whatever its session says meanwhile
let saidUntil = 0;

export function say(text, hint) {
  saidUntil = text ? performance.now() + SAID_MS : 0;
  write(text, hint);
}

function write(text, hint) {
  byId("message").textContent = [text, hint].filter(Boolean).join(" ");
  byId("message").hidden = !text;
}

export function show(id, visible) { byId(id).hidden = !visible; }

export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

export function listOf(lines) { return element("ul", {}, ...lines.map((textContent) => element("li", { textContent }))); }

function receive(message) {
  if (message.kind === "state") { state = message; render(); }
  else if (message.kind === "place") place(message);
  else if (message.kind === "probe") probed(message);
  else if (message.kind === "triage") renderTriage(message);
  else if (message.kind === "problem") say(message.text, message.hint);
}

function render() {
  const { phase } = state;
  const isDone = phase === "done";
  const isNew = document.body.dataset.phase !== phase;
  document.body.dataset.phase = phase;
  if (state.message) write(state.message.text, state.message.hint);
  else if (isNew || performance.now() > saidUntil) write("", "");
  show("choose", phase === "empty");
  show("prepare", ["checking", "ready", "running"].includes(phase));
  show("opening", phase === "opening");
  for (const id of ["views", "side", "tools", "download", "screenshot"]) show(id, isDone);
  show("dicom", isDone && state.can_dicom);
  show("start-over", isDone || phase === "ready");
  show("mode", isDone && state.result.has_truth);
  if (phase === "empty") renderChoose();
  else if (isDone) renderResult();
  else renderPrepare();
}

// Every result of this visitor, with what may be done to it.
export function renderShelf(id) {
  const items = state.results.map((result) => {
    const open = element("button", { textContent: `${result.name}, ${result.made}` });
    if (result.current && state.phase === "done") open.setAttribute("aria-current", "true");
    open.addEventListener("click", () => send({ do: "open", id: result.id }));
    const discard = element("button", { textContent: "Discard", ariaLabel: `Discard the result of ${result.name}` });
    discard.setAttribute("aria-label", `Discard the result of ${result.name}`);
    discard.addEventListener("click", () => askAndDiscard(result));
    return element("li", {}, open, discard);
  });
  byId(id).replaceChildren(...(items.length
    ? [element("h2", { textContent: "Results of this visit" }), element("ul", {}, ...items)] : []));
}

function askAndDiscard(result) {
  const dialog = byId("confirm");
  byId("question").textContent = result.kept_elsewhere
    ? `Take the result of ${result.name} off the list? Its files stay where they are.`
    : `Discard the result of ${result.name}? It cannot be brought back.`;
  dialog.onclose = () => { if (dialog.returnValue === "yes") send({ do: "discard", id: result.id }); };
  dialog.returnValue = "no";
  dialog.showModal();
}

function lost(status) {
  if (status === 403) say("This page has no session.", "Open the address that the program printed.");
  else if (status === 503) say("There are too many visitors at a time.", "The page tries again by itself.");
  else say("The page's program has ended or cannot be reached.", "The page connects by itself when it is back.");
  document.body.dataset.phase = "lost";
}

listenToUploads();
listenToControls();
listenToTriage();
byId("start-over").addEventListener("click", () => send({ do: "start_over" }));
byId("screenshot").addEventListener("click", takeScreenshot);
connect({ onText: receive, onBinary: drawPicture, onLost: lost, onOpen: resend });
