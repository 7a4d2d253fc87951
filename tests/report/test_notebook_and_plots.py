"""A run shows itself: in a notebook as safe HTML, and as figures that touch no global state."""

import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from torch import nn

import defib as package
from defib.core.errors import EnvironmentProblem
from defib.core.wiring import Layer
from defib.record.writer import Writer
from defib.report.notebook import run_html

PLOTS = ("loss", "liveness", "ledger", "activations", "gradient_flow", "updates")
HOSTILE = (
    "<script>alert(1)</script>",
    '"onmouseover="x',
    "x" * 10_000,
    "\u202egnp",
    "$a_b$",
    "_hidden",
    "a\nb",
)


class Tags(HTMLParser):
    """What a browser would make of a text: elements and their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes |= {name for name, _ in attrs}


def parsed(html: str) -> Tags:
    tags = Tags()
    tags.feed(html)
    return tags


@pytest.fixture
def hostile(tmp_path):
    path = tmp_path / "hostile.rec"
    writer = Writer.create(path)
    writer.layers(tuple(Layer(path=n, kind="Linear", units=4, parameters=(n,), optimizer=0) for n in HOSTILE))
    writer.optimizer(0, {"kind": "SGD", "steps": 60, "groups": [], "parameters": list(HOSTILE)})
    writer.stream(0, 0, {"loss": np.full(60, 2.0, np.float32), "lr": np.full(60, 0.1, np.float32)})
    silent = np.array([[-1] * 4, [-1] * 4, [0] * 4], np.int32)
    for name in HOSTILE:
        facts = {"source": name, "steps": 60, "last_step": 59, "period": 1, "batch": 64.0}
        writer.liveness(0, name, facts, silent)
    writer.norms(0, HOSTILE, np.ones((4, len(HOSTILE)), np.float32))
    writer.close("finished")
    return package.open_run(path)


# ------------------------------------------------------------------ notebook


def test_a_recorded_run_shows_verdict_findings_and_loss(dying):
    html = package.open_run(dying)._repr_html_()
    assert "sick" in html
    assert "dead-unit" in html
    assert "<svg" in html
    assert len(html) < 20_000


def test_a_live_run_shows_itself_while_it_trains(tmp_path):
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    opt = torch.optim.SGD(net.parameters(), lr=0.1)
    with package.watch(net, opt, output=tmp_path / "r.rec") as run:
        for _ in range(30):
            opt.zero_grad()
            net(torch.ones(2, 3)).square().mean().backward()
            opt.step()
        html = run._repr_html_()
        assert "30 steps" in html
        assert run.plot.loss().axes[0].lines


def test_hostile_names_stay_text(hostile, dying):
    found = package.diagnose(dying)
    bad = tuple(
        replace(found.findings[0], layer=name, message=f"{name} is dead", rule=name[:60]) for name in HOSTILE
    )
    facts = {"path": HOSTILE[0], "status": HOSTILE[1]}
    html = run_html(hostile.view, replace(found, findings=bad, run=facts))
    tags = parsed(html)
    assert set(tags.elements) <= {"div", "strong", "svg", "polyline", "table", "tr", "td", "code"}
    assert tags.attributes <= {"class", "style", "role", "aria-label", "width", "height", "viewbox", "fill",
                               "stroke", "stroke-width", "points"}  # fmt: skip
    assert "dead" in html
    assert "&lt;script&gt;" in html
    assert "\u202e" not in html
    assert len(html) < 20_000


def test_a_record_that_cannot_be_read_is_one_line_and_no_traceback(tmp_path):
    (tmp_path / "<b>").write_text("no record")
    html = package.open_run(tmp_path / "<b>")._repr_html_()
    assert set(parsed(html).elements) == {"div"}
    assert "&lt;b&gt;" in html


# ------------------------------------------------------------------ plots


@pytest.mark.parametrize("name", PLOTS)
def test_every_plot_is_drawn_and_holds_something(treated, tmp_path, name):
    figure = getattr(package.open_run(treated).plot, name)()
    drawn = figure.axes[0]
    assert drawn.lines or drawn.patches or drawn.collections
    assert drawn.get_title()
    figure.savefig(tmp_path / "plot.png", dpi=40)
    assert (tmp_path / "plot.png").stat().st_size > 3000


@pytest.mark.parametrize("name", PLOTS)
def test_every_plot_takes_hostile_names_and_missing_data(hostile, tmp_path, name):
    figure = getattr(hostile.plot, name)()
    figure.savefig(tmp_path / "plot.png", dpi=40)
    words = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert all(len(word) < 80 for word in words)


@pytest.mark.parametrize("name", PLOTS)
def test_what_was_not_observed_is_said_and_not_drawn_as_healthy(empty, name):
    figure = getattr(package.open_run(empty).plot, name)()
    assert "not observed in this run" in [text.get_text() for text in figure.axes[0].texts]


def test_the_loss_that_is_drawn_is_the_loss_of_the_record(dying):
    run = package.open_run(dying)
    (line,) = run.plot.loss().axes[0].lines
    assert np.array_equal(line.get_ydata(), run.view.loss.values)


def test_a_layer_that_died_is_dark_from_its_death_on_in_the_liveness(dying):
    figure = package.open_run(dying).plot.liveness()
    mesh = figure.axes[0].collections[0]
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    shares = mesh.get_array().reshape(len(names), -1)
    edges = mesh.get_coordinates()[0, :, 0]
    row = shares[names.index("2")]
    assert row[edges[:-1] > 60].max() == pytest.approx(0.0, abs=1e-3)
    assert row[0] == pytest.approx(1.0, abs=1e-3)


def test_a_norm_that_a_treatment_added_is_not_shown_as_dead_before_it_was_there(treated):
    run = package.open_run(treated)
    added = [p for p, live in run.view.liveness.items() if live.last_step + 1 - live.steps > 0]
    figure = run.plot.liveness()
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    shares = figure.axes[0].collections[0].get_array().reshape(len(names), -1)
    for path in added:
        assert np.ma.getmaskarray(shares)[names.index(path)][0] or np.isnan(shares[names.index(path)][0])


def test_nothing_of_pyplot_is_imported_or_changed(treated):
    code = (
        "import sys, defib\n"
        f"plot = defib.open_run({str(treated)!r}).plot\n"
        f"for name in {PLOTS!r}: getattr(plot, name)().savefig('/dev/null', format='png', dpi=30)\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_without_matplotlib_one_error_names_the_extra(dying, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(EnvironmentProblem, match=r"pip install 'defib\[plot\]'"):
        package.open_run(dying).plot.loss()
