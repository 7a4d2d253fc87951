"use strict";
// What was and was not seen, what watching cost, how the page was made, trials, and the rules' own pages.
(function (defib) {
  const el = defib.el;

  function trials(root, p) {
    const t = p.trials;
    if (!t) return;
    const rows = t.comparisons.map((c) => [defib.visible(c.arm), c.answer, defib.number(c.score), defib.number(c.difference),
      c.low === null ? "–" : defib.number(c.low) + " to " + defib.number(c.high), defib.number(c.pairs)]);
    root.append(el("h2", {}, "Trial"),
      el("p", { class: "lead" }, t.best ? defib.visible(t.best) + " helps." : "No treatment was shown to help.",
        " Measured by " + defib.visible(t.measure) + ", " + t.goal + " is better."),
      defib.table("Treatments against the control arm", ["arm", "answer", "median", "difference", "95 % interval", "pairs"], rows, [2, 3, 4, 5]),
      el("ul", { class: "consequences" }, t.comparisons.map((c) => el("li", {}, el("strong", {}, defib.visible(c.arm)),
        (c.course || []).length > 1 ? " (" + c.course.map((word) => defib.visible(word)).join(", then ") + ")" : "", ": ", defib.visible(c.why)))));
  }

  function coverage(root, p) {
    const c = p.coverage;
    const o = p.overhead;
    const by = new Map();
    for (const u of c.not_observed) by.set(u.why, (by.get(u.why) || []).concat(u.what));
    const missing = Array.from(by, ([why, names]) => el("li", {}, el("strong", {}, defib.visible(why)), ": ",
      el("span", { class: "names" }, names.slice(0, 12).map((n) => defib.name(n || "(whole model)", 60)).join(", ") + (names.length > 12 ? " and " + (names.length - 12) + " more" : ""))));
    const more = c.not_observed_count - c.not_observed.length;
    const cost = (o.ratio === null || o.ratio === undefined ? "too short a run for a share" : defib.percent(o.ratio) + " of the training time")
      + ", " + defib.number(o.seconds) + " s in defib's own code" + (o.budget ? "; allowed were " + defib.percent(o.budget) : "");
    root.append(el("h2", {}, "What was seen"),
      el("dl", { class: "wide-facts" },
        fact("Observed", defib.number(c.observed) + " of " + defib.count(c.layers, "layer") + (missing.length ? "; not:" : "")),
        fact("Steps", defib.number(c.steps) + ", activations read on " + defib.number(c.readings) + " of them, " + defib.count(c.samples, "sample")),
        fact("Overhead", cost),
        p.not_run.length ? fact("Rules without an answer", p.not_run.map((n) => defib.visible(n.rule) + ": " + defib.visible(n.why)).join("; ")) : null),
      missing.length ? el("ul", { class: "missing" }, missing, more > 0 ? el("li", {}, "and " + more + " more") : null) : "",
      el("h2", {}, "How this was made"), el("dl", { class: "wide-facts" }, made(p)));
  }
  const fact = (name, value) => el("div", {}, el("dt", {}, name), el("dd", {}, value));

  function made(p) {
    const r = p.run;
    const versions = r.versions && typeof r.versions === "object" ? Object.entries(r.versions).map(([k, v]) => k + " " + v).join(", ") : r.versions;
    return [
      ["Report", p.made.by + ", " + p.made.at + (p.made.command ? ", " + p.made.command : "")],
      ["Record", r.path], ["Script", p.script], ["Started", r.started], ["Status", r.status], ["Versions", versions],
      ["Optimisers", p.optimizers.map((o) => o.kind + ", " + defib.count(o.steps, "step")).join("; ")],
      ["Curves", "of a long run the lowest and the highest value of each bucket of steps are drawn; maps show the most unusual value of each bucket"],
    ].filter(([, v]) => v !== undefined && v !== null && v !== "").map(([k, v]) => fact(k, defib.name(typeof v === "object" ? JSON.stringify(v) : String(v), 400)));
  }

  // ---------------------------------------------------------------- pages

  // A rule's page is Markdown of a simple kind: headings, paragraphs, lists, code blocks.
  function prose(text) {
    const out = [];
    for (const block of text.split(/\n\s*\n/)) {
      const lines = block.split("\n");
      const first = lines[0].replace(/^#+\s*/, "").replace(/:$/, "");
      const underlined = lines.length > 1 && /^[-=~]{3,}\s*$/.test(lines[1]);
      if (/^#+\s/.test(lines[0]) || underlined) {
        out.push(el("h4", {}, defib.visible(first)));
        lines.splice(0, underlined ? 2 : 1);
        if (!lines.length) continue;
      }
      const body = lines.join("\n");
      if (/^( {4}|```|\|)/.test(body)) out.push(el("pre", {}, lines.map((l) => defib.visible(l)).join("\n")));
      else if (/^\s*[-*] /.test(body)) out.push(el("ul", {}, body.split(/\n?^\s*[-*] /m).filter(Boolean).map((item) => el("li", {}, words(item)))));
      else out.push(el("p", {}, words(body)));
    }
    return out;
  }
  function words(text) {
    const plain = text.split("\n").map((l) => defib.visible(l.trim())).join(" ");
    return plain.split(/(`+[^`]+`+)/).map((part) => (part.startsWith("`") ? el("code", {}, part.replace(/`/g, "")) : part));
  }

  defib.openPage = function (slug) {
    const node = Array.from(document.querySelectorAll("#rules details")).find((d) => d.dataset.key === "page:" + slug);
    if (node) node.open = true;
  };
  function pages(root, p) {
    const slugs = Object.keys(p.pages);
    if (!slugs.length) return;
    root.append(el("h2", {}, "Rules"), ...slugs.map((slug) => defib.fold("page:" + slug, slug, () => prose(p.pages[slug]), { class: "page" })));
  }

  defib.sections.push(
    { id: "trials", title: "Trial", draw: trials, of: (p) => p.trials },
    { id: "coverage", title: "Coverage", draw: coverage, of: (p) => [p.coverage, p.overhead, p.not_run, p.made, p.run] },
    { id: "rules", title: "Rules", draw: pages, of: (p) => p.pages });
})(window.defib);
