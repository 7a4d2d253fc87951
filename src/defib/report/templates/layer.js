"use strict";
// One layer, chosen by a click: each of its units over time, and its numbers.
(function (defib) {
  const el = defib.el;

  defib.choose = function (row, scroll) {
    defib.state.chosen = defib.state.chosen === row && !scroll ? null : row;
    for (const tr of document.querySelectorAll("#network tr[data-row]")) {
      const mine = Number(tr.dataset.row) === defib.state.chosen;
      tr.classList.toggle("chosen", mine);
      tr.querySelector("button").setAttribute("aria-pressed", String(mine));
    }
    defib.redraw("layer");
    defib.redraw("time");
    const section = document.getElementById("layer");
    if (scroll && section) section.scrollIntoView({ block: "nearest", behavior: "auto" });
  };

  defib.unitMap = function (host, p, row, props) {
    const map = p.units[row];
    const grouped = map.per_row > 1;
    const marks = map.silent_since.map((step, i) => ({ row: i, step })).filter((m) => m.step >= 0);
    return defib.heat(host, {
      title: "Units of " + defib.layerName(p.layers[row]), grid: map.grid, share: true, marks, marksMean: "last gradient",
      labels: null, rowsAre: grouped ? map.per_row + " units" : "unit", rowHeight: 12, least: 2,
      ...props,
      unit: props.quiet ? (grouped ? map.per_row + " units a row" : "one row a unit") : "Share of entries that pass a gradient" + (grouped ? "; " + map.per_row + " units a row, first those that went silent first" : "; one row a unit"),
    });
  };

  function numbers(layer) {
    const s = layer.spread;
    if (!s) return null;
    const rows = [["mean", "mean"], ["std", "standard deviation"], ["low", "lowest"], ["high", "highest"]]
      .map(([k, name]) => [name, defib.number(s.first[k]), defib.number(s.last[k])])
      .concat([["zero", "exactly zero"], ["saturated", "derivative below 1 % of its largest"], ["nonfinite", "not finite"]]
        .map(([k, name]) => [name, defib.percent(s.first[k]), defib.percent(s.last[k])]));
    return defib.table("Activations", ["activations", "from " + defib.step(s.first_step), "from " + defib.step(s.last_step)], rows, [1, 2]);
  }

  function layer(root, p) {
    const row = defib.state.chosen;
    const own = row === null ? null : p.layers[row];
    if (!own) return;
    const facts = [own.kind && defib.name(own.kind, 40), own.activation, own.units && defib.count(own.units, "unit"),
      own.liveness_source && "liveness from " + defib.name(own.liveness_source, 60), own.unseen && "not observed: " + defib.visible(own.unseen)];
    const left = el("div", { class: "map" });
    const right = el("div", { class: "numbers" });
    root.append(el("div", { class: "titled" }, el("h2", {}, "Layer ", el("span", { class: "named" }, defib.layerName(own, 72))),
      el("button", { type: "button", class: "close", "data-key": "close", on: { click: () => defib.choose(row) } }, "Close")),
    el("p", { class: "lead" }, facts.filter(Boolean).join(" · ")), el("div", { class: "two" }, left, right));
    left.append(el("h3", {}, "Each unit over time"));
    if (p.units[row]) defib.unitMap(left, p, row, { key: "units:" + row });
    else left.append(el("p", { class: "aside" }, "No activation of this layer was read."));
    right.append(numbers(own) || "");
    for (const [name, title] of [["gradient", "Gradient norm"], ["ratio", "Update / weight"]]) {
      const grid = p.grids[name];
      if (!grid || !defib.hasRow(grid, row)) continue;
      right.append(el("h3", {}, title));
      defib.lines(right, { key: name + ":" + row, title, series: [defib.rowSeries(grid, row, defib.layerName(own))], log: true, height: 130 });
    }
  }

  // Escape closes the layer, and goes back to where it was opened.
  document.addEventListener("keydown", function (event) {
    const section = document.getElementById("layer");
    if (event.key !== "Escape" || event.defaultPrevented || !section || !section.contains(document.activeElement)) return;
    const row = defib.state.chosen;
    defib.choose(row);
    const button = document.querySelector('#network tr[data-row="' + Number(row) + '"] button');
    if (button) button.focus();
  });

  defib.sections.push({ id: "layer", draw: layer, of: (p) => [defib.state.chosen, p.units, p.grids, p.layers, p.steps] });
})(window.defib);
