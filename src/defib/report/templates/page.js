"use strict";
// The page as a whole: draws every section, and draws again what has changed.
(function (defib) {
  const el = defib.el;
  const seen = new Map();

  function quoted(path) {
    const plain = String(path || "RUN");
    return /^[\w./@%+=:,-]+$/.test(plain) ? plain : "'" + plain.replace(/'/g, "'\\''") + "'";
  }

  function drawSection(section) {
    const main = document.getElementById("report");
    let root = document.getElementById(section.id);
    if (!root) {
      root = el("section", { id: section.id, class: "section", tabindex: "-1" });
      main.append(root);
    }
    const focus = document.activeElement && root.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    const scrolled = Array.from(root.querySelectorAll(".network-box, .table-box"), (b) => b.scrollTop);
    root.replaceChildren();
    section.draw(root, defib.data);
    root.hidden = !root.childElementCount;
    Array.from(root.querySelectorAll(".network-box, .table-box")).forEach((b, i) => { b.scrollTop = scrolled[i] || 0; });
    if (focus) {
      const again = Array.from(root.querySelectorAll("[data-key]")).find((n) => n.dataset.key === focus);
      if (again) again.focus({ preventScroll: true });
    }
  }

  function contents() {
    const nav = document.getElementById("contents");
    const shown = defib.sections.filter((s) => s.title && !document.getElementById(s.id).hidden);
    nav.replaceChildren(...shown.map((s) => el("a", { href: "#" + s.id }, s.title)));
  }

  defib.redraw = function (id) {
    const section = defib.sections.find((s) => s.id === id);
    if (!section || !defib.data) return;
    drawSection(section);
    defib.prune();
    contents();
  };

  defib.update = function (payload) {
    const height = window.scrollY;
    defib.data = payload;
    payload.command_path = quoted(payload.run.path);
    for (const section of defib.sections) {
      const now = JSON.stringify(section.of(payload));
      if (seen.get(section.id) === now) continue;
      seen.set(section.id, now);
      drawSection(section);
    }
    defib.prune();
    if (defib.state.range) defib.zoom(defib.state.range); // it may not reach beyond the end
    contents();
    window.scrollTo(0, height);
  };

  // The layer to begin with: where the first finding is.
  function first(p) {
    const rows = p.findings.filter((f) => f.severity !== "info").map((f) => f.row).filter((r) => r !== null && r !== undefined && p.units[r]);
    return rows.length ? rows[0] : null;
  }

  defib.show = function (payload) {
    seen.clear();
    defib.state.range = null;
    defib.state.chosen = first(payload);
    document.getElementById("report").replaceChildren();
    defib.update(payload);
  };

  defib.live = function (text, state) {
    const node = document.getElementById("live");
    node.textContent = text;
    node.className = state || "";
  };

  // On paper everything stands open, in the colours of day.
  let before = "";
  window.addEventListener("beforeprint", function () {
    before = defib.state.theme;
    for (const node of document.querySelectorAll("details")) { if (node.fill) node.fill(); node.setAttribute("open", ""); }
    defib.setTheme("light");
  });
  window.addEventListener("afterprint", () => defib.setTheme(before));

  document.getElementById("theme").addEventListener("click", () => defib.setTheme(defib.isDark() ? "light" : "dark"));
  defib.setTheme("");
  const payload = JSON.parse(document.getElementById("portrait").textContent);
  if (payload) defib.show(payload);
})(window.defib);
