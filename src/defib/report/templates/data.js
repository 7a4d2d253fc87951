"use strict";
// Tables of numbers as they come in the payload, and the colours that stand for them.
(function (defib) {
  const cache = new Map();

  // A grid's numbers: NaN where nothing was seen, Infinity where it was not finite.
  defib.decode = function (grid) {
    if (cache.has(grid.data)) return cache.get(grid.data);
    const bytes = Uint8Array.from(atob(grid.data), (c) => c.charCodeAt(0));
    const wide = grid.bits === 16;
    const view = new DataView(bytes.buffer);
    const count = grid.rows * grid.cols;
    const top = Math.pow(2, grid.bits) - 2;
    const first = grid.log ? 2 : 1;
    const values = new Float32Array(count);
    for (let i = 0; i < count; i++) {
      const code = wide ? view.getUint16(2 * i, true) : bytes[i];
      if (code === 0) values[i] = NaN;
      else if (code === top + 1) values[i] = Infinity;
      else if (grid.log && code === 1) values[i] = -Infinity;
      else values[i] = grid.low + ((code - first) / (top - first)) * (grid.high - grid.low);
    }
    if (cache.size > 400) cache.clear();
    cache.set(grid.data, values);
    return values;
  };
  defib.cell = (grid, row, col) => defib.decode(grid)[row * grid.cols + col];

  // One row as a series: 10 to the power where the grid holds logarithms.
  defib.rowSeries = function (grid, row, name) {
    const values = defib.decode(grid);
    const own = [];
    for (let i = 0; i < grid.cols; i++) {
      const v = values[row * grid.cols + i];
      own.push(Number.isNaN(v) || v === Infinity ? null : grid.log ? (v === -Infinity ? 0 : Math.pow(10, v)) : v);
    }
    return { name: name, steps: grid.steps, values: own };
  };
  defib.hasRow = function (grid, row) {
    const values = defib.decode(grid);
    for (let i = row * grid.cols; i < (row + 1) * grid.cols; i++) if (!Number.isNaN(values[i])) return true;
    return false;
  };
  // The column that a step lies in; -1 before the first.
  defib.column = function (grid, step) {
    let low = 0;
    let high = grid.cols;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (grid.steps[middle] <= step) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  };
  defib.said = function (grid, value, share) {
    if (Number.isNaN(value)) return "not read";
    if (value === Infinity) return "not finite";
    if (value === -Infinity) return "exactly 0";
    return share ? defib.percent(value) : defib.number(grid.log ? Math.pow(10, value) : value);
  };

  // Cividis (Nunez, Anderton and Renslow 2018): even in lightness, the same to colour-blind eyes.
  const CIVIDIS = [[0, 34, 78], [18, 53, 112], [59, 73, 108], [87, 93, 109], [112, 113, 115], [138, 134, 120],
    [165, 156, 116], [195, 179, 105], [225, 204, 85], [254, 232, 56]];
  defib.ramp = function (share) {
    const at = Math.min(1, Math.max(0, share)) * (CIVIDIS.length - 1);
    const i = Math.min(CIVIDIS.length - 2, Math.floor(at));
    return CIVIDIS[i].map((c, k) => Math.round(c + (at - i) * (CIVIDIS[i + 1][k] - c)));
  };
  // The ramp as 256 whole pixels.
  let table = null;
  defib.rampTable = function () {
    if (table) return table;
    const bytes = new Uint8ClampedArray(1024);
    for (let i = 0; i < 256; i++) bytes.set([...defib.ramp(i / 255), 255], 4 * i);
    table = new Uint32Array(bytes.buffer);
    return table;
  };
  defib.notFinite = function () {
    const bytes = new Uint8ClampedArray([213, 94, 0, 255]);
    return new Uint32Array(bytes.buffer)[0];
  };
  // A line's colour by depth: the part of the ramp that is seen on the page's ground.
  defib.depthColour = function (share) {
    const [r, g, b] = defib.ramp(defib.isDark() ? 0.3 + 0.7 * share : 0.85 * share);
    return "rgb(" + r + "," + g + "," + b + ")";
  };
})(window.defib);
