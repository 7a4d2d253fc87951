"use strict";
// The head of the page: the verdict in one sentence, what was done about it, and the findings as cards.
(function (defib) {
  const el = defib.el;
  const MOST_NUMBERS = 12;
  const WORDS = { healthy: "Healthy", sick: "Sick", "not-observed": "Not observed" };
  const SIGNS = { healthy: "✓", sick: "✕", "not-observed": "?", error: "✕", warning: "!", info: "i" };

  function facts(p) {
    const c = p.coverage;
    const o = p.overhead;
    const cost = o.ratio === null || o.ratio === undefined ? defib.number(o.seconds) + " s" : defib.percent(o.ratio);
    const status = { running: "still running", interrupted: "interrupted" }[p.run.status];
    return [
      ["Run", defib.name(p.title, 48) + (status ? ", " + status : "")],
      ["Steps", defib.number(p.steps)],
      ["Layers observed", defib.number(c.observed) + " of " + defib.number(c.layers)],
      ["Overhead measured", cost],
      ["Optimiser", p.optimizers.map((o2) => defib.name(o2.kind, 24)).join(", ") || "none seen"],
    ];
  }

  function verdict(root, p) {
    const notes = p.verdict.notes;
    root.append(
      el("p", { class: "word " + p.verdict.word }, el("span", { class: "sign", "aria-hidden": "true" }, SIGNS[p.verdict.word]), WORDS[p.verdict.word]),
      el("h1", { id: "sentence" }, defib.visible(p.verdict.sentence)),
      el("dl", { class: "facts" }, facts(p).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))));
    if (!p.verdict.causes && notes) root.append(el("p", { class: "aside" }, defib.count(notes, "note") + " below: worth knowing, no harm."));
  }

  const CAME = {
    gone: "The finding is gone.", eased: "The finding has eased.", stays: "The finding is still there.",
    "too-early": "Too early to tell.", "not-asked": "",
  };
  function treated(root, p) {
    if (!p.treated.length) return;
    root.append(el("h2", {}, "Treatment"), el("ol", { class: "treated" }, p.treated.slice(0, 20).map((t) => el("li", {},
      el("span", { class: "came " + (t.stage === "done" ? t.aftermath : t.stage) },
        t.stage === "done" ? CAME[t.aftermath] || "Given." : t.stage === "undone" ? "Taken back." : "Not given (" + t.stage + ")."),
      " ", defib.visible(t.sentence)))));
  }

  // ---------------------------------------------------------------- cards

  function command(text) {
    const button = el("button", { type: "button", class: "copy", "aria-label": "Copy the command" }, "Copy");
    button.addEventListener("click", function () {
      const done = () => { button.textContent = "Copied"; setTimeout(() => { button.textContent = "Copy"; }, 1500); };
      const plain = function () {
        const area = el("textarea", { readonly: true, class: "hidden" });
        area.value = text;
        document.body.append(area);
        area.select();
        if (document.execCommand("copy")) done();
        area.remove();
      };
      if (navigator.clipboard) navigator.clipboard.writeText(text).then(done, plain); else plain();
    });
    return el("div", { class: "command" }, el("code", {}, defib.visible(text)), button);
  }
  defib.command = command;

  function amount(e) {
    if (typeof e.value === "string") return defib.visible(e.value);
    if (e.unit === "step") return "step " + defib.number(e.value);
    return defib.number(e.value, 3) + (["1", "", e.name].includes(e.unit) || e.name.startsWith(e.unit + " ") ? "" : " " + defib.visible(e.unit));
  }
  function evidence(f) {
    if (!f.evidence.length) return null;
    const list = (items) => el("dl", { class: "evidence" }, items.map((e) =>
      el("div", {}, el("dt", {}, defib.visible(e.name)), el("dd", {}, amount(e)))));
    const rest = f.evidence.slice(MOST_NUMBERS);
    return [list(f.evidence.slice(0, MOST_NUMBERS)), rest.length
      ? defib.fold("evidence:" + f.rule + "|" + f.layer, defib.count(rest.length, "more number"), () => list(rest), { class: "as-table" }) : null];
  }

  function small(host, f, spec, p) {
    const marks = f.since_step === null ? [] : [{ step: f.since_step, text: "since" }];
    const key = [f.rule, f.layer, f.cause, spec.kind, spec.grid || ""].join("|");
    const titled = (title) => host.append(el("h4", {}, title));
    if (spec.kind === "loss" && p.loss.some((s) => s.values.some(Number.isFinite))) {
      titled("Loss");
      defib.lines(host, { key, title: "Loss", series: p.loss.slice(0, 3), marks, height: 150, quiet: true });
    } else if (spec.kind === "row" && p.grids[spec.grid]) {
      const names = { liveness: "Units with a gradient", gradient: "Gradient norm", ratio: "Update / weight" };
      const rows = spec.row === null || spec.row === undefined ? defib.someRows(p, spec.grid) : [spec.row];
      titled(names[spec.grid]);
      defib.lines(host, { key, title: names[spec.grid], share: spec.grid === "liveness", log: spec.grid !== "liveness", marks, height: 150, quiet: true,
        series: rows.map((r) => defib.rowSeries(p.grids[spec.grid], r, defib.layerName(p.layers[r]))) });
    } else if (spec.kind === "units" && p.units[spec.row]) {
      titled("Each unit: what passes a gradient");
      defib.unitMap(host, p, spec.row, { key, tallest: 150, quiet: true });
    } else if (spec.kind === "depth" && p.ledger.backward) {
      titled("Gradient along the depth");
      defib.depthPlot(host, p);
    }
  }

  function consequences(f, p) {
    if (!f.explains.length) return null;
    return defib.fold("explains:" + f.rule + "|" + f.layer + "|" + f.cause,
      "Explains " + defib.count(f.explains_count, "more finding"),
      () => el("ul", { class: "consequences" }, f.explains.map((e) => el("li", {},
        el("strong", {}, defib.visible(e.title)), " ", place(e, p), ". ", defib.visible(e.message)))));
  }

  function place(f, p) {
    const said = [f.where, f.units_text].filter(Boolean).join(", ");
    if (f.row === null || f.row === undefined || !p.layers[f.row]) return el("span", { class: "where" }, said);
    return el("button", { type: "button", class: "where link", "data-key": "where:" + f.rule + f.row,
      on: { click: () => defib.choose(f.row, true) } }, said);
  }

  function prescriptions(f, p) {
    const given = f.prescriptions.map((r, i) => el("li", {},
      el("p", {}, el("strong", {}, defib.visible(r.treatment)), ": ", defib.visible(r.reason)),
      el("p", { class: "aside" }, r.safety_means + (i === 0 && f.prescriptions.length > 1 ? "; the most promising" : "")),
      r.command ? command(r.command) : null,
      r.patch ? el("pre", { class: "patch" }, defib.visible(r.patch.slice(0, 1500))) : null));
    if (given.length) return [el("h4", {}, "Prescription"), el("ol", { class: "prescriptions" }, given)];
    if (f.severity === "info" || p.prescribed) return null;
    return [el("h4", {}, "What helps"), command("defib prescribe " + p.command_path)];
  }

  function card(f, p) {
    const key = f.rule + "|" + f.layer + "|" + f.cause + "|" + f.call;
    const plots = el("div", { class: "plots" });
    const since = f.since_step === null ? null : el("span", { class: "since" }, "since step " + defib.number(f.since_step));
    const node = el("article", { class: "card " + f.severity, "aria-label": f.severity + ": " + defib.visible(f.title) },
      el("header", {}, el("span", { class: "sign", "aria-hidden": "true" }, SIGNS[f.severity]),
        el("h3", {}, defib.visible(f.title)), place(f, p), since),
      p.verdict.sentence.toLowerCase().startsWith(f.message.toLowerCase()) ? null : el("p", { class: "message" }, defib.visible(f.message)),
      plots,
      el("div", { class: "columns" },
        el("div", { class: "why" },
          el("h4", {}, "Cause"),
          el("p", {}, el("strong", {}, f.cause), f.cause_means ? ": " + f.cause_means : ""),
          f.prognosis_lines.length ? [el("h4", {}, "Prognosis"), f.prognosis_lines.map((line) => el("p", {}, defib.visible(line) + "."))] : null,
          prescriptions(f, p)),
        el("div", { class: "proof" }, el("h4", {}, "Evidence"), evidence(f),
          el("p", { class: "aside" }, "Rests on what is " + f.confidence + ": " + f.confidence_means))),
      consequences(f, p),
      el("footer", {}, f.try_next.map((line) => el("code", {}, defib.visible(line))),
        p.pages[f.rule] ? el("a", { href: "#rules", on: { click: () => defib.openPage(f.rule) } }, "About this rule") : null));
    for (const spec of f.plots) {
      const host = el("div", { class: "small" });
      small(host, f, spec, p);
      if (host.childElementCount) plots.append(host);
    }
    node.key = key;
    return node;
  }

  function note(f, p) {
    return el("li", {}, el("span", { class: "sign", "aria-hidden": "true" }, SIGNS.info), el("div", {},
      el("strong", {}, defib.visible(f.title)), " ", place(f, p), " ", defib.visible(f.message) + ".",
      f.prognosis_lines.length ? el("span", { class: "aside" }, " " + f.prognosis_lines.map((s) => defib.visible(s)).join("; ") + ".") : null));
  }

  function findings(root, p) {
    const harmful = p.findings.filter((f) => f.severity !== "info");
    const notes = p.findings.filter((f) => f.severity === "info");
    if (harmful.length) root.append(el("h2", {}, harmful.length === 1 ? "The cause" : "Causes, the most fundamental first"));
    harmful.forEach((f) => root.append(card(f, p)));
    const missing = p.verdict.causes - harmful.length;
    if (missing > 0) root.append(el("p", { class: "aside" }, "and " + defib.count(missing, "more cause") + ": defib diagnose --json"));
    if (!notes.length) return;
    const first = notes.length < p.verdict.notes ? "; the first " + notes.length + " of them" : "";
    const list = () => el("ul", { class: "notes" }, notes.map((f) => note(f, p)));
    root.append(defib.fold("notes", defib.count(p.verdict.notes, "note") + ": worth knowing, no harm" + first, list));
  }

  defib.sections.push(
    { id: "verdict", draw: verdict, of: (p) => [p.verdict, p.run, p.coverage, p.overhead, p.optimizers, p.steps, p.title] },
    { id: "treatment", title: "Treatment", draw: treated, of: (p) => p.treated },
    { id: "findings", title: "Findings", draw: findings, of: (p) => [p.findings, p.loss, p.grids, p.ledger, p.steps, p.pages] });
})(window.defib);
