// Keeps the page as the server would draw it now. Without this script the page is the same, only still.
"use strict";

const EVERY = 2000; // milliseconds
const seen = new WeakMap(); // what each part was last made of
const live = document.getElementById("live");

function say(state, words) {
  if (live.dataset.state !== state) {
    live.dataset.state = state;
    live.textContent = words;
  }
}

// What a reader has opened, scrolled or is on stays so.
function replace(shown, fresh) {
  for (const open of shown.querySelectorAll("details")) {
    const same = fresh.querySelector("#" + CSS.escape(open.id));
    if (same) same.open = open.open;
  }
  const focus = document.activeElement;
  const inside = focus !== shown && shown.contains(focus);
  const places = "a, summary, [tabindex]";
  const place = inside ? [...shown.querySelectorAll(places)].indexOf(focus) : -1;
  const atEnd = shown.scrollTop + shown.clientHeight >= shown.scrollHeight - 4;
  const top = shown.scrollTop;
  shown.replaceChildren(...fresh.childNodes);
  for (const name of shown.getAttributeNames()) if (!fresh.hasAttribute(name)) shown.removeAttribute(name);
  for (const { name, value } of fresh.attributes) shown.setAttribute(name, value);
  if (place >= 0) shown.querySelectorAll(places)[place]?.focus({ preventScroll: true });
  if (shown.tagName === "PRE") shown.scrollTop = atEnd ? shown.scrollHeight : top;
}

function reading(part) {
  const chosen = document.getSelection();
  return !chosen.isCollapsed && part.contains(chosen.anchorNode);
}

async function refresh() {
  const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(10000) });
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (!answer.ok && !page.querySelector("main")) throw new Error(answer.statusText);
  document.title = page.title;
  for (const shown of document.querySelectorAll("[data-live]")) {
    const fresh = page.getElementById(shown.id);
    if (fresh && !reading(shown) && fresh.innerHTML !== seen.get(shown)) {
      seen.set(shown, fresh.innerHTML);
      replace(shown, document.importNode(fresh, true));
    }
  }
}

async function again() {
  if (!document.hidden) {
    try {
      await refresh();
      say("live", "live");
    } catch {
      say("lost", "no answer since");
    }
  }
  setTimeout(again, EVERY);
}

const log = document.getElementById("log");
if (log) log.scrollTop = log.scrollHeight;
document.addEventListener("visibilitychange", () => document.hidden || refresh().catch(() => {}));
setTimeout(again, EVERY);
