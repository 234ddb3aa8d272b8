// What the pages do beyond plain HTML.  Without it, everything but the renewal by itself works.
"use strict";

// The state of the backup: the node sends it when it changes.  A hidden page does not ask.
function renewState(place) {
  const lost = document.getElementById("lost");
  let source = null;
  let told = 0;
  function show(isLost) {
    lost.hidden = !isLost;
    place.classList.toggle("old", isLost);
  }
  function open() {
    if (source || document.hidden) return;
    source = new EventSource(place.dataset.events);
    source.onmessage = (event) => {
      const news = document.createElement("template");
      news.innerHTML = event.data;
      const sign = (within) => within.querySelector("[data-sign]")?.dataset.sign;
      const isRead = place.contains(document.activeElement) || String(document.getSelection()) !== "";
      // Whoever copies a command is not disturbed; but another sign is always shown.
      if (!isRead || sign(news.content) !== sign(place)) {
        place.replaceChildren(news.content);
        const word = place.querySelector(".sign .word");
        if (word) document.title = word.textContent;
      }
      show(false);
    };
    source.onopen = () => { clearTimeout(told); told = 0; show(false); };
    source.onerror = () => {
      told = told || setTimeout(() => show(true), 5000);  // it is told again at each attempt
      if (source.readyState === EventSource.CLOSED) { close(); setTimeout(open, 5000); }
    };
  }
  function close() {
    if (source) source.close();
    source = null;
  }
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  addEventListener("pagehide", close);
  addEventListener("pageshow", open);
  open();
}

for (const place of document.querySelectorAll("[data-events]")) renewState(place);

// Search while one types: the same form, sent by itself; the list is replaced, and the address kept.
function searchLive(form) {
  const place = document.querySelector(form.dataset.live);
  let timer = 0;
  let asked = null;
  async function ask() {
    const wanted = new URLSearchParams(new FormData(form));
    for (const [name, value] of [...wanted]) if (!value) wanted.delete(name);
    const address = form.getAttribute("action") + (wanted.size ? "?" + wanted : "");
    if (asked) asked.abort();
    asked = new AbortController();
    wanted.set("part", "list");
    try {
      const answer = await fetch(form.getAttribute("action") + "?" + wanted, { signal: asked.signal });
      if (!answer.ok) { location.assign(address); return; }
      const text = await answer.text();
      place.innerHTML = text;
      history.replaceState(null, "", address);
    } catch (error) {
      if (error.name !== "AbortError") form.submit();
    }
  }
  form.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(ask, 150); });
  form.addEventListener("submit", (event) => { event.preventDefault(); clearTimeout(timer); ask(); });
  const field = form.querySelector("input[type=search]");
  // By the keyboard alone: arrows go from the field through the list, / goes back to the field.
  document.addEventListener("keydown", (event) => {
    const isTyping = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName);
    if (event.key === "/" && !isTyping) { event.preventDefault(); field.select(); field.focus(); return; }
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    const rows = [...place.querySelectorAll("li > a")];
    const now = rows.indexOf(document.activeElement);
    if (now < 0 && document.activeElement !== field) return;
    event.preventDefault();
    const next = now + (event.key === "ArrowDown" ? 1 : -1);
    if (next < 0) field.focus(); else if (rows[next]) rows[next].focus();
  });
}

for (const form of document.querySelectorAll("form[data-live]")) searchLive(form);

// A study whose picture cannot be made shows none.
addEventListener("error", (event) => { if (event.target instanceof HTMLImageElement) event.target.classList.add("none"); }, true);
