"use strict";
// One run, kept up to date: a notice says that there is something new, the page then fetches it.
(function (defib) {
  const LIST = LISTED;
  let notice = null; // the newest
  let shown = null; // name of the portrait that is drawn
  let run = null; // id of the run that is drawn
  let isFetching = false;
  let lostText = "";

  const WORDS = { waiting: "waiting", live: "live", ended: "ended", gone: "waiting", unreadable: "waiting" };
  const SHORT = { waiting: "Waiting", live: "Live", ended: "Ended", gone: "Gone", unreadable: "Not readable" };

  // What is more than a word stands in a line of its own under the bar.
  const line = defib.el("p", { id: "live-note", role: "status", hidden: true, style: {
    margin: "0", padding: "8px clamp(16px, 4vw, 24px)", background: "var(--raised)", color: "var(--ink)",
    "border-bottom": "1px solid var(--line)", "font-size": "14px" } });
  document.querySelector("header.bar").after(line);

  function say() {
    const state = lostText ? "lost" : notice ? notice.state : "waiting";
    const steps = !notice || notice.steps === null || notice.steps === undefined ? "" : defib.step(notice.steps);
    const word = lostText ? "Not connected" : SHORT[state];
    defib.live([word, steps].filter(Boolean).join(" · "), lostText ? "waiting" : WORDS[state]);
    let text = lostText || (notice && notice.note) || "";
    if (state === "waiting") text = text || "Nothing has been written yet. This page shows it as soon as it is.";
    if (text === "finished") text = "";
    text = defib.visible(text);
    line.textContent = text && text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
    line.hidden = !text;
    document.documentElement.dataset.live = state;
  }

  // Only one fetch at a time, and none for a page that nobody sees: a slow page skips what it missed.
  async function fetchShown() {
    if (isFetching || document.hidden || !notice || !notice.body || notice.body === shown) return;
    isFetching = true;
    try {
      const answer = await fetch("state", { cache: "no-store" });
      if (answer.ok) {
        const body = answer.headers.get("x-defib-body");
        const of = answer.headers.get("x-defib-run");
        draw(await answer.json(), of);
        shown = body;
        document.documentElement.dataset.shown = body;
      }
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // the line is dead: the stream says so
    } finally {
      isFetching = false;
    }
    if (notice.body !== shown && !lostText) setTimeout(fetchShown, 200);
  }

  function draw(payload, of) {
    if (run === null || of !== run) defib.show(payload);
    else defib.update(payload);
    run = of;
    document.title = defib.name(payload.title, 60) + " – defib";
  }

  function back() {
    if (!LIST) return;
    document.getElementById("live-nav").append(defib.el("a", { href: "../../" }, "All runs"));
  }

  document.addEventListener("visibilitychange", fetchShown);
  back();
  say();
  defib.stream("events", {
    run(told) { notice = told; lostText = ""; say(); fetchShown(); },
    lost(text) { lostText = text; say(); },
    back() { lostText = ""; say(); fetchShown(); },
  });
})(window.defib);
