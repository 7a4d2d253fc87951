"""Several treatments in a row: when a course is made longer, what it is raced against, what is kept."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import defib
from defib.core.prescription import Prescription, Safety
from defib.core.trial import Goal, Outcome
from defib.report.terminal import Style
from defib.report.trial import trial_text
from defib.trials.book import OUTCOMES
from defib.trials.design import CONTROL, RANDOM, Arm, Job, Measure, Script
from defib.trials.proposals import FURTHER, additions, draws
from defib.trials.runner import Request, conduct
from defib.trials.search import DEPTH, Search, Tried, search

LOSS = Measure(goal=Goal.LOWER)


def treatment(slug: str, rule: str = "", strength: float = 0.5, **dose: float) -> Prescription:
    return Prescription(
        treatment=slug, rule=rule, cause=None, layer="", safety=Safety.SETTINGS, reason="", strength=strength,
        dose=dose,
    )  # fmt: skip


@dataclass(frozen=True)
class End:
    """What becomes of a run: its loss (None for NaN), what is found in it, and whether the race ended it."""

    loss: float | None
    findings: tuple[str, ...] = ()
    stopped: bool = False
    refused: bool = False


class World:
    """A script that has the ends it is given, by the treatments of a course joined with "+"."""

    def __init__(self, control: End, ends: dict[str, End]) -> None:
        self.control = self.outcome(Job(arm=Arm(name=CONTROL), seed=0), control)
        self.ends = ends
        self.jobs: list[Job] = []

    def outcome(self, job: Job, end: End) -> Outcome:
        stops = 1 if end.refused else 25 if end.stopped and job.raced else None
        given = tuple(p.treatment for p in job.arm.given)
        return Outcome(
            arm=job.arm.name, seed=0, score=end.loss, loss=end.loss, first_loss=9.0, steps=stops or 100,
            seconds=1, code=0, stop_at=stops, treated=given[:-1] if end.refused else given,
            refused="no" if end.refused else "", wrong=len(end.findings), findings=end.findings,
            gain=0.0 if end.stopped else 0.5, rival=job.rival,
        )  # fmt: skip

    def run(self, job: Job) -> Outcome:
        self.jobs.append(job)
        return self.outcome(job, self.ends["+".join(p.treatment for p in job.arm.given)])

    def search(self, plan: dict[str, list[Prescription]], budget: float = 5.0) -> Search:
        """Searches, where ``plan`` has what each course's own diagnosis brings."""

        def propose(tried: Tried | None) -> Sequence[Arm]:
            arm = Arm(name=CONTROL) if tried is None else tried.job.arm
            return additions(arm, plan.get("+".join(p.treatment for p in arm.given), []))

        return search(propose, self.control, LOSS, budget, self.run)

    @property
    def names(self) -> list[str]:
        return [job.name.removesuffix("-raced").removesuffix("-seed0") for job in self.jobs]


def test_what_shows_next_is_treated_in_addition_and_raced_against_the_shorter_course() -> None:
    world = World(
        End(8.0, ("unscaled",)), {"scale": End(2.0, ("slow",)), "scale+faster": End(0.1), "norm": End(1.0)}
    )
    found = world.search(
        {"": [treatment("scale", "unscaled"), treatment("norm")], "scale": [treatment("faster")]}
    )
    assert found.arm is not None
    assert [p.treatment for p in found.arm.given] == ["scale", "faster"]
    assert world.names == ["scale", "scale+faster"]
    assert world.jobs[1].rival == "scale-seed0-raced"


def test_a_first_fault_that_hides_the_second_is_followed_although_nothing_is_better_yet() -> None:
    world = World(
        End(None, ("weights",)),
        {
            "init": End(None, ("rate",), stopped=True),
            "init+slower": End(0.1),
            "other-init": End(None, ("rate",), stopped=True),
        },
    )
    found = world.search(
        {
            "": [treatment("init", "weights", 0.8), treatment("other-init", "weights", 0.7)],
            "init": [treatment("slower", "rate", 0.9)],
        }
    )
    assert found.arm is not None
    assert found.arm.name == "init+slower"
    assert world.names == ["init", "init+slower"]
    assert world.jobs[1].rival == ""  # the shorter one was ended: the control is what there is to beat


def test_an_alternative_that_is_expected_to_do_more_comes_before_a_weak_addition() -> None:
    world = World(
        End(8.0, ("weights",)),
        {"init": End(7.0, ("rate",), stopped=True), "norm": End(0.1), "init+slower": End(5.0)},
    )
    plan = {"": [treatment("init", "weights", 0.9), treatment("norm", "weights", 0.8)]}
    world.search({**plan, "init": [treatment("slower", "rate", 0.3)]})
    assert world.names == ["init", "norm"]


def test_a_treatment_that_left_its_finding_where_it_was_is_replaced_and_not_added_to() -> None:
    world = World(
        End(8.0, ("weights",)), {"init": End(8.0, ("weights", "rate"), stopped=True), "norm": End(0.1)}
    )
    plan = {
        "": [treatment("init", "weights"), treatment("norm", "weights")],
        "init": [treatment("x", "rate", 0.9)],
    }
    world.search(plan)
    assert world.names == ["init", "norm"]


@pytest.mark.parametrize(
    ("longer", "kept"), [(0.1, "first+second"), (1.995, "first"), (2.0, "first"), (3.0, "first")]
)
def test_a_longer_course_is_kept_only_if_it_is_clearly_better(longer: float, kept: str) -> None:
    world = World(End(8.0, ("a",)), {"first": End(2.0, ("b",)), "first+second": End(longer)})
    found = world.search({"": [treatment("first", "a")], "first": [treatment("second", "b")]})
    assert found.arm is not None
    assert found.arm.name == kept


def test_a_course_ends_at_its_depth() -> None:
    names = ["t0"]
    ends = {"t0": End(5.0, ("f0",))}
    plan = {"": [treatment("t0", "start")]}
    for i in range(1, 6):
        plan["+".join(names)] = [treatment(f"t{i}", f"f{i - 1}")]
        names.append(f"t{i}")
        ends["+".join(names)] = End(5.0 / 2**i, (f"f{i}",))
    found = World(End(8.0, ("start",)), ends).search(plan, budget=50)
    assert found.arm is not None
    assert len(found.arm.given) == DEPTH


def test_longer_courses_share_the_budget_with_everything_else() -> None:
    world = World(End(8.0, ("a",)), {"first": End(2.0, ("b",)), "first+second": End(0.1)})
    world.search({"": [treatment("first", "a")], "first": [treatment("second", "b")]}, budget=1.0)
    assert world.names == ["first"]


def test_a_course_of_which_a_part_was_refused_is_no_course() -> None:
    world = World(End(8.0, ("a",)), {"first": End(2.0, ("b",)), "first+second": End(0.1, refused=True)})
    found = world.search({"": [treatment("first", "a")], "first": [treatment("second", "b")]})
    assert found.arm is not None
    assert found.arm.name == "first"


def test_nothing_is_given_twice_in_the_same_dose() -> None:
    arm = additions(Arm(name=CONTROL), [treatment("scale-lr", factor=0.1)])[0]
    again = [treatment("scale-lr", factor=0.1), treatment("scale-lr", factor=0.01)]
    assert [a.given[-1].dose["factor"] for a in additions(arm, again)] == [0.01]


def test_two_doses_of_one_treatment_are_two_arms() -> None:
    arms = additions(
        Arm(name=CONTROL), [treatment("scale-lr", factor=0.1), treatment("scale-lr", factor=0.01)]
    )
    assert len({a.name for a in arms}) == 2


def test_random_repairs_chain_too_and_are_drawn_alike_each_time() -> None:
    about = {"script": "train.py", "seed": 1, "layers": ("0", "2")}
    first = draws(None, 4, attempt=0, **about)  # type: ignore[arg-type]
    assert first == draws(None, 4, attempt=0, **about)  # type: ignore[arg-type]
    longer = draws(first[2], FURTHER, attempt=2, **about)  # type: ignore[arg-type]
    assert all(arm.name == RANDOM and arm.given[0] == first[2].given[0] for arm in longer)
    assert [len(arm.given) for arm in longer] == [2] * FURTHER
    assert longer != draws(first[2], FURTHER, attempt=3, **about)  # type: ignore[arg-type]


def test_a_long_course_has_a_name_that_a_disk_takes() -> None:
    one, other = (Arm(name="+".join([f"recycle-dead-units@{'a.b' * 90}", end])) for end in ("x", "y"))
    assert len(Job(arm=one, seed=0).name) < 200
    assert Job(arm=one, seed=0).name != Job(arm=other, seed=0).name


# Inputs a thousand times too large, and a learning rate that is far too small once they are not.
SCRIPT = """
import torch
from torch import nn
torch.manual_seed(3)
x = 100 * torch.rand(128, 6) + 50
y = ((x - 100) / 50) @ torch.tensor([[1.0], [-2.0], [0.5], [0.0], [1.0], [0.3]])
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=1e-5)
for step in range(240):
    i = torch.randint(0, 128, (32,))
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(x[i]), y[i])
    loss.backward()
    optimizer.step()
print("final loss", loss.item())
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished trial of a script with two faults, of which the first hides the second."""
    place = tmp_path_factory.mktemp("course")
    (place / "train.py").write_text(SCRIPT)
    conduct(request_in(place), place / "t")
    return place


def request_in(place: Path) -> Request:
    script = Script(target="train.py", is_module=False, arguments=(), folder=str(place))
    return Request(script=script, measure=Measure(), seeds=2, budget=4.0)


def test_two_faults_of_a_real_script_are_both_treated(folder: Path) -> None:
    verdict = json.loads((folder / "t" / "verdict.json").read_text())
    arms = {c["arm"]: c for c in verdict["comparisons"]}
    assert "scale-inputs+scale-lr" in arms
    found = arms["scale-inputs+scale-lr"]
    assert found["answer"] == "better"
    assert found["course"][0].startswith("scale-inputs")
    assert found["course"][1].startswith("scale-lr:factor=")
    runs = {o["record"]: o for o in verdict["outcomes"]}
    course = runs["runs/scale-inputs+scale-lr-seed0-raced/run.rec"]
    assert course["treated"] == ["scale-inputs", "scale-lr"]
    assert course["loss"] < 0.5 * runs["runs/scale-inputs-seed0-raced/run.rec"]["loss"]


def test_the_record_tells_the_course_in_its_order(folder: Path) -> None:
    view = defib.open_run(folder / "t/runs/scale-inputs+scale-lr-seed0-raced/run.rec").view
    told = [(e.data["treatment"], e.data["stage"]) for e in view.of_kind("treatment")]
    assert [t for t, stage in told if stage == "done"] == ["scale-inputs", "scale-lr"]
    # Both courses began alike: the second treatment changes nothing about the first step's loss.
    shorter = defib.open_run(folder / "t/runs/scale-inputs-seed0-raced/run.rec").view
    assert view.loss.values[0] == shorter.loss.values[0]


def test_a_killed_trial_goes_on_in_the_middle_of_a_course(folder: Path) -> None:
    book = folder / "t" / OUTCOMES
    lines = book.read_text().splitlines(keepends=True)
    cut = next(i for i, line in enumerate(lines) if '"job": "scale-inputs+scale-lr-seed0' in line)
    book.write_text("".join([*lines[:cut], *lines[cut + 1 :]]))
    before = json.loads((folder / "t" / "verdict.json").read_text())
    times = {p: p.stat().st_mtime_ns for p in folder.glob("t/runs/*/stdout")}
    conduct(request_in(folder), folder / "t")
    rerun = [p.parent.name for p, t in times.items() if p.stat().st_mtime_ns != t]
    assert rerun == [json.loads(lines[cut])["job"]]
    again = json.loads((folder / "t" / "verdict.json").read_text())
    assert again["comparisons"] == before["comparisons"]


def test_the_text_names_the_command_of_the_whole_course(folder: Path) -> None:
    command = [sys.executable, "-m", "defib", "trial", "-o", "t", "--seeds", "2", "--budget", "4x"]
    command.append("train.py")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert re.search("defib run --treat '?scale-inputs", said)
    assert "--treat scale-lr:factor=" in said
    assert "scale-inputs+scale-lr" in said


def test_random_repairs_get_no_more_tries_than_the_prescribed_ones(folder: Path) -> None:
    lines = [json.loads(line) for line in (folder / "t" / OUTCOMES).read_text().splitlines()]
    tried = len({o["job"] for o in lines if o["arm"] not in {CONTROL, RANDOM} and "-raced" in o["job"]})
    drawn = [o for o in lines if o["arm"] == RANDOM and o["seed"] == 0 and "-raced" in o["job"]]
    assert 1 <= len(drawn) <= tried


def test_text_of_a_course_says_what_was_given_first() -> None:
    found = trial_text_of(("he-init", "scale-lr:factor=0.001"))
    assert "he-init, then scale-lr:factor=0.001" in " ".join(found.split())


def trial_text_of(course: tuple[str, ...]) -> str:
    from defib.core.trial import Comparison, Verdict

    comparison = Comparison(
        arm="he-init+scale-lr", answer="better", difference=0.5, low=0.4, high=0.6, effect=2.0, pairs=3,
        score=0.9, why="+0.5 over 3 seeds", course=course,
    )  # fmt: skip
    verdict = Verdict(
        script="train.py", measure="accuracy", goal=Goal.HIGHER, best="he-init+scale-lr",
        comparisons=(comparison,), outcomes=(), cost=5.0, diagnosis="it is so",
    )  # fmt: skip
    return trial_text(verdict, Style())
