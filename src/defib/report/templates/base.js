"use strict";
// The page's own ground: what is kept between redraws, building elements, words and numbers.
// Nothing here or in the other files ever makes markup of data: strings become text nodes.
window.defib = {
  state: { range: null, chosen: null, open: new Set(), theme: "", window: "worst", axis: "linear", as: {} },
  data: null,
  sections: [],
  drawn: [],
};
(function (defib) {
  const SVG = "http://www.w3.org/2000/svg";

  function fill(node, props, children) {
    for (const [key, value] of Object.entries(props || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (key === "class") node.setAttribute("class", value);
      else if (key === "text") node.textContent = value;
      else if (key === "on") for (const [name, f] of Object.entries(value)) node.addEventListener(name, f);
      else if (key === "style") for (const [name, v] of Object.entries(value)) node.style.setProperty(name, v);
      else node.setAttribute(key, value === true ? "" : String(value));
    }
    for (const child of children.flat(2)) {
      if (child === null || child === undefined || child === false) continue;
      node.append(typeof child === "object" ? child : document.createTextNode(String(child)));
    }
    return node;
  }
  defib.el = (tag, props, ...children) => fill(document.createElement(tag), props, children);
  defib.svg = (tag, props, ...children) => fill(document.createElementNS(SVG, tag), props, children);

  // Characters that cannot be seen, or that turn the text around them, are shown as what they are.
  const UNSEEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}]/gu;
  defib.visible = (text) =>
    String(text).replace(UNSEEN, (c) => "\\u" + c.codePointAt(0).toString(16).padStart(4, "0"));
  // A name as text: visible, and cut in its middle.
  defib.name = function (text, most) {
    const width = most || 60;
    let raw = String(text);
    if (raw.length > 8 * width) raw = raw.slice(0, 4 * width) + raw.slice(-4 * width);
    const all = Array.from(defib.visible(raw));
    if (all.length <= width) return all.join("");
    const left = Math.ceil((width - 1) / 2);
    return all.slice(0, left).join("") + "…" + all.slice(all.length - (width - 1 - left)).join("");
  };
  defib.layerName = function (layer, most) {
    const suffix = layer.call ? "#" + layer.call : "";
    if (!layer.path) return "(whole model)" + suffix;
    return defib.name(layer.path, (most || 40) - suffix.length) + suffix;
  };

  defib.number = function (value, digits) {
    if (value === null || value === undefined || value === "") return "–";
    if (typeof value === "string") return defib.visible(value);
    if (!Number.isFinite(value)) return String(value);
    if (value === 0) return "0";
    const size = Math.abs(value);
    if (Number.isInteger(value) && size < 1e15) return value.toLocaleString("en-US");
    if (size >= 1e5 || size < 1e-3) return value.toExponential((digits || 3) - 1).replace(/\.?0*e\+?/, "e");
    return String(Number(value.toPrecision(digits || 3)));
  };
  // A number beside an axis, where there is room for eight characters.
  defib.tick = (value) => (Number.isFinite(value) && Math.abs(value) >= 1e6 ? value.toExponential(1).replace(/\.0e\+|e\+/, "e") : defib.number(value));
  defib.percent = function (share) {
    if (share === null || share === undefined || !Number.isFinite(share)) return "–";
    const value = 100 * share;
    if (value === 0 || value === 100) return value + " %";
    if (value > 99.9) return ">99.9 %";
    return (value < 0.1 ? "<0.1" : value < 10 ? value.toFixed(1) : value.toFixed(0)) + " %";
  };
  defib.count = (n, noun) => defib.number(n) + " " + noun + (n === 1 ? "" : "s");
  defib.step = (n) => "step " + defib.number(n);

  defib.colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();

  // A part that opens and closes, and stays as it was over a redraw.
  defib.fold = function (key, summary, body, props) {
    const isOpen = defib.state.open.has(key);
    const inner = defib.el("div", { class: "fold-body" });
    const node = defib.el("details", { ...(props || {}), "data-key": key, open: isOpen },
      defib.el("summary", {}, summary), inner);
    let filled = false;
    const give = function () {
      if (!filled) inner.append(...[body()].flat());
      filled = true;
    };
    if (isOpen) give();
    node.fill = give;
    node.addEventListener("toggle", function () {
      if (node.open) { defib.state.open.add(key); give(); } else defib.state.open.delete(key);
    });
    return node;
  };

  // One of a few ways to look at something.
  defib.choice = function (label, options, current, choose) {
    return defib.el("span", { class: "choice", role: "group", "aria-label": label },
      options.map(([value, text]) => defib.el("button", {
        type: "button", "aria-pressed": String(value === current), "data-key": "choice:" + label + ":" + value,
        on: { click: () => choose(value) },
      }, text)));
  };

  // A table of plain cells: the same numbers as a plot, in words.
  defib.table = function (caption, head, rows, numeric) {
    const isNumber = (i) => numeric === undefined || numeric.includes(i);
    return defib.el("div", { class: "table-box", tabindex: "0", role: "region", "aria-label": caption },
      defib.el("table", { class: "plain" }, defib.el("caption", { class: "hidden" }, caption),
        defib.el("thead", {}, defib.el("tr", {}, head.map((h, i) =>
          defib.el("th", { scope: "col", class: isNumber(i) ? "num" : null }, h)))),
        defib.el("tbody", {}, rows.map((row) => defib.el("tr", {}, row.map((cell, i) =>
          defib.el("td", { class: isNumber(i) ? "num" : null }, cell)))))));
  };

  const DARK = window.matchMedia("(prefers-color-scheme: dark)");
  defib.isDark = () => (defib.state.theme ? defib.state.theme === "dark" : DARK.matches);
  defib.setTheme = function (theme) {
    defib.state.theme = theme;
    if (theme) document.documentElement.setAttribute("data-theme", theme);
    else document.documentElement.removeAttribute("data-theme");
    const button = document.getElementById("theme");
    if (button) {
      button.textContent = defib.isDark() ? "Light" : "Dark";
      button.setAttribute("aria-label", "Switch to " + (defib.isDark() ? "light" : "dark") + " colours");
    }
    defib.repaint();
  };
  DARK.addEventListener("change", () => defib.setTheme(defib.state.theme));

  // Charts that left the page let go of it.
  defib.prune = function () {
    for (const chart of defib.drawn) if (!chart.host.isConnected && chart.plot && chart.plot.destroy) chart.plot.destroy();
    defib.drawn = defib.drawn.filter((chart) => chart.host.isConnected);
  };
  // Everything that is painted and not styled registers here, and is painted again when colours change.
  defib.repaint = function () {
    defib.prune();
    for (const chart of defib.drawn) chart.paint();
  };
  // A range of steps for all plots over time; null for all of them.
  defib.zoom = function (range) {
    const end = defib.data ? Math.max(1, defib.data.steps) : 1;
    let next = range;
    if (next) {
      const width = Math.min(end, Math.max(1, next[1] - next[0]));
      const from = Math.min(Math.max(0, next[0]), end - width);
      next = width >= end ? null : [from, from + width];
    }
    defib.state.range = next;
    for (const chart of defib.drawn) if (chart.zoomed) chart.zoomed();
    const reset = document.getElementById("zoom-reset");
    if (reset) reset.hidden = !next;
  };
  defib.span = () => defib.state.range || [0, Math.max(1, defib.data.steps)];
  // Keys that all plots over time share; true if the key was one of them.
  defib.zoomKey = function (key) {
    const [from, to] = defib.span();
    const width = to - from;
    const move = (share, size) => defib.zoom([from + share * width, from + share * width + size * width]);
    if (key === "+" || key === "=") move(0.25, 0.5);
    else if (key === "-") defib.zoom([from - width / 2, to + width / 2]);
    else if (key === "0" || key === "Escape") defib.zoom(null);
    else if (key === "PageDown") move(0.5, 1);
    else if (key === "PageUp") move(-0.5, 1);
    else return false;
    return true;
  };
})(window.defib);
