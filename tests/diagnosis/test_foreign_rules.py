"""Rules of other distributions: found by their entry point; a broken one is listed, and the others go on."""

import sys
from importlib.metadata import EntryPoint

import pytest

from defib.core.run import RunView
from defib.diagnosis import engine


@pytest.fixture
def _broken_rule(monkeypatch, tmp_path):
    (tmp_path / "somebodys_rule.py").write_text("raise RuntimeError('half installed')\n")
    monkeypatch.syspath_prepend(tmp_path)
    point = EntryPoint(name="half-installed", value="somebodys_rule:Rule", group=engine.GROUP)
    monkeypatch.setattr(
        "defib.core.catalogue.entry_points", lambda group: [point] if group == engine.GROUP else []
    )
    yield
    sys.modules.pop("somebodys_rule", None)


@pytest.mark.usefixtures("_broken_rule")
def test_a_rule_that_cannot_be_loaded_is_listed_and_the_others_go_on():
    diagnosis = engine.diagnose(RunView(facts={}))
    assert [(n.rule, "half installed" in n.why) for n in diagnosis.not_run] == [("half-installed", True)]
    assert [f.rule for f in diagnosis.findings] == ["not-observed"]
