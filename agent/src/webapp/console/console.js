// Keeps an open page fresh: each event brings a panel, which takes the place of the one before.
"use strict";

const live = document.getElementById("live");

function say(isLive) {
  const words = isLive ? live.dataset.live : live.dataset.lost;
  if (live.textContent !== words) live.textContent = words;
  live.className = isLive ? "live on" : "live off";
}

// Panels that wait until the reader is no longer in them.
const waiting = new Map();
document.addEventListener("focusout", () => {
  window.setTimeout(() => { for (const [id, html] of [...waiting]) replace(id, html); }, 0);
});

// What the reader has opened stays open, and what he is in is not taken away under him.
function replace(id, html) {
  const old = document.getElementById(id);
  const made = document.createElement("template");
  made.innerHTML = html;
  const fresh = made.content.firstElementChild;
  if (!fresh) return;
  if (!old) {
    document.getElementById("content").append(fresh);
    return;
  }
  if (old.contains(document.activeElement) && document.activeElement.matches("input, select, textarea, button, a")) {
    // The reader is in it: it is replaced as soon as he leaves it.
    waiting.set(id, html);
    return;
  }
  waiting.delete(id);
  const scrolled = [...old.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
  // A table that is scrolled by keys keeps the focus.
  const held = [...old.querySelectorAll("[tabindex]")].indexOf(document.activeElement);
  old.replaceWith(fresh);
  if (held >= 0) fresh.querySelectorAll("[tabindex]")[held]?.focus({ preventScroll: true });
  [...fresh.querySelectorAll(".scroll")].forEach((one, at) => { one.scrollLeft = scrolled[at] || 0; });
}

// The stream of news of now: each try has one of its own.
let news = null;

function begin() {
  const ask = new URLSearchParams(window.location.search);
  ask.set("page", document.body.dataset.page);
  const stream = new EventSource("/console/live?" + ask);
  news = stream;
  // Without a word for so long, what is shown may be old.
  let last = Date.now();
  const heard = () => { last = Date.now(); say(true); };
  stream.addEventListener("panel", (event) => {
    const { id, html } = JSON.parse(event.data);
    replace(id, html);
    heard();
  });
  stream.addEventListener("same", heard);
  // The webapp cannot say how things are: what is shown may be old.
  stream.addEventListener("lost", () => { last = 0; say(false); });
  const watch = window.setInterval(() => { if (Date.now() - last > 8000) say(false); }, 2000);
  stream.addEventListener("error", () => {
    say(false);
    // The browser comes again by itself, unless it was refused: the session may be over, or too many look.
    if (stream.readyState !== EventSource.CLOSED) return;
    window.clearInterval(watch);
    window.setTimeout(begin, 15000);
  });
}

// Browsers keep pages that were left, with their connections, and have six of these for one server: the seventh page would wait.
window.addEventListener("pagehide", () => news?.close());
window.addEventListener("pageshow", (event) => { if (event.persisted) window.location.reload(); });

if (document.body.dataset.page && !window.location.pathname.match(/\/timeline\/\d+$|\/act$/)) begin();
