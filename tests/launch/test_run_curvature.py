"""`defib run --curvature`: the unmodified script, bit for bit, and rate x curvature in its record."""

import json
from pathlib import Path

from launching import TRAIN, Script, both, defib

import defib as api

LEARNING = TRAIN + "train(60)\nprint([p.detach().tolist() for p in model.parameters()])\n"


def test_the_script_runs_as_ever_and_its_record_has_the_curvature(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    bare, watched = both(Script(text=LEARNING), tmp_path / "here", "--curvature")
    assert (watched.code, watched.out) == (bare.code, bare.out)
    (measured,) = api.open_run(tmp_path / "watched.rec").view.sharpness.values()
    assert len(measured.steps) >= 3
    assert (measured.product > 0).all()
    assert "curvature rate x largest" in " ".join(watched.err.split())


def test_a_setting_does_the_same_and_the_answer_as_data_has_the_numbers(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(LEARNING)
    defib("run", "-q", "-o", "a.rec", "script.py", folder=tmp_path)
    defib("run", "-q", "-o", "b.rec", "script.py", folder=tmp_path, extra={"DEFIB_CURVATURE": "1"})
    assert api.open_run(tmp_path / "a.rec").view.sharpness == {}
    told = json.loads(defib("diagnose", "b.rec", "--json", folder=tmp_path).out)
    facts = told["run"]["curvature"]
    assert facts["on"]
    assert facts["measured"] >= 3
    assert facts["last"]["bound"] > 0
