"use strict";
// The network as a picture: one row a layer in order of data flow, with its gradient ledger, the units
// that get a gradient, and the distribution of its activations.
(function (defib) {
  const { el, svg } = defib;
  const W = 220;
  const H = 26;

  function window_(p) {
    const made = p.ledger.backward;
    return made ? made.windows.find((w) => w.name === defib.state.window) || made.windows[0] : null;
  }

  // Decades by row: what the layer's activation does, and what stands between it and the one before.
  function decades(p) {
    const made = p.ledger.backward;
    const found = new Map();
    const w = window_(p);
    if (!made || !w) return found;
    made.rows.forEach((row, i) => found.set(row, { derivative: w.derivative[i], between: undefined, column: "", why: "" }));
    made.links.forEach((link, i) => Object.assign(found.get(link.above), { between: w.between[i], column: link.column, why: link.why }));
    return found;
  }

  const BETWEEN = { weights: "weights", norms: "weights and normalisation", skips: "several ways", unattributed: "not attributed" };

  function ledgerCell(entry, most) {
    if (!entry) return el("td", { class: "ledger" });
    const zero = W / 2;
    const wide = (v) => Math.max(v === 0 || v === null ? 0 : 1.5, (Math.min(Math.abs(v), most) / most) * (W / 2 - 2));
    const bar = function (v, y, cls) {
      if (v === undefined) return null;
      if (v === null) return svg("rect", { x: 1, y, width: zero - 1, height: 7, class: cls + " gone" }); // nothing is left
      return svg("rect", { x: v < 0 ? zero - wide(v) : zero, y, width: wide(v), height: 7, class: cls });
    };
    const said = ["derivative " + signed(entry.derivative)];
    if (entry.between !== undefined) said.push(BETWEEN[entry.column] + " " + signed(entry.between));
    return el("td", { class: "ledger" }, svg("svg", { viewBox: "0 0 " + W + " " + H, preserveAspectRatio: "none", role: "img", "aria-label": said.join(", ") + " decades" },
      svg("line", { x1: zero, x2: zero, y1: 0, y2: H, class: "axis" }),
      bar(entry.derivative, 5, "derivative"), bar(entry.between, 14, entry.column === "unattributed" ? "dark" : "between")));
  }
  function change(total) {
    if (total === null) return "falls to exactly 0.";
    if (Math.abs(total) < 0.05) return "keeps its size.";
    return (total < 0 ? "loses " : "gains ") + Math.abs(total).toFixed(1) + " decades (a factor of " + defib.number(Math.pow(10, Math.abs(total)), 2) + ").";
  }
  const signed = (v) => (v === null ? "to exactly 0," : (v > 0 ? "+" : v < 0 ? "−" : "") + defib.number(Math.abs(v), 2));

  function aliveCell(layer) {
    if (layer.silent === null || layer.silent === undefined || !layer.units) {
      return el("td", { class: "alive none" }, layer.unseen ? el("span", { class: "aside", title: defib.visible(layer.unseen) }, "not observed") : "");
    }
    const share = Math.max(0, 1 - layer.silent / layer.units);
    return el("td", { class: "alive" }, svg("svg", { viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" },
      svg("rect", { x: 0, y: 0, width: 100, height: 8, class: "lost" }), svg("rect", { x: 0, y: 0, width: 100 * share, height: 8, class: "kept" })),
      el("span", { class: layer.silent ? "silent" : "aside" }, layer.silent ? defib.number(layer.silent) + " of " + defib.number(layer.units) + " get none" : "all " + defib.number(layer.units)));
  }

  function glyph(s, y, most, cls) {
    if (!s || s.mean === null || s.mean === undefined) return null;
    const x = (v) => W / 2 + (Math.max(-most, Math.min(most, v)) / most) * (W / 2 - 3);
    return svg("g", { class: cls },
      svg("line", { x1: x(s.low), x2: x(s.high), y1: y, y2: y, class: "range" }),
      svg("rect", { x: x(s.mean - s.std), y: y - 2.5, width: Math.max(1.5, x(s.mean + s.std) - x(s.mean - s.std)), height: 5, class: "std" }),
      svg("line", { x1: x(s.mean), x2: x(s.mean), y1: y - 4.5, y2: y + 4.5, class: "mean" }));
  }
  function spreadCell(layer, most) {
    const s = layer.spread;
    if (!s) return el("td", { class: "spread" });
    const word = (at, t) => !at || at.mean === undefined ? "" : t + " mean " + defib.number(at.mean) + ", standard deviation " + defib.number(at.std) + ", " + defib.percent(at.zero) + " exactly zero; ";
    const said = word(s.first, "start:") + word(s.last, "end:");
    return el("td", { class: "spread" }, svg("svg", { viewBox: "0 0 " + W + " " + H, preserveAspectRatio: "none", role: "img", "aria-label": said },
      svg("line", { x1: W / 2, x2: W / 2, y1: 0, y2: H, class: "axis" }), glyph(s.first, 8, most, "start"), glyph(s.last, 18, most, "end")));
  }

  // Gradients are lost in the direction of the loss's way back; each row's findings are marked beside its name.
  function nameCell(p, i, flagged) {
    const layer = p.layers[i];
    const kind = [layer.kind, layer.activation].filter(Boolean).map((k) => defib.name(k, 20)).join(" → ");
    return el("th", { scope: "row", class: "layer" },
      el("button", { type: "button", class: "link", "data-key": "layer:" + i, title: defib.name(layer.path, 400), "aria-pressed": String(defib.state.chosen === i),
        on: { click: () => defib.choose(i, true), keydown: walk } }, defib.layerName(layer, 34)),
      flagged.has(i) ? el("span", { class: "flag " + flagged.get(i), "aria-label": flagged.get(i) }, flagged.get(i) === "info" ? "i" : "!") : null,
      el("span", { class: "kind" }, kind + (layer.units ? " · " + defib.number(layer.units) : "") + (layer.frozen ? " · frozen" : "")));
  }
  function walk(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const all = Array.from(document.querySelectorAll("#network .layer button"));
    const next = all[all.indexOf(event.currentTarget) + step];
    if (next) { next.focus(); event.preventDefault(); }
  }

  // A row is drawn anew only if something in it has changed: there may be hundreds.
  const rows = new Map();
  function row(p, i, flagged, entry, most, reach) {
    const layer = p.layers[i];
    const chosen = defib.state.chosen === i;
    const key = JSON.stringify([layer, entry, most, reach, flagged.get(i), chosen, Boolean(p.ledger.backward)]);
    const old = rows.get(i);
    if (old && old.key === key) return old.node;
    const node = el("tr", { class: chosen ? "chosen" : null, "data-row": i }, nameCell(p, i, flagged), aliveCell(layer),
      p.ledger.backward ? ledgerCell(entry, most) : null, spreadCell(layer, reach));
    rows.set(i, { key, node });
    return node;
  }
  // The next even number above: an axis that does not move with every reading.
  function even(v) {
    const ten = Math.pow(10, Math.floor(Math.log10(v)));
    return [1, 1.5, 2, 3, 5, 7, 10].find((k) => k * ten >= v * 0.9999) * ten;
  }

  function worst(p) {
    const found = new Map();
    const rank = { error: 0, warning: 1, info: 2 };
    const see = function (f) {
      const now = found.get(f.row);
      if (f.row !== null && f.row !== undefined && (now === undefined || rank[f.severity] < rank[now])) found.set(f.row, f.severity);
      f.explains.forEach(see);
    };
    p.findings.forEach(see);
    return found;
  }

  // The way of the data, drawn beside the rows: a dot a layer, a line where one feeds the next, an arc for a skip.
  function flow(table, p) {
    const rows = Array.from(table.tBodies[0].rows);
    const middle = rows.map((r) => r.offsetTop + r.offsetHeight / 2);
    const old = table.parentNode.querySelector("svg.flow");
    if (old) old.remove();
    if (!rows.length || !rows[0].offsetHeight) return;
    const lines = [];
    const x = 22;
    p.layers.forEach(function (layer, i) {
      const feeders = layer.inputs.length ? layer.inputs : i > 0 && !layer.skips.length ? [i - 1] : [];
      for (const j of feeders.concat(layer.skips)) {
        const far = Math.abs(i - j) > 1 && p.layers.slice(j + 1, i).some((l) => l.activation);
        const skip = layer.skips.includes(j) || far;
        const bend = x - Math.min(18, 6 + 3 * Math.abs(i - j));
        lines.push(skip ? svg("path", { d: "M" + x + " " + middle[j] + "C" + bend + " " + middle[j] + " " + bend + " " + middle[i] + " " + x + " " + middle[i], class: "skip-arc" })
          : svg("line", { x1: x, x2: x, y1: middle[j], y2: middle[i] }));
      }
    });
    const dots = p.layers.map((layer, i) => svg("circle", { cx: x, cy: middle[i], r: layer.activation ? 4 : 2.5, class: layer.activation ? "unit" : "plain" }));
    table.parentNode.prepend(svg("svg", { class: "flow", width: 32, height: table.offsetHeight, "aria-hidden": "true" }, lines, dots));
  }

  function axis(most, left, right) {
    return el("span", { class: "ends", "aria-hidden": "true" }, el("span", {}, left), el("span", {}, "0"), el("span", {}, right));
  }

  function head(p, most, reach) {
    const made = p.ledger.backward;
    const w = window_(p);
    return el("thead", {}, el("tr", {},
      el("th", { scope: "col" }, "Layer"),
      el("th", { scope: "col" }, "Units with a gradient"),
      made ? el("th", { scope: "col" }, "Gradient ledger (decades), ", el("span", { class: "step" }, defib.step(w.step)), axis(most, "−" + defib.number(most, 2), "+" + defib.number(most, 2))) : null,
      el("th", { scope: "col" }, "Activations", reach ? axis(reach, "−" + defib.number(reach, 2), defib.number(reach, 2)) : null)));
  }

  function keys(p) {
    const item = (cls, text) => el("li", {}, el("span", { class: "swatch " + cls }), text);
    const made = p.ledger.backward;
    return el("ul", { class: "keys" }, made ? [item("derivative", "what the activation's derivative does"), item("between", "what the weights before it do"),
      made.links.some((l) => l.column === "unattributed") ? item("dark", "cannot be parted") : null,
      Array.from(decades(p).values()).some((e) => e.derivative === null || e.between === null) ? item("derivative gone", "to exactly 0") : null] : null,
      item("start", "activations at the start"), item("end", "at the end: range, mean ± standard deviation"));
  }

  function network(root, p) {
    if (!p.layers.length) return;
    const entries = decades(p);
    const sizes = Array.from(entries.values()).flatMap((e) => [e.derivative, e.between]).filter(Number.isFinite).map(Math.abs);
    const most = even(Math.max(0.5, ...sizes));
    const hidden = p.layers.filter((l) => l.spread && !l.output); // what shapes the output may be far larger
    const spreads = (hidden.length ? hidden : p.layers).flatMap((l) => l.spread ? [l.spread.first, l.spread.last] : []).filter((s) => s && s.std !== null && s.std !== undefined);
    const reach = spreads.length ? even(Math.max(1e-12, ...spreads.map((s) => Math.abs(s.mean) + 3 * s.std))) : 0;
    const flagged = worst(p);
    const body = el("tbody", {}, p.layers.map((layer, i) => row(p, i, flagged, entries.get(i), most, reach)));
    const table = el("table", { class: "network" }, el("caption", { class: "hidden" }, "Layers in order of data flow"), head(p, most, reach), body);
    const w = window_(p);
    const told = w ? "From the last activation back to the first the gradient " + change(w.total) : "The gradient's ledger was not read.";
    const look = (value) => { defib.state.window = value; defib.redraw("network"); };
    const windows = [["first", "Start"], ["worst", "Worst"], ["last", "End"]];
    const long = p.layers.length > 24 ? " long" : "";
    root.append(el("h2", {}, "The network"),
      el("p", { class: "lead" }, "Layers in order of data flow. " + told),
      el("div", { class: "tools" }, w ? defib.choice("Ledger at", windows, defib.state.window, look) : null, keys(p)),
      el("div", { class: "network-box" + long, tabindex: "0", role: "region", "aria-label": "Layers" },
        el("div", { class: "network-inner" }, table)));
    const chart = { host: table, plot: true, paint: () => flow(table, p), sized: () => flow(table, p) };
    defib.drawn.push(chart);
    defib.later(chart);
  }

  // The size of the gradient behind each activation, against what reaches the one nearest to the loss.
  defib.depthPlot = function (host, p) {
    const made = p.ledger.backward;
    const total = function (w) {
      const level = [];
      let at = 0;
      for (let i = made.rows.length - 1; i >= 0; i--) {
        level[i] = at + (w.derivative[i] || 0);
        at = level[i] + (i > 0 ? w.between[i - 1] || 0 : 0);
      }
      return level;
    };
    const shown = made.windows.filter((w, i) => made.windows.findIndex((v) => v.step === w.step) === i);
    const labels = made.rows.map((r) => defib.layerName(p.layers[r], 24));
    defib.bars(host, { labels, series: shown.map((w) => ({ name: defib.step(w.step), values: total(w) })) });
  };

  // Values by layer as a plain drawing: one polyline a series, layers from left to right.
  defib.bars = function (host, spec) {
    const values = spec.series.flatMap((s) => s.values).filter(Number.isFinite);
    const low = Math.min(0, ...values);
    const high = Math.max(0, ...values);
    const n = spec.labels.length;
    const x = (i) => 40 + (n < 2 ? 0 : (i / (n - 1)) * 350);
    const y = (v) => 12 + ((high - v) / (high - low || 1)) * 108;
    const ticks = Array.from(new Set([high, (low + high) / 2, low]));
    host.append(svg("svg", { viewBox: "0 0 400 150", class: "depth", role: "img",
      "aria-label": "Gradient along the depth in decades, from " + spec.labels[0] + " to " + spec.labels[n - 1] + ": " + spec.series.map((s) => s.name + ", " + defib.number(s.values[0], 2) + " at the first layer").join("; ") },
      ticks.map((t) => [svg("line", { x1: 40, x2: 390, y1: y(t), y2: y(t), class: "rule" }), svg("text", { x: 34, y: y(t) + 4, class: "tick end" }, signed(t))]),
      spec.series.map((s, k) => [svg("polyline", { points: s.values.map((v, i) => x(i) + "," + y(v)).join(" "), class: "line line-" + k }),
        n <= 24 ? s.values.map((v, i) => svg("circle", { cx: x(i), cy: y(v), r: 2.5, class: "point point-" + k })) : null]),
      svg("text", { x: 40, y: 142, class: "tick" }, defib.name(spec.labels[0], 20)), svg("text", { x: 390, y: 142, class: "tick end" }, defib.name(spec.labels[n - 1], 20))),
    el("ul", { class: "keys" }, spec.series.map((s, k) => el("li", {}, el("span", { class: "swatch line-" + k }), s.name)), el("li", { class: "aside" }, "decades, against the gradient at the last activation")),
    defib.fold("table:depth", "Table", () => defib.table("Gradient along the depth", ["layer"].concat(spec.series.map((s) => s.name)),
      spec.labels.map((label, i) => [label].concat(spec.series.map((s) => signed(s.values[i])))), spec.series.map((_, k) => k + 1)), { class: "as-table" }));
  };

  defib.sections.push({ id: "network", title: "Network", draw: network, of: (p) => [p.layers, p.ledger, p.findings, defib.state.window] });
})(window.defib);
