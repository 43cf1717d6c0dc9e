"use strict";
// Fetches the middle of the page anew, and says what a plot shows under the pointer.
const EVERY_MS = 2000;
const main = document.querySelector("main");
const live = document.querySelector("#live");

async function refresh() {
  if (document.hidden || !document.getSelection().isCollapsed) return;
  try {
    const reply = await fetch("?part=main", { cache: "no-store", signal: AbortSignal.timeout(10000) });
    if (!reply.ok) throw new Error(reply.status);
    main.innerHTML = await reply.text();
    say("on", "live");
    if (pointer) tell(pointer);
  } catch {
    say("off", "no answer, trying again");
  }
}

function say(state, text) {
  live.className = state;
  live.textContent = text;
}

let pointer = null;

// The figure at the pointer, or the newest where it is not over a plot.
function tell(at) {
  for (const plot of main.querySelectorAll(".plot[data-values]")) {
    const values = plot.dataset.values.split(",").map(Number);
    const steps = Number(plot.dataset.steps);
    const box = plot.querySelector("svg").getBoundingClientRect();
    const over = at.x >= box.left && at.x <= box.right && at.y >= box.top && at.y <= box.bottom;
    const back = over ? Math.round((box.right - at.x) / box.width * steps) : 0;
    const value = values[values.length - 1 - back];
    const seconds = back * Number(plot.dataset.step);
    const ago = seconds < 60 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
    const shown = value === undefined ? "–" : value.toLocaleString("en").replaceAll(",", "\u202f");
    plot.querySelector("output").textContent = back === 0 ? shown : `${shown}, ${ago} ago`;
  }
}

main.addEventListener("pointermove", (event) => {
  pointer = { x: event.clientX, y: event.clientY };
  tell(pointer);
});
main.addEventListener("pointerleave", () => {
  if (pointer) tell({ x: -1, y: -1 });
  pointer = null;
});
document.addEventListener("visibilitychange", refresh);
(async () => {
  for (;;) {
    await refresh();
    await new Promise((done) => setTimeout(done, EVERY_MS));
  }
})();
