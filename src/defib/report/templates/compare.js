"use strict";
// Two runs side by side: what is gone, new, the same; their curves in one plot each.
(function (defib) {
  const el = defib.el;
  const STATES = [
    ["gone", "Gone", "found in A, and not in B, where enough was seen to find it"],
    ["new", "New", "found in B, and not in A, where enough was seen to find it"],
    ["not-judged", "Not judged", "found in one; of the other too little was seen to say"],
    ["same", "The same", "found in both"],
  ];
  const CAME = { "not-asked": "given for no finding: nothing to look for", "too-early": "too early to tell" };
  const word = (text) => String(text).replaceAll("-", " ");
  const section = (title, ...parts) => el("section", { class: "section", id: "part-" + title.split(" ")[0].toLowerCase(), tabindex: "-1" },
    el("h2", {}, title), parts);

  function side(letter, run) {
    const steps = defib.count(run.steps, "step") + (run.first ? " from step " + defib.number(run.first) + " on" : "");
    const found = defib.count(run.troubles, "cause") + " of trouble, " + defib.count(run.notes, "note");
    return [letter, word(run.verdict), found, steps, defib.name(run.status, 30), defib.name(run.path, 70)];
  }

  function severity(f) {
    if (f.before && f.after && f.before !== f.after) return f.before + " before, " + f.after + " now";
    return f.after || f.before || "";
  }

  function units(f) {
    if (!f.units_before && !f.units_after) return "";
    if (f.state === "same" && f.units_before !== f.units_after)
      return defib.number(f.units_before) + " before, " + defib.number(f.units_after) + " now";
    return defib.number(f.units_after || f.units_before);
  }

  const place = (f) => defib.layerName({ path: f.layer, call: f.call }, 40);

  function finding(f) {
    const since = f.after ? f.since_after : f.since_before;
    const facts = [f.cause + (f.cause_before ? " (before: " + f.cause_before + ")" : "") + ": " + f.cause_means.replace(/\.$/, ""), severity(f), units(f) && units(f) + " units"];
    const worst = f.before === "error" || f.after === "error" ? "error" : f.before === "warning" || f.after === "warning" ? "warning" : "";
    return el("article", { class: "card " + worst },
      el("header", {}, el("h3", {}, f.rule), el("span", { class: "where" }, place(f)),
        since === null || since === undefined ? null : el("span", { class: "since" }, "since " + defib.step(since))),
      el("p", { class: "message" }, defib.name(f.message, 320)),
      f.treated.length ? el("p", { class: "message" }, (f.state === "gone" ? "Gone after the treatment " : "Treated with ") + f.treated.join(", ") + ".") : null,
      f.why ? el("p", { class: "aside" }, "Not judged in " + (f.after ? "A" : "B") + ": " + defib.name(f.why, 200)) : null,
      el("p", { class: "aside" }, facts.filter(Boolean).join("; ")));
  }

  function findings(all) {
    return STATES.map(([state, title, means]) => {
      const own = all.filter((f) => f.state === state);
      if (!own.length) return null;
      const effects = own.filter((f) => f.explained);
      return section(title + " (" + own.length + ")", el("p", { class: "aside" }, means),
        own.filter((f) => !f.explained).slice(0, 60).map(finding),
        effects.length ? defib.fold("effects:" + state, defib.count(effects.length, "consequence") + " of other findings",
          () => el("ul", { class: "consequences" }, effects.slice(0, 200).map((f) => el("li", {}, f.rule + " in ", place(f), ": ", defib.name(f.message, 200))))) : null);
    });
  }

  // A learning rate that is one number in both runs needs no plot.
  function still(curve) {
    const values = [curve.before, curve.after].filter(Boolean).flatMap((c) => c.values);
    return curve.goal === null && values.every((v) => v === values[0]) && curve.before && curve.after;
  }

  function curves(all, treated) {
    const box = section("Curves");
    const marks = treated.map((t) => ({ step: t.step, text: t.treatment }));
    for (const curve of all) {
      if (still(curve)) {
        box.append(el("p", {}, defib.name(curve.name, 60) + ": " + defib.number(curve.before.first) + " in both, throughout."));
        continue;
      }
      const both = [["A", curve.before], ["B", curve.after]].filter(([, c]) => c && c.points);
      const series = both.map(([letter, c], i) => ({
        name: letter, steps: c.steps, values: c.values, colour: () => defib.colour("series-" + i),
      }));
      const title = defib.name(curve.name, 60);
      const host = el("div", {}, el("h3", {}, title));
      box.append(host);
      defib.lines(host, { title: title, key: "compare:" + curve.name, series: series, marks: marks, height: 220, keys: true, quiet: true });
      const head = ["", "first", "last", "best", "at step", "points", "not finite"];
      const rows = both.map(([letter, c]) => [letter, defib.number(c.first), defib.number(c.last),
        c.best === "nan" ? "–" : defib.number(c.best), c.best_step < 0 ? "–" : defib.number(c.best_step),
        defib.number(c.points), defib.number(c.nonfinite)]);
      host.append(defib.table(title, head, rows, [1, 2, 3, 4, 5, 6]));
      if (curve.reached !== null) host.append(el("p", {}, "B is as good as A ever was at step " + defib.number(curve.reached) + "."));
    }
    return box;
  }

  const value = (v) => (v === null ? "none" : typeof v === "number" ? defib.number(v) : defib.name(typeof v === "string" ? v : JSON.stringify(v), 120));
  const dose = (t) => Object.entries(t.dose).map(([k, v]) => k + "=" + value(v)).join(", ");

  defib.compare = function (data) {
    defib.data = { steps: Math.max(data.before.first + data.before.steps, data.after.first + data.after.steps, 1) };
    const main = document.getElementById("report");
    main.replaceChildren();
    // In the page before anything is drawn: charts take their width from their place.
    main.append(
      el("section", { class: "section", id: "verdict", tabindex: "-1" }, el("h1", {}, data.sentence[0].toUpperCase() + data.sentence.slice(1) + "."),
        defib.table("The two runs", ["", "verdict", "found", "length", "ended", "record"],
          [side("A", data.before), side("B", data.after)], [])),
      ...findings(data.findings).filter(Boolean));
    if (data.treated.length) {
      main.append(section("Treatments given in B", defib.table("Treatments", ["step", "treatment", "dose", "for", "came of it"],
        data.treated.map((t) => [defib.number(t.step), t.treatment, dose(t),
          t.rule ? t.rule + " in " + defib.layerName({ path: t.layer }, 40) : "asked for", CAME[t.aftermath] && t.stage === "done" ? CAME[t.aftermath] : word(t.stage === "done" ? t.aftermath : t.stage)]), [0])));
    }
    if (data.curves.length) main.append(curves(data.curves, data.treated.filter((t) => t.stage === "done")));
    if (data.settings.length) {
      main.append(section("Settings that differ", defib.table("Settings", ["what", "setting", "A", "B"],
        data.settings.map((s) => [defib.name(s.what, 60), defib.name(s.name, 40), value(s.before), value(s.after)]), [])));
    }
    if (data.notes.length) main.append(section("Keep in mind", el("ul", {}, data.notes.map((n) => el("li", {}, defib.name(n, 240))))));
    document.getElementById("contents").replaceChildren(...Array.from(main.querySelectorAll("section[id^=part-]"),
      (part) => el("a", { href: "#" + part.id }, part.querySelector("h2").textContent)));
  };
})(window.defib);
