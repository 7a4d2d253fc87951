"use strict";
// Curves over steps, drawn by uPlot. All of them share one range of steps.
(function (defib) {
  const el = defib.el;
  const MOST_ROWS = 40;
  const WHOLE = Array.from({ length: 10 }, (_, e) => [1, 2, 5].map((k) => k * Math.pow(10, e))).flat(); // steps are

  function table(spec) {
    const steps = Array.from(new Set(spec.series.flatMap((s) => s.steps))).sort((a, b) => a - b);
    const every = Math.max(1, Math.ceil(steps.length / MOST_ROWS));
    const chosen = steps.filter((_, i) => i % every === 0 || i === steps.length - 1);
    const at = spec.series.slice(0, 12).map((s) => new Map(s.steps.map((step, i) => [step, s.values[i]])));
    const said = (v) => (v === undefined ? "" : v === null ? "not finite" : spec.share ? defib.percent(v) : defib.number(v));
    return defib.table(spec.title, ["step"].concat(spec.series.slice(0, 12).map((s) => defib.name(s.name, 24))),
      chosen.map((step) => [defib.number(step)].concat(at.map((m) => said(m.get(step))))));
  }

  function joined(spec, log) {
    const own = spec.series.map((s) => [s.steps, s.values.map((v) => (log && !(v > 0) ? null : v))]);
    return own.length ? uPlot.join(own) : [[0], [null]];
  }

  // Whole powers of ten, for a logarithmic axis; uPlot's own come to no end far below 1e-20.
  const decade = (v) => Math.log10(Math.max(v, 1e-300));
  function tens(_, low, high) {
    if (!(high > 0)) return [0.1, 1];
    const [from, to] = [Math.floor(decade(low) + 1e-9), Math.ceil(decade(high) - 1e-9)];
    return [Math.pow(10, from), Math.pow(10, to === from ? to + 1 : to)];
  }
  function powers(u, _, low, high) {
    const [from, to] = [Math.round(decade(low)), Math.round(decade(high))];
    const every = Math.max(1, Math.ceil((to - from) / Math.max(1, u.bbox.height / (devicePixelRatio || 1) / 22)));
    const found = [];
    for (let e = from; e <= to; e += every) found.push(Math.pow(10, e));
    return found;
  }

  function axes(spec, log) {
    const ink = defib.colour("ink-3");
    const rule = { stroke: defib.colour("line-2"), width: 1 };
    const font = "11px " + defib.colour("sans");
    const base = { stroke: ink, font: font, grid: rule, ticks: { show: false } };
    const values = (_, splits) => splits.map((v) => (v === null ? "" : spec.share ? defib.percent(v) : defib.tick(v)));
    return [
      { ...base, grid: { show: false }, size: 30, gap: 8, incrs: WHOLE, values: (_, s) => s.map((v) => (v === null ? "" : defib.tick(v))) },
      { ...base, size: 52, gap: 4, values: values, space: spec.height < 180 ? 22 : 32, ...(log ? { splits: powers, filter: (_, splits) => splits } : {}) },
    ];
  }

  function marks(spec) {
    return function (u) {
      const ctx = u.ctx;
      const ratio = devicePixelRatio || 1;
      ctx.save();
      ctx.font = 10 * ratio + "px " + defib.colour("sans");
      ctx.textAlign = "center";
      for (const [i, mark] of (spec.marks || []).entries()) {
        const x = u.valToPos(Math.max(0, mark.step), "x", true);
        if (x < u.bbox.left || x > u.bbox.left + u.bbox.width) continue;
        ctx.strokeStyle = ctx.fillStyle = mark.colour || defib.colour("accent");
        ctx.setLineDash([3 * ratio, 3 * ratio]);
        ctx.lineWidth = ratio;
        ctx.beginPath();
        ctx.moveTo(x, u.bbox.top);
        ctx.lineTo(x, u.bbox.top + u.bbox.height);
        ctx.stroke();
        if (spec.numbered) ctx.fillText(String(i + 1), x, u.bbox.top - 3 * ratio);
      }
      ctx.restore();
    };
  }

  function options(spec, width, log, chart) {
    const strokes = spec.series.map((s, i) => s.colour ? s.colour() : defib.colour("series-" + (i % 7)));
    return {
      width: width,
      height: spec.height || 220,
      legend: { show: false },
      padding: [spec.numbered ? 16 : 8, 12, 0, 0],
      cursor: {
        drag: { x: true, y: false, setScale: false },
        points: { size: 5 },
        bind: { dblclick: () => () => defib.zoom(null) },
      },
      scales: { x: { time: false, range: () => defib.span() }, y: spec.share ? { range: [0, 1.02] } : log ? { distr: 3, range: tens } : {} },
      axes: axes(spec, log),
      series: [{}].concat(spec.series.map((s, i) => ({
        label: defib.name(s.name, 40), stroke: strokes[i], width: s.strong ? 2.2 : spec.series.length > 8 ? 1 : 1.6,
        points: { show: s.steps.length < 3 }, spanGaps: false,
      }))),
      hooks: {
        draw: [marks(spec)],
        setSelect: [(u) => {
          if (u.select.width > 4) {
            defib.zoom([u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x")]);
          }
          u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
        }],
        setCursor: [(u) => chart.tell(u.cursor.idx)],
      },
    };
  }

  // spec: title, unit, series [{name, steps, values, colour(), strong}], marks [{step, text}], share, log, height,
  // numbered (marks are numbered), keys (show a legend), quiet (no table)
  defib.lines = function (host, spec) {
    const positive = spec.series.flatMap((s) => s.values).filter((v) => v > 0);
    const all = spec.series.flatMap((s) => s.values).filter((v) => v !== null);
    const ratio = positive.reduce((m, v) => Math.max(m, v), 0) / positive.reduce((m, v) => Math.min(m, v), Infinity);
    const log = spec.log === undefined ? positive.length > 0.9 * all.length && ratio > 100 : spec.log && positive.length > 0;
    const readout = el("p", { class: "readout", "aria-live": "polite" });
    const box = el("div", {
      class: "plot", tabindex: "0", role: "group", "data-key": "plot:" + (spec.key || spec.title),
      "aria-label": spec.title + ", " + defib.count(spec.series.length, "curve") + " over steps. Arrow keys read values, plus and minus zoom, 0 shows all.",
    });
    const chart = { host: box, plot: null };
    const data = joined(spec, log);
    chart.tell = function (index) {
      if (index === null || index === undefined) { readout.textContent = spec.unit || ""; return; }
      const said = spec.series.map((s, i) => [s, data[i + 1][index]]).filter((p) => p[1] !== undefined && p[1] !== null).slice(0, 6)
        .map(([s, v]) => (spec.series.length > 1 ? defib.name(s.name, 24) + " " : "") + (spec.share ? defib.percent(v) : defib.number(v)));
      readout.textContent = defib.step(data[0][index]) + ": " + (said.join(", ") || "not read");
    };
    chart.paint = function () {
      if (chart.plot) chart.plot.destroy();
      const width = Math.max(120, box.clientWidth);
      chart.plot = new uPlot(options(spec, width, log, chart), data, box);
      chart.width = width;
    };
    chart.zoomed = () => chart.plot && chart.plot.setScale("x", { min: defib.span()[0], max: defib.span()[1] });
    chart.sized = function () { if (box.clientWidth && box.clientWidth !== chart.width) chart.paint(); };
    let at = -1;
    box.addEventListener("keydown", function (event) {
      const last = data[0].length - 1;
      if (event.key === "ArrowRight") at = Math.min(last, at + 1);
      else if (event.key === "ArrowLeft") at = at < 0 ? last : Math.max(0, at - 1);
      else { if (defib.zoomKey(event.key)) event.preventDefault(); return; }
      event.preventDefault();
      const u = chart.plot;
      const y = data.slice(1).map((d) => d[at]).find((v) => v !== null && v !== undefined);
      u.setCursor({ left: u.valToPos(data[0][at], "x"), top: y === undefined ? 5 : u.valToPos(y, "y") }, true);
      chart.tell(at);
    });
    host.append(box, readout);
    if (spec.keys) host.append(defib.keys(spec));
    if (!spec.quiet) host.append(defib.fold("table:" + (spec.key || spec.title), "Table", () => table(spec), { class: "as-table" }));
    readout.textContent = spec.unit || "";
    defib.drawn.push(chart);
    defib.later(chart);
    return chart;
  };

  defib.keys = (spec) => el("ul", { class: "keys" }, spec.series.slice(0, 16).map((s, i) => el("li", {},
    el("span", { class: "swatch", style: { background: s.colour ? s.colour() : "var(--series-" + (i % 7) + ")" } }), defib.name(s.name, 40))));

  // Charts are painted once their place on the page has a width, and again when that changes.
  const watcher = new ResizeObserver((entries) => requestAnimationFrame(() => {
    for (const { target } of entries) {
      if (!target.isConnected) watcher.unobserve(target);
      else if (target.clientWidth && !target.chart.plot) target.chart.paint();
      else if (target.clientWidth) target.chart.sized();
    }
  }));
  defib.later = function (chart) {
    chart.host.chart = chart;
    if (chart.host.isConnected && chart.host.clientWidth) chart.paint();
    watcher.observe(chart.host);
  };
})(window.defib);
