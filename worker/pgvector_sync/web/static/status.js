// Refreshes the part of a page that changes. Without JavaScript, the page is the same and is reloaded by hand.
"use strict";
(() => {
  const EVERY = 5000;
  const stale = document.getElementById("stale");
  const pause = document.getElementById("pause");
  let updated = new Date();
  let paused = false;
  let timer;

  // What keeps its identity from one version of the page to the next.
  const name = (element) => element && (element.id ? `#${CSS.escape(element.id)}`
    : element.hasAttribute("href") ? `a[href="${CSS.escape(element.getAttribute("href"))}"]` : null);

  const replace = (fresh) => {
    const live = document.getElementById("live");
    const focused = live.contains(document.activeElement) ? name(document.activeElement) : null;
    const scrolled = [...live.querySelectorAll("[id^=scroll-]")].map((box) => [box.id, box.scrollLeft]);
    const [x, y] = [scrollX, scrollY];
    live.replaceWith(fresh.getElementById("live"));
    document.getElementById("asof").replaceWith(fresh.getElementById("asof"));
    document.title = fresh.title;
    for (const [id, left] of scrolled) {
      const box = document.getElementById(id);
      if (box) box.scrollLeft = left;
    }
    if (focused) document.getElementById("live").querySelector(focused)?.focus({ preventScroll: true });
    scrollTo(x, y);
  };

  const selecting = () => {
    const selection = getSelection();
    return !selection.isCollapsed && document.getElementById("live").contains(selection.anchorNode);
  };

  const tell = (reason) => {
    const text = `Data is old: last updated at ${updated.toLocaleTimeString()}. ${reason} Trying again.`;
    if (stale.textContent !== text) stale.textContent = text;
    stale.hidden = false;
    document.body.classList.add("old");
  };

  const refresh = async () => {
    clearTimeout(timer);
    if (document.hidden || paused) return;
    try {
      if (!selecting()) {
        const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(4 * EVERY) });
        const isPage = (answer.headers.get("content-type") ?? "").startsWith("text/html");
        if ((answer.ok || answer.status === 404) && isPage) {
          const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
          if (fresh.getElementById("live")) replace(fresh);
          updated = new Date();
          stale.hidden = true;
          document.body.classList.remove("old");
        } else {
          tell(`The server answered ${answer.status}.`);
        }
      }
    } catch {
      tell("The server can't be reached.");
    }
    clearTimeout(timer);
    timer = setTimeout(refresh, EVERY);
  };

  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    pause.textContent = paused ? "Resume" : "Pause";
    refresh();
  });
  document.addEventListener("visibilitychange", refresh);
  timer = setTimeout(refresh, EVERY);
})();
