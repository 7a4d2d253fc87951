"""The lab's page: one file, nothing from elsewhere, everything told, nothing believed."""

import base64
import hashlib
import math
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from defib.core.errors import NotFound
from defib.lab import prose
from defib.lab.dials import Scale
from defib.lab.estimate import Estimate, Verdict, at_most, exact
from defib.lab.experiment import Measurement, Part, Published
from defib.lab.experiments.dead_unit_gradients import DeadUnitGradients
from defib.lab.figure import Figure, Kind, Line, bars, line
from defib.lab.html_parts import figure
from defib.lab.index import Claim, experiments
from defib.lab.index import page as docstring
from defib.lab.markdown import pages
from defib.lab.overview import overview
from defib.lab.page import page, write
from defib.lab.plot import colours, svg
from defib.lab.result import Order, Result, key, results, written

HOSTILE = "<img src=x onerror=alert(1)> $x_1$ & \"quoted\" | 'cell'"
CLAIMS = {
    "S0-1": Claim(row="S0-1", says="a dead unit gets no gradient", judged=Verdict.TRUE),
    "S1-1": Claim(row="S1-1", says=f"it feeds nothing {HOSTILE}", judged=Verdict.TRUE),
    "S9-9": Claim(row="S9-9", says="it is beautiful", judged=None, untestable="a matter of taste"),
    "S9-8": Claim(row="S9-8", says="nobody looked", judged=Verdict.FALSE),
}
KNOWN = {DeadUnitGradients.slug: DeadUnitGradients}
PLOT = Figure(title="gradient", x="step", y="norm", lines=(line("a", [0, 1, 2], [1, 2, 4]),))


def result(
    *, first: float = 0.0, second: float = 0.0, seed: int = 0, scale: Scale = Scale.SMALL, plot: Figure = PLOT
) -> Result:
    """A result of the experiment on dead units whose numbers were made up."""
    parts = (
        Part(
            row="S0-1",
            says="no gradient",
            estimate=exact(first, n=7),
            region=at_most(0.0),
            published=Published(value=0.125, source="Lu et al. 2019"),
        ),
        Part(row="S1-1", says=HOSTILE, estimate=exact(second), region=at_most(0.0)),
    )
    return Result(
        order=Order(slug=DeadUnitGradients.slug, seed=seed, scale=scale, overrides={}),
        dials={"networks": 10, "slope": 0.0},
        measurement=Measurement(parts=parts, figure=plot, note=HOSTILE),
        seconds=1.0,
        torch="2.13.0",
    )


class Seen(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def every(self, name: str) -> list[str]:
        return [attrs[name] or "" for _, attrs in self.tags if name in attrs]


@pytest.fixture(scope="module")
def shown() -> str:
    return page([result()], CLAIMS, KNOWN)


def test_the_page_refers_to_nothing_outside_itself(shown: str) -> None:
    seen = Seen(shown)
    assert all(target.startswith("#") for target in seen.every("href"))
    assert not seen.every("src")
    assert not {tag for tag, _ in seen.tags} & {"link", "iframe", "object", "embed", "base"}


def test_the_policy_allows_exactly_the_styles_and_the_script_that_are_there(shown: str) -> None:
    policy = next(a["content"] or "" for t, a in Seen(shown).tags if t == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", shown, re.DOTALL)
        mark = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{mark}'" in policy
    assert not Seen(shown).every("style")
    assert not [name for _, attrs in Seen(shown).tags for name in attrs if name.startswith("on")]


def test_ids_are_unique_and_every_link_leads_somewhere(shown: str) -> None:
    seen = Seen(shown)
    ids = Counter(seen.every("id"))
    assert set(ids.values()) == {1}
    assert {target[1:] for target in seen.every("href")} <= set(ids)
    assert {"S0-1", "S9-9", "dead-unit-gradients"} <= set(ids)


def test_hostile_names_stay_text(shown: str) -> None:
    seen = Seen(shown)
    assert "img" not in {tag for tag, _ in seen.tags}
    assert shown.count("&lt;img src=x onerror=alert(1)&gt;") >= 3


def test_the_head_counts_what_became_of_the_claims(shown: str) -> None:
    boxes = re.findall(r"<b>(\d+)</b><span>([^<]+)</span>", shown)
    assert {word: int(count) for count, word in boxes} == {
        "true": 2, "partly": 0, "false": 0, "undecided": 0, "untestable": 1, "not measured": 1,
    }  # fmt: skip


def test_a_claim_stands_beside_its_number_its_region_and_the_published_figure(shown: str) -> None:
    row = shown.split('<tr id="S0-1"')[1].split("</tr>", maxsplit=1)[0]
    text = " ".join(Seen(f"<tr{row}").text)
    assert "0 (exact)" in text
    assert "<= 0" in text
    assert "0.125 (Lu et al. 2019)" in text
    assert 'href="#dead-unit-gradients"' in row


def test_the_same_results_give_the_same_bytes(shown: str) -> None:
    assert page([result()], CLAIMS, KNOWN) == shown


def test_a_verdict_that_changes_with_the_seed_is_undecided() -> None:
    seen = overview([result(seed=1, first=2.0), result(seed=0)], CLAIMS, KNOWN)
    told = {t.claim.row: t.word for t in seen.claims}
    assert told == {"S0-1": "undecided", "S1-1": "true", "S9-9": "untestable", "S9-8": "not measured"}
    assert "verdicts differ on S0-1" in page([result(), result(seed=1, first=2.0)], CLAIMS, KNOWN)


def test_measuring_otherwise_than_the_literature_is_said_at_the_top() -> None:
    text = page([result(first=2.0)], CLAIMS, KNOWN)
    assert re.search(r'otherwise than[^<]*<a class="row" href="#S0-1">', text)


def test_a_result_with_other_dials_settles_nothing_and_is_listed() -> None:
    changed = result(first=5.0)
    changed = replace(changed, order=replace(changed.order, overrides={"slope": "0.1"}))
    seen = overview([changed], CLAIMS, KNOWN)
    assert all(told.verdict is None for told in seen.claims)
    assert seen.left_out == ("dead-unit-gradients: run with other dials (slope=0.1)",)


def test_the_largest_scale_counts() -> None:
    small, quick = result(first=1.0), result(scale=Scale.QUICK)
    (one,) = overview([quick, small], CLAIMS, KNOWN).experiments
    assert one.results == (small,)


def test_an_experiment_that_was_not_run_has_its_section(shown: str) -> None:
    text = page([], CLAIMS, KNOWN)
    assert "Not run yet." in text
    assert "Not run yet." not in shown
    assert 'id="dead-unit-gradients"' in text


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_of_figure_is_drawn_in_the_pages_own_colours(kind: Kind) -> None:
    lines = tuple(
        Line(name=f"row {k}", x=(0.0, 1.0, 2.0), y=(1.0, math.nan, 3.0 + k), dashed=k == 2) for k in range(3)
    )
    drawn = svg(Figure(title="t", x="x", y="y", lines=lines, kind=kind), "mark")
    assert not re.search(r'style="|#0[a0]0|<metadata|<style', drawn)
    if kind is not Kind.HEAT:
        assert 'class="s-0"' in drawn or "f-0" in drawn
    assert "currentColor" in drawn
    assert not [found for found in re.findall(r'id="([^"]+)"', drawn) if not found.startswith("mark-")]


def test_intervals_are_drawn_and_a_log_axis_survives_zeros() -> None:
    bare = Figure(title="t", x="x", y="y", lines=(line("a", [1, 2], [0.0, 5.0]),), log_y=True, log_x=True)
    banded = replace(bare, lines=(line("a", [1, 2], [0.0, 5.0], low=[0.0, 4.0], high=[1.0, math.inf]),))
    assert "fill-opacity" in svg(banded, "m")
    assert "fill-opacity" not in svg(bare, "m")
    nothing = replace(bare, lines=(line("a", [1, 2], [0.0, 0.0]),))
    assert "<svg" in svg(nothing, "m")


def test_dollar_signs_and_markup_in_a_label_are_letters() -> None:
    drawn = svg(
        Figure(title="t", x=HOSTILE, y="y", lines=(bars("b", [1.0]),), kind=Kind.BAR, labels=("$a$",)), "m"
    )
    assert "$a$" in drawn
    assert "<img" not in drawn


def test_predictions_share_the_colour_of_their_measurement() -> None:
    def one(dashed: bool) -> Line:
        return Line(name="", x=(), y=(), dashed=dashed)

    assert colours((one(False), one(True), one(False), one(True))) == (0, 0, 1, 1)
    assert colours((one(False), one(False), one(True))) == (0, 1, None)
    named = [("Adam", False), ("SGD", False), ("SGD, formula", True), ("bound", True)]
    assert colours([Line(name=n, x=(), y=(), dashed=d) for n, d in named]) == (0, 1, 1, None)


def test_bars_on_a_log_axis_are_drawn() -> None:
    plot = Figure(title="t", x="x", y="y", lines=(bars("b", [1e-3, 10.0]),), kind=Kind.BAR, log_y=True)
    shapes = re.findall(r'<path[^>]*class="f-0"[^>]*>', svg(plot, "m"))
    assert len(shapes) == 2
    # four corners each: a bar that begins at 0 loses two of them where zeros are masked
    assert all(len(re.findall("[ML]", re.search(r' d="([^"]*)"', shape)[1])) == 4 for shape in shapes)


def test_a_page_of_forty_five_experiments_stays_below_three_megabytes() -> None:
    points = range(200)
    lines = tuple(
        line(f"series {k}", points, [math.sin(p / 9 + k) for p in points], low=[-1.0] * 200, high=[1.0] * 200)
        for k in range(6)
    )
    drawn = figure(replace(PLOT, lines=lines), "m")
    assert 45 * len(drawn) < 3_000_000


def test_a_folder_is_read_and_what_is_no_result_is_passed_over(tmp_path: Path) -> None:
    tmp_path.joinpath("a.json").write_text(written(result()), encoding="utf-8")
    tmp_path.joinpath("b.json").write_text("{}", encoding="utf-8")
    tmp_path.joinpath("c.json").write_bytes(b"\xff\xfe")
    assert results(tmp_path) == [result()]
    assert write(tmp_path, tmp_path / "lab.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_a_result_of_the_present_source_wins_over_an_older_one(tmp_path: Path) -> None:
    older, newer = result(first=1.0), result(first=2.0)
    name = key(newer.order, DeadUnitGradients)
    for path, each in ((name, newer), ("zz" + name, older), ("aa" + name, older)):
        tmp_path.joinpath(path).write_text(written(each), encoding="utf-8")
    (one,) = overview(results(tmp_path), CLAIMS, KNOWN).experiments
    assert one.results == (newer,)


def test_a_folder_without_results_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no results of the lab in .*defib lab run all"):
        write(tmp_path / "none", tmp_path / "lab.html")


def test_every_experiments_docstring_becomes_its_sections() -> None:
    for cls in experiments().values():
        told = prose.sections(docstring(cls))
        assert {"Claim", "Prediction", "Method"} <= set(told), cls.slug
        assert all(len(text) > 20 for text in told.values()), cls.slug


def test_prose_keeps_code_lists_and_formulas() -> None:
    text = "One ``x < 1``\nand more.\n\n    a = b\n\n- first\n  goes on\n- second"
    assert prose.as_html(text) == (
        "<p>One <code>x &lt; 1</code> and more.</p>\n<pre>a = b</pre>\n"
        "<ul><li>first goes on</li><li>second</li></ul>"
    )


def test_markdown_has_a_page_an_experiment_and_a_cell_is_never_broken() -> None:
    told = pages([result()], CLAIMS, KNOWN)
    assert set(told) == {"index.md", "dead-unit-gradients.md"}
    assert "[dead-unit-gradients](dead-unit-gradients.md)" in told["index.md"]
    rows = [row for row in told["dead-unit-gradients.md"].splitlines() if row.startswith("| S")]
    assert len(rows) == 2
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 7 for row in rows)
    assert "<img" not in told["dead-unit-gradients.md"].replace("&lt;img", "")


def test_an_endless_interval_is_told() -> None:
    wide = Estimate(value=1.0, low=-math.inf, high=math.inf, n=1)
    made = result()
    first, second = made.measurement.parts
    made = replace(made, measurement=replace(made.measurement, parts=(replace(first, estimate=wide), second)))
    assert "1 [-inf, inf], n = 1" in page([made], CLAIMS, KNOWN)
