// The socket to the visitor's session: reconnects by itself, and sends at most once per animation frame.

const WAITS = [500, 1000, 2000, 4000, 8000];
let socket = null;
let failures = 0;
const waiting = new Map(); // messages of this animation frame, by what they are about

export function send(message) {
  if (socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

// The latest only; what adds up (turn, pan, zoom, scroll) is added up.
export function sendSoon(message) {
  if (waiting.size === 0) {
    requestAnimationFrame(() => { waiting.forEach((last) => send(last)); waiting.clear(); });
  }
  const about = `${message.do} ${message.view || ""} ${message.do === "show" ? Object.keys(message) : ""}`;
  const former = waiting.get(about);
  if (former) {
    if (["turn", "pan"].includes(message.do)) {
      message = { ...message, x: message.x + former.x, y: message.y + former.y };
    } else if (message.do === "zoom") message = { ...message, factor: message.factor * former.factor };
    else if (message.do === "scroll") message = { ...message, steps: message.steps + former.steps };
  }
  waiting.set(about, message);
}

// onText: a message; onBinary: a picture; onLost(isForeign): the connection is gone, or was never allowed.
export function connect({ onText, onBinary, onLost, onOpen }) {
  socket = new WebSocket(`ws://${location.host}/socket`);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => { failures = 0; onOpen(); };
  socket.onmessage = (event) => {
    if (typeof event.data === "string") onText(JSON.parse(event.data));
    else onBinary(event.data);
  };
  socket.onclose = async () => {
    const wait = WAITS[Math.min(failures, WAITS.length - 1)];
    failures += 1;
    let status = 0;
    try { status = (await fetch("/")).status; } catch { /* the program has ended */ }
    onLost(status);
    if (status !== 403) setTimeout(() => connect({ onText, onBinary, onLost, onOpen }), wait);
  };
}
