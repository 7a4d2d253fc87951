"use strict";
// A table of row x step as colours on a canvas, to be read by eye, mouse and keyboard.
(function (defib) {
  const el = defib.el;
  const HEAD = 6;
  const FOOT = 20 + HEAD;

  function geometry(chart) {
    const { grid, spec, host } = chart;
    const width = Math.max(160, host.clientWidth);
    const left = spec.labels ? Math.min(spec.labelWidth || 150, Math.round(width * 0.32)) : 44;
    const tall = Math.max(1, Math.min(spec.rowHeight || 18, Math.max(spec.least || 3, (spec.tallest || 360) / grid.rows)));
    return { width, left, right: 8, tall, height: Math.round(tall * grid.rows), inner: width - left - 8 };
  }

  // The cells are set one by one in a picture of one line a row, which is then stretched over the place.
  function paintCells(chart, ctx, g) {
    const { grid, spec } = chart;
    const values = defib.decode(grid);
    const [from, to] = defib.span();
    const scale = 255 / ((grid.high - grid.low) || 1);
    const pixels = Math.max(1, Math.floor(g.inner * (devicePixelRatio || 1)));
    const columns = new Int32Array(pixels);
    for (let x = 0; x < pixels; x++) {
      const step = from + ((x + 0.5) / pixels) * (to - from);
      columns[x] = step < grid.end ? defib.column(grid, step) : -1;
    }
    const ramp = defib.rampTable();
    const bad = defib.notFinite();
    const image = new ImageData(pixels, grid.rows);
    const out = new Uint32Array(image.data.buffer);
    for (let row = 0; row < grid.rows; row++) {
      for (let x = 0; x < pixels; x++) {
        const value = columns[x] < 0 ? NaN : values[row * grid.cols + columns[x]];
        if (Number.isNaN(value)) continue;
        const code = value === -Infinity ? 0 : Math.round((value - grid.low) * scale);
        out[row * pixels + x] = value === Infinity ? bad : ramp[spec.down ? 255 - code : code];
      }
    }
    const picture = new OffscreenCanvas(pixels, grid.rows);
    picture.getContext("2d").putImageData(image, 0, 0);
    ctx.imageSmoothingEnabled = false;
    ctx.drawImage(picture, g.left, 0, g.inner, g.height);
    if (g.tall <= 10) return;
    ctx.fillStyle = defib.colour("ground");
    for (let row = 1; row < grid.rows; row++) ctx.fillRect(g.left, Math.round(row * g.tall) - 1, g.inner, 1);
  }

  function paintUnseen(chart, ctx, g) {
    ctx.fillStyle = defib.colour("unseen");
    ctx.fillRect(g.left, 0, g.inner, g.height);
  }

  function paintLabels(chart, ctx, g) {
    const { grid, spec } = chart;
    ctx.font = "11px " + defib.colour("mono");
    ctx.textBaseline = "middle";
    ctx.textAlign = "right";
    const every = Math.max(1, Math.ceil(13 / g.tall));
    const most = Math.max(4, Math.floor((g.left - 10) / 6.7));
    for (let row = 0; row < grid.rows; row++) {
      const named = row % every === 0 || (chart.at && chart.at[0] === row);
      if (!named || (chart.at && chart.at[0] !== row && Math.abs(chart.at[0] - row) < every)) continue;
      ctx.fillStyle = defib.colour(chart.at && chart.at[0] === row ? "ink" : "ink-2");
      ctx.fillText(defib.name(spec.labels ? spec.labels(row) : String(row), most), g.left - 8, (row + 0.5) * g.tall);
    }
    ctx.fillStyle = defib.colour("ink-3");
    ctx.font = "11px " + defib.colour("sans");
    ctx.textBaseline = "top";
    const [from, to] = defib.span();
    for (const [share, align] of [[0, "left"], [0.5, "center"], [1, "right"]]) {
      ctx.textAlign = align;
      ctx.fillText(defib.number(Math.round(from + share * (to - from))), g.left + share * g.inner, g.height + 6);
    }
  }

  function paintMarks(chart, ctx, g) {
    const [from, to] = defib.span();
    const x = (step) => g.left + ((step - from) / (to - from)) * g.inner;
    for (const mark of chart.spec.marks || []) {
      if (mark.step < from || mark.step > to) continue;
      const middle = (mark.row + 0.5) * g.tall;
      const size = Math.max(1.2, Math.min(g.tall / 2 - 1, 5) * (mark.size === undefined ? 0.7 : 0.3 + 0.7 * mark.size));
      ctx.beginPath();
      ctx.arc(x(mark.step), middle, size, 0, 2 * Math.PI);
      ctx.fillStyle = defib.colour("mark");
      ctx.fill();
      if (g.tall > 6) { ctx.strokeStyle = defib.colour("ground"); ctx.lineWidth = 1; ctx.stroke(); }
    }
    for (const step of chart.spec.lines || []) {
      if (step < from || step > to) continue;
      ctx.fillStyle = defib.colour("ground");
      ctx.fillRect(x(step) - 1.5, 0, 3, g.height);
      ctx.fillStyle = defib.colour("accent");
      ctx.fillRect(x(step) - 0.5, 0, 1, g.height);
    }
    if (chart.at) {
      const [row, col] = chart.at;
      const end = col + 1 < chart.grid.cols ? chart.grid.steps[col + 1] : chart.grid.end;
      const left = Math.max(g.left, x(chart.grid.steps[col]));
      ctx.strokeStyle = defib.colour("focus");
      ctx.lineWidth = 2;
      ctx.strokeRect(left, row * g.tall + 1, Math.max(4, Math.min(g.left + g.inner, x(end)) - left), Math.max(3, g.tall - 2));
    }
  }

  function paint(chart) {
    const g = (chart.g = geometry(chart));
    const ratio = devicePixelRatio || 1;
    const canvas = chart.plot;
    canvas.width = g.width * ratio;
    canvas.height = (g.height + FOOT) * ratio;
    canvas.style.width = g.width + "px";
    canvas.style.height = g.height + FOOT + "px";
    const ctx = canvas.getContext("2d");
    ctx.scale(ratio, ratio);
    ctx.translate(0, HEAD);
    paintUnseen(chart, ctx, g);
    paintCells(chart, ctx, g);
    paintLabels(chart, ctx, g);
    paintMarks(chart, ctx, g);
  }

  function tell(chart) {
    const { grid, spec, at } = chart;
    if (!at) { chart.readout.textContent = spec.unit || ""; return; }
    const name = spec.labels ? defib.name(spec.labels(at[0]), 60) : "unit " + at[0];
    const value = defib.said(grid, defib.cell(grid, at[0], at[1]), spec.share);
    chart.readout.textContent = name + ", " + defib.step(grid.steps[at[1]]) + ": " + value;
  }

  function place(chart, event) {
    const box = chart.plot.getBoundingClientRect();
    const row = Math.floor((event.clientY - box.top - HEAD) / chart.g.tall);
    const share = (event.clientX - box.left - chart.g.left) / chart.g.inner;
    const [from, to] = defib.span();
    const col = defib.column(chart.grid, from + Math.min(0.9999, Math.max(0, share)) * (to - from));
    return row < 0 || row >= chart.grid.rows || col < 0 ? null : [row, col];
  }

  function key(chart, event) {
    const { grid } = chart;
    const [row, col] = chart.at || [0, 0];
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    if (event.key in moves) {
      const [down, right] = chart.at ? moves[event.key] : [0, 0];
      chart.at = [Math.min(grid.rows - 1, Math.max(0, row + down)), Math.min(grid.cols - 1, Math.max(0, col + right))];
    } else if (event.key === "Home") chart.at = [row, 0];
    else if (event.key === "End") chart.at = [row, grid.cols - 1];
    else if ((event.key === "Enter" || event.key === " ") && chart.at && chart.spec.choose) chart.spec.choose(row);
    else if (event.key === "Escape" && chart.at) chart.at = null;
    else { if (defib.zoomKey(event.key)) event.preventDefault(); return; }
    event.preventDefault();
    paint(chart);
    tell(chart);
  }

  function drag(chart) {
    let start = null;
    chart.plot.addEventListener("pointerdown", function (event) {
      start = event.clientX;
      chart.plot.setPointerCapture(event.pointerId); // the end of a drag is told here, wherever it is
    });
    chart.plot.addEventListener("pointerup", function (event) {
      if (start === null) return;
      const box = chart.plot.getBoundingClientRect();
      const [from, to] = defib.span();
      const at = (x) => from + ((x - box.left - chart.g.left) / chart.g.inner) * (to - from);
      const [a, b] = [Math.min(start, event.clientX), Math.max(start, event.clientX)];
      start = null;
      if (b - a > 8) { chart.dragged = true; defib.zoom([at(a), at(b)]); }
    });
    chart.plot.addEventListener("dblclick", () => defib.zoom(null));
  }

  function legend(chart) {
    const { grid, spec } = chart;
    const bar = el("canvas", { width: 96, height: 8, class: "ramp", "aria-hidden": "true" });
    const ctx = bar.getContext("2d");
    for (let x = 0; x < 96; x++) {
      ctx.fillStyle = "rgb(" + defib.ramp(spec.down ? 1 - x / 95 : x / 95).join(",") + ")";
      ctx.fillRect(x, 0, 1, 8);
    }
    const said = (v) => (spec.share ? defib.percent(v) : defib.number(grid.log ? Math.pow(10, v) : v));
    return el("span", { class: "scale" }, said(grid.low), bar, said(grid.high),
      el("span", { class: "sample" }, el("span", { class: "swatch unseen" }), "not read"),
      spec.marks && spec.marks.length ? el("span", { class: "sample" }, el("span", { class: "dot" }), spec.marksMean) : null);
  }

  function table(chart) {
    const { grid, spec } = chart;
    const every = Math.max(1, Math.ceil(grid.cols / 10));
    const cols = Array.from({ length: grid.cols }, (_, i) => i).filter((i) => i % every === 0 || i === grid.cols - 1);
    const rows = Array.from({ length: Math.min(grid.rows, 200) }, (_, row) =>
      [spec.labels ? defib.name(spec.labels(row), 40) : "unit " + row].concat(cols.map((c) => defib.said(grid, defib.cell(grid, row, c), spec.share))));
    return defib.table(spec.title, [spec.rowsAre || "layer"].concat(cols.map((c) => defib.step(grid.steps[c]))), rows,
      cols.map((_, i) => i + 1));
  }

  // spec: title, unit, grid, labels(row), choose(row), share, marks [{row, step}], marksMean, lines [step], rowHeight, tallest
  defib.heat = function (host, spec) {
    const canvas = el("canvas", { class: "heat", "aria-hidden": "true" });
    const readout = el("p", { class: "readout", "aria-live": "polite" });
    const box = el("div", {
      class: "plot", tabindex: "0", role: "group", "data-key": "plot:" + (spec.key || spec.title),
      "aria-label": spec.title + ", " + defib.count(spec.grid.rows, "row") + " over steps. Arrow keys read cells"
        + (spec.choose ? ", Enter opens a layer" : "") + ", plus and minus zoom, Escape goes back.",
    }, canvas);
    const chart = { host: box, plot: canvas, grid: spec.grid, spec, at: null, readout, g: null };
    chart.paint = () => { if (box.clientWidth) paint(chart); };
    chart.zoomed = chart.paint;
    chart.sized = () => { if (!chart.g || chart.g.width !== box.clientWidth) chart.paint(); };
    box.addEventListener("keydown", (event) => key(chart, event));
    canvas.addEventListener("pointermove", (e) => { chart.at = place(chart, e); paint(chart); tell(chart); });
    canvas.addEventListener("pointerleave", () => { chart.at = null; paint(chart); tell(chart); });
    canvas.addEventListener("click", function (event) {
      const at = place(chart, event);
      if (at && spec.choose && !chart.dragged) spec.choose(at[0]);
      chart.dragged = false;
    });
    if (spec.choose) canvas.classList.add("can-choose");
    drag(chart);
    host.append(box, el("div", { class: "under" }, readout, legend(chart)));
    if (!spec.quiet) host.append(defib.fold("table:" + (spec.key || spec.title), "Table", () => table(chart), { class: "as-table" }));
    tell(chart);
    defib.drawn.push(chart);
    defib.later(chart);
    return chart;
  };
})(window.defib);
