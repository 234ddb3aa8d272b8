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
      const sign = (within) => within.querySelector("[data-sign]").dataset.sign;
      const isRead = place.contains(document.activeElement) || String(document.getSelection()) !== "";
      // Whoever copies a command is not disturbed; but another sign is always shown.
      if (!isRead || sign(news.content) !== sign(place)) {
        place.replaceChildren(news.content);
        document.title = place.querySelector(".sign .word").textContent;
      }
      show(false);
    };
    source.onopen = () => { clearTimeout(told); show(false); };
    source.onerror = () => {
      clearTimeout(told);
      told = setTimeout(() => show(true), 5000);
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
