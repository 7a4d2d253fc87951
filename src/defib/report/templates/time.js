"use strict";
// What happened over time: the loss with its events, and each layer's liveness, gradient and updates.
(function (defib) {
  const el = defib.el;
  const MOST_LINES = 24;

  // Layers that are drawn as lines: all, or evenly along the depth, and always the chosen one.
  defib.someRows = function (p, name) {
    const grid = p.grids[name];
    const rows = p.layers.map((_, i) => i).filter((i) => defib.hasRow(grid, i));
    const every = Math.max(1, Math.ceil(rows.length / MOST_LINES));
    return rows.filter((r, i) => i % every === 0 || i === rows.length - 1 || r === defib.state.chosen);
  };

  function events(p) {
    return p.events.filter((e) => e.step >= 0).slice(0, 40);
  }

  function resolution(s) {
    if (!s.thinned) return "every step";
    const width = Math.round(s.points / (s.steps.length / 2));
    return "lowest and highest of each bucket of " + defib.number(width) + " steps";
  }

  function loss(root, p) {
    if (!p.loss.length) { root.append(el("p", { class: "aside" }, "No loss was seen.")); return; }
    const marks = events(p);
    const series = p.loss.concat(p.logged).filter((s) => s.values.some(Number.isFinite));
    root.append(el("h3", {}, "Loss"));
    const broken = p.loss.flatMap((s) => s.broken);
    if (series.length) defib.lines(root, { key: "loss", title: "Loss", series, marks, numbered: true, keys: series.length > 1, height: 260,
      unit: resolution(p.loss[0]) });
    if (broken.length) {
      const first = broken.slice(0, 8).map((s) => defib.number(s)).join(", ");
      root.append(el("p", { class: "bad-text" }, "Not finite at step " + first + (broken.length > 8 ? " …" : "")));
    }
    const words = (e) => [defib.visible(e.kind), e.text ? ": " + defib.visible(e.text) : ""];
    if (marks.length) {
      root.append(el("ol", { class: "events" }, marks.map((m) => el("li", {}, el("strong", {}, defib.step(m.step)), " ", words(m)))));
    }
    const rest = p.events.filter((e) => e.step < 0).slice(0, 12);
    if (rest.length) root.append(el("p", { class: "aside" }, "Not tied to a step: " + rest.map((e) => words(e).join("")).join("; ")));
    const moving = p.lr.filter((s) => s.values.some((v) => v !== s.values[0]));
    const still = p.lr.filter((s) => !moving.includes(s) && s.values.length);
    if (moving.length) {
      root.append(el("h3", {}, "Learning rate"));
      defib.lines(root, { key: "lr", title: "Learning rate", series: moving, height: 110, log: false, quiet: true, keys: moving.length > 1 });
    }
    if (p.curvature && p.curvature.length) {
      root.append(el("h3", {}, "Rate x curvature"));
      defib.lines(root, { key: "curvature", title: "Rate x curvature", series: p.curvature, height: 150, keys: true,
        unit: "Learning rate times the largest curvature of the loss; beyond what can be followed the steps overshoot further each time" });
    }
    if (still.length) root.append(el("p", { class: "aside" }, still.map((s) => defib.visible(s.name) + ": learning rate " + defib.number(s.values[0]) + " throughout").join("; ")));
  }

  // When units went silent for good; a larger dot for more of them.
  function deaths(p) {
    return Object.entries(p.deaths).flatMap(([row, list]) =>
      list.map(([step, count]) => ({ row: Number(row), step, size: Math.sqrt(count / Math.max(1, p.layers[row].units)) })));
  }

  function liveness(root, p) {
    const grid = p.grids.liveness;
    if (!grid) return;
    root.append(el("h3", {}, "Liveness"));
    defib.heat(root, { key: "liveness", title: "Share of units with a gradient, layer by step", unit: "Share of each layer's units that get a gradient",
      grid, share: true, labels: (r) => defib.layerName(p.layers[r], 40), choose: (r) => defib.choose(r, true),
      marks: deaths(p), marksMean: "units go silent for good", lines: p.treated.filter((t) => t.stage === "done").map((t) => t.step) });
  }

  function both(root, p, name, title, unit) {
    const grid = p.grids[name];
    if (!grid) return;
    const as = defib.state.as[name] || (p.layers.length > 12 ? "heat" : "lines");
    const host = el("div", {});
    root.append(el("div", { class: "titled" }, el("h3", {}, title), defib.choice("Show " + title + " as", [["lines", "Lines"], ["heat", "Map"]], as,
      (value) => { defib.state.as[name] = value; defib.redraw("time"); })), host);
    if (as === "heat") {
      defib.heat(host, { key: name, title: title + ", layer by step", unit, grid, labels: (r) => defib.layerName(p.layers[r], 40), choose: (r) => defib.choose(r, true) });
      return;
    }
    const rows = defib.someRows(p, name);
    const series = rows.map(function (r) {
      const at = p.layers.length < 2 ? 0 : r / (p.layers.length - 1);
      const mine = defib.state.chosen === r;
      return { ...defib.rowSeries(grid, r, defib.layerName(p.layers[r])), strong: mine, colour: () => (mine ? defib.colour("accent") : defib.depthColour(at)) };
    });
    defib.lines(host, { key: name, title, series, log: true, keys: true, unit: unit + "; from the first layer (dark end of the scale) to the last" });
  }

  function time(root, p) {
    root.append(el("div", { class: "titled" }, el("h2", {}, "Over time"),
      el("span", { class: "aside hint" }, "Drag to zoom, double click for all. "),
      el("button", { type: "button", id: "zoom-reset", hidden: !defib.state.range, on: { click: () => defib.zoom(null) } }, "All steps")));
    for (const [draw, ...rest] of [[loss], [liveness], [both, "gradient", "Gradient flow", "Norm of each layer's gradient"],
      [both, "ratio", "Update / weight", "Size of a step against the size of the weights; about 0.001 is usual"]]) {
      const part = el("section", { class: "part" });
      draw(part, p, ...rest);
      if (part.childElementCount) root.append(part);
    }
  }

  defib.sections.push({ id: "time", title: "Over time", draw: time,
    of: (p) => [p.loss, p.logged, p.lr, p.curvature, p.events, p.grids, p.steps, defib.state.chosen, defib.state.as] });
})(window.defib);
