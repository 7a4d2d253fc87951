"""``defib prognose`` in a real process, and prognoses as text."""

import json
import subprocess
import sys

import pytest
import torch
from torch import nn

import defib as package
from defib.core.evidence import Evidence, Unseen
from defib.core.prognosis import Forecast, Mechanism, Outlook, Prognosis, Recovery
from defib.report.forecast import forecast_text, prognosis_lines
from defib.report.wording import columns


@pytest.fixture(scope="module")
def dying(tmp_path_factory):
    """The record of a small training in which units of both layers are dead."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    with torch.no_grad():
        model[0].bias[[1, 5]] -= 30
        model[2].bias[3] -= 30
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    path = tmp_path_factory.mktemp("prognose") / "x.rec"
    data = torch.randn(256, 6)
    with package.watch(model, optimizer, output=path):
        for t in range(120):
            optimizer.zero_grad()
            model(data[t % 4 * 64 : t % 4 * 64 + 64]).square().mean().backward()
            optimizer.step()
    return path


def test_the_answer_as_text(defib, dying):
    done = defib("prognose", str(dying))
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("defib: of 3 dead units, 2 never come back, 1 depend")
    assert "layer 0" in lines
    assert "  never: 2 units: 1, 5" in lines
    assert any("neither momentum nor decay moves it" in line for line in lines)
    assert any("samples, the optimiser as of step 120; exact" in line for line in lines)
    assert max(columns(line) for line in lines) <= 80


def test_the_answer_as_json_is_that_of_the_library(defib, dying):
    done = defib("prognose", str(dying), "--json", "--horizon", "500")
    answer = json.loads(done.stdout)
    assert answer["schema"] == "defib.forecast/1"
    assert answer["facts"]["dead_units"] == 3
    forecast = package.prognose(dying, horizon=500)
    assert [p["units"] for p in answer["prognoses"]] == [list(p.units) for p in forecast.prognoses]
    assert {p["outlook"] for p in answer["prognoses"]} == {"never", "depends-on-upstream"}
    with package.open_run(dying) as run:
        assert run.prognose(500) == forecast


def test_a_diagnosis_says_it_below_the_finding(defib, dying):
    text = defib("diagnose", str(dying)).stdout
    assert "prognosis 2 units never come back: neither momentum nor decay moves it" in text
    assert "prognosis 1 unit depends on the layers that feed it: not by itself" in text
    found = json.loads(defib("diagnose", str(dying), "--json").stdout)["findings"]
    assert [f["prognosis"][0]["outlook"] for f in found if f["rule"] == "dead-unit"] == [
        "never",
        "depends-on-upstream",
    ]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--horizon", "soon"], 64, "whole number of steps"),
        (["--horizon", "0"], 64, "whole number of steps"),
        (["--horizon", "-3"], 64, ""),
    ],
)
def test_a_horizon_that_is_none_is_one_clear_line(defib, dying, words, code, says):
    done = defib("prognose", str(dying), *words)
    assert done.returncode == code
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_no_record_is_one_clear_line(defib, tmp_path):
    done = defib("prognose", str(tmp_path / "none.rec"))
    assert (done.returncode, done.stdout) == (66, "")
    assert "no such record" in done.stderr


def test_torch_is_not_imported(dying):
    code = (
        "import sys, defib\n"
        f"assert len(defib.prognose({str(dying)!r}).prognoses) == 2\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def answer(**changes) -> Prognosis:
    made = {
        "path": "fc1",
        "units": (1, 2, 3, 9),
        "outlook": Outlook.RETURNS,
        "mechanism": Mechanism.MOMENTUM,
        "reason": "the optimiser's stored momentum brings it back in 3 to 9 steps",
        "as_of": 100,
        "samples": 64,
        "exact": True,
        "step": 103,
        "steps": (103, 104, 109, 103),
    }
    return Prognosis(**(made | changes))


def test_every_outlook_has_words():
    for outlook in Outlook:
        for units in ((4,), (4, 7)):
            steps = (103,) * len(units) if outlook is Outlook.RETURNS else ()
            one = answer(outlook=outlook, units=units, steps=steps, step=min(steps, default=None))
            [line] = prognosis_lines([one])
            assert line.startswith(f"{len(units)} unit")
            assert outlook.value.replace("-", " ") in forecast_text(
                Forecast(facts={"dead_units": 2}, prognoses=(one,))
            )


def test_names_that_attack_the_terminal_and_long_ones_stay_within_their_lines():
    hostile = "a\x1b[31m\u202e" * 60
    forecast = Forecast(
        facts={"dead_units": 4},
        prognoses=(
            answer(path=hostile, reason=hostile * 3, evidence=(Evidence(name=hostile, value=hostile),)),
        ),
        recoveries=(Recovery(path=hostile, returned=3, open=4, within=200, share=0.4, low=0.1, high=0.7),),
        assumed=(hostile,),
        unseen=(Unseen(what=hostile, why=hostile),),
    )
    text = forecast_text(forecast)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert max(columns(line) for line in text.splitlines()) <= 80


def test_nothing_dead_is_said_plainly():
    text = forecast_text(Forecast(facts={"dead_units": 0, "samples": 1797}, prognoses=()))
    assert text == "defib: no dead units on 1,797 samples: there is nothing to foretell."
