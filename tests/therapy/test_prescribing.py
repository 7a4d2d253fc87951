"""From a run to what could help: in the library, on the command line, and what came of it."""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import defib
from defib import care
from defib.api import Run
from defib.core.aftermath import Aftermath
from defib.core.diagnosis import Diagnosis
from defib.core.errors import Refused
from defib.core.prescription import Safety
from defib.core.run import RunView
from defib.diagnosis.rule import Case
from defib.diagnosis.rules.exploding_gradient import ExplodingGradient
from defib.report.prescription import word
from defib.report.text import to_text
from defib.therapy.engine import prescribe

STEPS = 700


def train(record: Path, slug: str = "", at: int = 260, steps: int = STEPS) -> Run:
    """A slip of the learning rate kills the first layer; then it may be treated."""
    torch.manual_seed(0)
    x = torch.rand(256, 16)
    y = (x[:, 0] > x[:, 1]).long()
    model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with defib.watch(model, optimizer, output=record, every=5) as run:
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = 200.0 if 60 <= step < 63 else 0.1
            i = torch.randint(256, (64,))
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[i]), y[i]).backward()
            optimizer.step()
            if step == 50:
                run.snapshot()
            if slug and step == at:
                wanted = next(p for p in run.prescribe() if p.treatment == slug)
                run.treat(wanted)
        assert run.faults == 0
    return defib.open_run(record)


@pytest.fixture(scope="module")
def sick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    record = tmp_path_factory.mktemp("runs") / "sick.rec"
    train(record, steps=300)
    return record


def command(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "defib", *words]
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def treated(run: Run) -> Diagnosis:
    diagnosis = run.diagnose()
    assert len(diagnosis.treated) == 1
    return diagnosis


@pytest.mark.parametrize("slug", ["recycle-dead-units", "roll-back", "undo-killing-step"])
def test_a_treatment_that_helps_is_said_to_have_made_the_finding_go(tmp_path: Path, slug: str) -> None:
    diagnosis = treated(train(tmp_path / "r.rec", slug))
    event = diagnosis.treated[0]
    assert (event.step, event.treatment, event.stage) == (261, slug, "done")
    assert event.rule == "dead-unit"
    assert event.aftermath in {Aftermath.GONE, Aftermath.EASED}
    assert f"treated   at step 261: {slug}" in to_text(diagnosis)
    assert "seen since" in " ".join(to_text(diagnosis).split())


def test_a_treatment_that_does_not_help_is_said_to_have_left_the_finding_there(tmp_path: Path) -> None:
    diagnosis = treated(train(tmp_path / "r.rec", "scale-lr"))
    assert diagnosis.treated[0].aftermath is Aftermath.STAYS
    assert "still there" in " ".join(to_text(diagnosis).split())


def test_too_few_steps_since_a_treatment_prove_nothing(tmp_path: Path) -> None:
    diagnosis = treated(train(tmp_path / "r.rec", "recycle-dead-units", at=260, steps=300))
    assert diagnosis.treated[0].aftermath is Aftermath.TOO_EARLY
    assert "too few to tell" in " ".join(to_text(diagnosis).split())


def test_the_dose_comes_from_what_the_record_kept(sick: Path) -> None:
    found = {p.treatment: p for p in defib.prescribe(sick)}
    recycled, nudged = found["recycle-dead-units"], found["nudge-bias"]
    assert recycled.dose["layer"] == "0"
    assert len(recycled.dose["mean"]) == 16  # type: ignore[arg-type]
    assert all(0.3 < m < 0.7 for m in recycled.dose["mean"])  # type: ignore[union-attr]
    assert recycled.at > 60
    assert min(nudged.dose["by"]) > 0  # type: ignore[type-var, arg-type]
    assert all(p.reason and p.message for p in found.values())


def test_nudged_units_fire_on_about_as_many_samples_as_they_should(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.rand(256, 16)
    model = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 2))
    with torch.no_grad():
        model[0].bias[:4] = -9.0
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    with defib.watch(model, optimizer, output=tmp_path / "r.rec", every=5):
        for _ in range(200):
            optimizer.zero_grad()
            model(x[torch.randint(256, (64,))]).square().mean().backward()
            optimizer.step()
    found = defib.open_run(tmp_path / "r.rec").diagnose().findings
    dead = [f for f in (*found, *(e for f in found for e in f.explains)) if f.rule == "dead-unit"]
    from defib.therapy.treatments.nudge_bias import NudgeBias

    dose = NudgeBias().dose(dead[0], defib.open_run(tmp_path / "r.rec").view)
    assert dose is not None
    from defib.therapy.engine import treat
    from defib.therapy.train_state import TrainState

    treat(TrainState(model=model, optimizers=(optimizer,)), care.named("nudge-bias", dose))
    share = (model[0](x)[:, :4] > 0).float().mean(0)
    assert share.min() > 0.005
    assert share.max() < 0.2


def test_every_prescription_survives_being_typed(sick: Path) -> None:
    for each in defib.prescribe(sick):
        if each.safety is Safety.SOURCE:
            continue
        order = care.parse_order([word(each)])
        assert order is not None
        full = {name: value for name, value in each.dose.items() if value != ()}
        assert dict(order.given[0].dose) == full


def test_a_plan_gives_the_first_treatment_of_each_finding(sick: Path, tmp_path: Path) -> None:
    done = command("prescribe", str(sick), "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert plan["schema"] == "defib.prescription/1"
    assert list(plan) == ["schema", "run", "verdict", "prescriptions"]
    (tmp_path / "plan.json").write_text(done.stdout)
    order = care.parse_order([f"@{tmp_path / 'plan.json'}"])
    assert order is not None
    live = [p for p in plan["prescriptions"] if p["safety"] != "source-change"]
    assert len(order.given) == len({(p["rule"], p["layer"], p["cause"]) for p in live})
    assert order.given[0].treatment == live[0]["treatment"]
    assert order.given[0].rule == live[0]["rule"]


def test_the_text_fits_the_terminal_and_ends_with_commands_that_can_be_typed(
    sick: Path, tmp_path: Path
) -> None:
    done = command("prescribe", str(sick), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    typed = [line.strip() for line in lines if line.strip().startswith("defib ") and "defib:" not in line]
    assert all(len(line) <= 80 for line in lines if line.strip() not in typed)
    assert typed[-1].startswith("defib trial ")
    orders = [shlex.split(t) for t in typed if t.startswith("defib run --treat ")]
    assert orders
    for order in orders:
        assert care.parse_order([order[3]]) is not None


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["prescribe", "nowhere.rec"], 66, "no such record"),
        (["prescribe", "."], 65, "defib: "),
        (["prescribe"], 64, "RUN"),
        (["prescribe", "train.py", "--only", "no-such"], 66, "no treatment"),
        (["run", "--treat", "scale-data", "train.py"], 64, "only the source"),
    ],
)
def test_bad_input_is_one_clear_line_and_a_documented_code(
    tmp_path: Path, words: list[str], code: int, said: str
) -> None:
    (tmp_path / "train.py").write_text("")
    done = command(*words, folder=tmp_path)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_nothing_to_treat_is_said(tmp_path: Path) -> None:
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with defib.watch(model, optimizer, output=tmp_path / "r.rec", every=1):
        for _ in range(50):
            optimizer.zero_grad()
            model(torch.randn(8, 2)).square().mean().backward()
            optimizer.step()
    assert defib.prescribe(tmp_path / "r.rec") == ()
    done = command("prescribe", "r.rec", folder=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("defib: nothing to treat")


def test_a_treatment_s_page_is_printed_without_importing_torch(tmp_path: Path) -> None:
    program = (
        "import sys; from defib import catalogues; text = catalogues.explain('recycle-dead-units'); "
        "print('torch' in sys.modules, text.splitlines()[0], 'References:' in text)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.strip() == "False treatment recycle-dead-units True"


def test_every_treatment_has_a_page_by_its_slug() -> None:
    from defib import catalogues

    pages = catalogues.treatment_pages()
    assert {t.slug for t in catalogues.treatments()} <= set(pages)
    for slug in pages:
        page = catalogues.explain(slug)
        assert page.startswith(f"treatment {slug}\n")
        assert max(map(len, page.splitlines())) <= 80


def test_treatments_lists_each_with_its_safety(tmp_path: Path) -> None:
    done = command("treatments", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    entries = {e["treatment"]: SimpleNamespace(**e) for e in json.loads(done.stdout)}
    assert entries["recycle-dead-units"].safety == "preserves-function"
    assert entries["scale-data"].safety == "source-change"
    assert "dead-unit" in entries["recycle-dead-units"].rules
    text = command("treatments", folder=tmp_path).stdout.splitlines()
    assert all(len(line) <= 80 for line in text)


def test_going_back_without_a_snapshot_is_refused(tmp_path: Path) -> None:
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with defib.watch(model, optimizer, output=tmp_path / "r.rec", every=1) as run:
        optimizer.zero_grad()
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        with pytest.raises(Refused, match="no snapshot"):
            run.treat("roll-back")
        run.snapshot()
        kept = model.weight.detach().clone()
        optimizer.step()
        assert not torch.equal(model.weight, kept)
        run.treat("roll-back")
        assert torch.equal(model.weight, kept)


def test_a_view_without_treatments_says_nothing_of_them(sick: Path) -> None:
    view: RunView = defib.open_run(sick).view
    assert not view.of_kind("treatment")
    assert defib.diagnose(sick).treated == ()
    assert "treated" not in to_text(defib.diagnose(sick))


@pytest.mark.parametrize("case", [c for c in ExplodingGradient.CASES if c.expect], ids=lambda c: c.name)
def test_only_of_an_exponential_that_explodes_the_bound_is_prescribed_and_first(case: Case) -> None:
    run = case.build()
    found = [p for p in prescribe(defib.diagnose(run), run) if p.rule == "exploding-gradient"]
    assert ("tanh" in {p.treatment for p in found}) == ("exponential" in case.name)
    if "exponential" in case.name:
        assert found[0].treatment == "tanh"
