// Filters by topic, verdict and text; without this script everything is shown.
"use strict";
(() => {
  const sieve = document.getElementById("sieve");
  const [topic, verdict, text] = ["topic", "verdict", "text"].map((id) => document.getElementById(id));
  const said = document.getElementById("said");
  const rows = [...document.querySelectorAll("[data-topics]")];
  const words = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  const sift = () => {
    const wanted = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const count = { claim: 0, experiment: 0 };
    for (const row of rows) {
      const fits = (!topic.value || row.dataset.topics.split("|").includes(topic.value))
        && (!verdict.value || row.dataset.verdicts.split("|").includes(verdict.value))
        && wanted.every((word) => words.get(row).includes(word));
      row.hidden = !fits;
      count[row.dataset.kind] += fits ? 1 : 0;
    }
    for (const group of document.querySelectorAll("[data-group]")) {
      group.hidden = !group.querySelector("[data-kind]:not([hidden])");
    }
    said.textContent = `${count.claim} claims, ${count.experiment} experiments`;
  };
  const reveal = () => { // a link to what is filtered out shows everything again
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target && target.closest("[hidden]")) {
      topic.value = verdict.value = text.value = "";
      sift();
      target.scrollIntoView();
    }
  };
  const opened = [];
  addEventListener("beforeprint", () => {
    for (const more of document.querySelectorAll("details:not([open])")) { more.open = true; opened.push(more); }
  });
  addEventListener("afterprint", () => { while (opened.length) { opened.pop().open = false; } });
  sieve.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", reveal);
  for (const field of [topic, verdict, text]) { field.addEventListener("input", sift); }
  sieve.hidden = false;
  sift();
  reveal();
})();
