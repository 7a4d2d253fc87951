"use strict";
// All runs side by side: verdict, what is going on, the loss; two of them chosen are compared.
(function (defib) {
  const el = defib.el;
  const SIGNS = { sick: "✕", healthy: "✓", "not-observed": "?" };
  const NAMES = { sick: "Sick", healthy: "Healthy", "not-observed": "Not observed" };
  const runs = new Map(); // by feed: {notice, row}
  const chosen = new Set();

  function what(notice) {
    const steps = notice.steps === null || notice.steps === undefined ? "" : defib.step(notice.steps);
    const parts = { waiting: ["waiting for the first data"], live: ["live", steps, notice.note], ended: [notice.note, steps] };
    return (parts[notice.state] || [notice.note]).filter(Boolean).map(defib.visible).join(" · ");
  }

  // The loss as a line; where it was not finite, there is a gap.
  function paint(canvas, notice) {
    const scale = window.devicePixelRatio || 1;
    const [width, height] = [220, 44];
    canvas.width = width * scale;
    canvas.height = height * scale;
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    const [steps, values] = notice.loss || [[], []];
    const known = values.filter((value) => value !== null);
    if (known.length < 2) return;
    const [low, high] = [Math.min(...known), Math.max(...known)];
    const [from, to] = [steps[0], steps[steps.length - 1]];
    pen.strokeStyle = defib.colour("series-0");
    pen.lineWidth = 1.5;
    pen.beginPath();
    let isDown = false;
    values.forEach(function (value, i) {
      if (value === null) { isDown = false; return; }
      const x = 1 + ((width - 2) * (steps[i] - from)) / Math.max(1, to - from);
      const y = height - 3 - ((height - 6) * (value - low)) / (high - low || 1);
      if (isDown) pen.lineTo(x, y); else pen.moveTo(x, y);
      isDown = true;
    });
    pen.stroke();
  }

  function lossWords(notice) {
    const values = (notice.loss || [[], []])[1];
    if (!values.length) return "no loss seen";
    const said = (value) => (value === null ? "not finite" : defib.number(value));
    return "loss " + said(values[0]) + " → " + said(values[values.length - 1]);
  }

  function row(notice) {
    const key = notice.feed;
    const box = el("input", { type: "checkbox", "aria-label": "Choose " + defib.name(notice.name, 60) + " to compare" });
    box.checked = chosen.has(key);
    box.addEventListener("change", function () {
      if (box.checked) chosen.add(key); else chosen.delete(key);
      if (chosen.size > 2) { const first = [...chosen][0]; chosen.delete(first); runs.get(first).row.querySelector("input").checked = false; }
      button();
    });
    const word = notice.verdict;
    const canvas = el("canvas", { role: "img", "aria-label": lossWords(notice) });
    const node = el("section", { class: "run " + notice.state, "data-feed": key, "data-version": notice.id }, box,
      el("span", { class: "word " + (word || "") }, word ? [el("span", { class: "sign", "aria-hidden": "true" }, SIGNS[word]), NAMES[word]] : "–"),
      el("div", { class: "about" },
        el("a", { class: "name", href: "run/" + key + "/", title: defib.name(notice.name, 300) }, defib.name(notice.name, 80)),
        el("p", { class: "sentence" }, defib.visible(notice.sentence || "")),
        el("div", { class: "what" }, what(notice))),
      el("div", { class: "loss" }, canvas, lossWords(notice)));
    paint(canvas, notice);
    return node;
  }

  function button() {
    const link = document.getElementById("compare");
    const isReady = chosen.size === 2;
    link.setAttribute("aria-disabled", String(!isReady));
    link.textContent = isReady ? "Compare the two chosen runs" : chosen.size === 1 ? "Choose one more run to compare" : "Choose two runs to compare";
    if (isReady) link.href = "compare/" + [...chosen].join("/"); else link.removeAttribute("href");
  }

  function take(notice) {
    const before = runs.get(notice.feed);
    const focused = before && before.row.contains(document.activeElement) ? document.activeElement.tagName : "";
    const next = row(notice);
    if (before) before.row.replaceWith(next);
    else {
      const order = [...runs.values()].find((other) => other.notice.made < notice.made);
      document.getElementById("runs").insertBefore(next, order ? order.row : null);
    }
    if (focused) next.querySelector(focused).focus();
    runs.set(notice.feed, { notice, row: next });
    const states = [...runs.values()].map((each) => each.notice);
    document.getElementById("none").hidden = true;
    document.getElementById("count").textContent = defib.count(runs.size, "run");
    const live = states.filter((each) => each.state === "live").length;
    const sick = states.filter((each) => each.verdict === "sick").length;
    defib.live([live ? live + " live" : "none live", sick + " sick"].join(" · "), live ? "live" : "ended");
  }

  defib.live = function (text, state) {
    const node = document.getElementById("live");
    node.textContent = text;
    node.className = state;
  };
  defib.repaint = function () {
    for (const { notice, row: node } of runs.values()) paint(node.querySelector("canvas"), notice);
  };
  document.getElementById("theme").addEventListener("click", () => defib.setTheme(defib.isDark() ? "light" : "dark"));
  defib.setTheme("");
  let lostText = "";
  defib.stream("events", {
    run(notice) { take(notice); },
    lost(text) { lostText = text; defib.live(text, "waiting"); },
    back() { if (lostText) { lostText = ""; defib.live("Connected again", "live"); } },
    leftOut(count) {
      const node = document.getElementById("left-out");
      node.hidden = count < 0;
      node.textContent = count > 0 ? defib.count(count, "older record") + " not shown." : "";
      if (!runs.size) document.getElementById("none").textContent = "No record is here yet; it appears as soon as a run begins one.";
    },
  });
})(window.defib);
