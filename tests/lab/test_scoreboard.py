"""The proving ground: plants, what counts, and how it is scored."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from defib.core.catalogue import entries
from defib.core.cause import Cause
from defib.core.errors import NotFound, OutputError
from defib.core.scoring import rate, rule_scores
from defib.diagnosis import engine
from defib.diagnosis.rule import Rule
from defib.lab import scoreboard
from defib.lab.board import Board, board
from defib.lab.boardtext import beside, markdown
from defib.lab.draws import Kind, draw
from defib.lab.pairs import Failed, Named, Pair, Seen, Trial, pathologies, read, written
from defib.lab.pathology import Pathology
from defib.lab.proving import present
from defib.lab.scoreboard import conduct, examine, trials
from defib.lab.training import begin
from defib.report.proven import sentences

MADE = {"command": "defib lab scoreboard --seeds 8", "date": "2026-11-21", "torch": "2.13.0"}
RULES = {cls.slug: cls for cls in entries(Rule, engine.PACKAGE)}
COMES_WITH_TRAINING = {"rate-too-low", "relu-scores", "mistaken-class", "straight-units"}
"""What a net of six steps may have by itself: it went not far, knows no class, bends nowhere."""


def named(rule: str, severity: str = "error", depth: int = 0, cause: str = "born-dead") -> Named:
    fault = str(RULES[rule].fault)
    return Named(rule=rule, cause=cause, fault=fault, severity=severity, depth=depth)


def seen(*findings: Named, skill: float, took: bool) -> Seen:
    return Seen(skill=skill, took=took, verdict="sick", findings=findings, faults=0, seconds=1.0)


def pair(
    *findings: Named,
    slug: str = "born-dead",
    number: int = 0,
    skill: float = 0.0,
    took: bool = True,
    twin: Seen | None = None,
) -> Pair:
    return Pair(
        trial=Trial(pathology=slug, number=number),
        drawn={},
        sick=seen(*findings, skill=skill, took=took),
        twin=twin or seen(skill=0.9, took=False),
    )


def scored(*pairs: Pair | Failed) -> Board:
    return board(pairs, MADE)


def of(found: Board, slug: str = "dead-unit") -> dict[str, str]:
    (score,) = [s for s in found.rules if s.rule == slug]
    return {name: f"{r.hits}/{r.trials}" for name, r in vars(score).items() if hasattr(r, "hits")}


@pytest.mark.parametrize("cls", pathologies().values(), ids=lambda cls: cls.slug)
def test_every_pathology_names_rules_and_causes_that_there_are(cls: type[Pathology]) -> None:
    known = {cause.value for cause in RULES[cls.rule].causes}
    assert set(cls.causes) & known
    assert {Cause(cause) for cause in cls.causes}
    assert set(cls.also) <= set(RULES) - {cls.rule}
    assert cls.title
    assert cls.__module__.rsplit(".", 1)[1] == cls.slug.replace("-", "_")


@pytest.mark.parametrize("cls", pathologies().values(), ids=lambda cls: cls.slug)
def test_a_healthy_twin_is_free_of_what_is_planted(cls: type[Pathology]) -> None:
    pathology = cls()
    drawn = replace(pathology.fit(draw(cls.kinds, 7)), steps=6)
    job = begin(drawn)
    job.start = {name: tensor.clone() for name, tensor in job.net.state_dict().items()}
    job.run(job.optimiser(job.net.parameters()))
    assert cls.slug in COMES_WITH_TRAINING or not pathology.shows(job)


@pytest.mark.parametrize(
    "slug", ["zero-weights", "constant-labels", "idle-bias", "tiny-inputs", "missing-values"]
)
def test_a_plant_shows_in_the_training_itself(slug: str) -> None:
    pathology = pathologies()[slug]()
    job = begin(replace(pathology.fit(draw(pathology.kinds, 3)), steps=3))
    pathology.plant(job)
    job.start = {name: tensor.clone() for name, tensor in job.net.state_dict().items()}
    job.run(job.optimiser(job.net.parameters()))
    assert pathology.shows(job)


@pytest.mark.parametrize("kind", list(Kind))
def test_an_ordinary_training_begins_without_skill_and_is_the_same_every_time(kind: Kind) -> None:
    first, second = (begin(replace(draw([kind], 5), steps=4)) for _ in range(2))
    for job in (first, second):
        assert job.skill() < 0.5
        job.run(job.optimiser(job.net.parameters()))
    assert first.losses == second.losses
    assert all(map(torch.equal, first.net.state_dict().values(), second.net.state_dict().values()))


def test_a_planted_death_is_seen_end_to_end_and_its_twin_is_healthy() -> None:
    found = examine(Trial(pathology="born-dead", number=0))
    assert found.sick_counts
    assert found.twin_counts
    assert found.sick.skill < 0.1 < 0.5 < found.twin.skill
    assert (found.sick.faults, found.twin.faults) == (0, 0)
    assert found.sick.first is not None
    assert found.sick.first.rule == "dead-unit"
    assert not found.twin.alarms
    assert read(written(found)) == found


def test_the_first_finding_decides_and_consequences_do_not_count() -> None:
    told = scored(
        pair(named("dead-unit"), number=0),
        pair(named("lr-too-high"), named("dead-unit", depth=1), number=1),
        pair(named("dead-unit", severity="info"), number=2),
        pair(number=3),
    )
    assert of(told)["sensitivity"] == "1/4"
    assert [f.rule for f in pair(named("lr-too-high"), named("dead-unit", depth=1)).sick.alarms] == [
        "lr-too-high"
    ]
    assert (told.detected.hits, told.detected.trials) == (2, 4)
    assert of(told, "lr-too-high")["misnamed"] == "1/4"


def test_a_plant_that_did_not_take_or_did_no_harm_does_not_count() -> None:
    told = scored(
        pair(named("dead-unit"), took=False),
        pair(named("dead-unit"), number=1, skill=0.46),
        pair(named("dead-unit"), number=2, twin=seen(skill=0.2, took=False)),
        pair(named("dead-unit"), number=3, skill=0.45),
        Failed(trial=Trial(pathology="born-dead", number=4), why="OSError: x"),
    )
    assert told.sick == 1
    assert told.left_out == {
        "the plant did not take": 1,
        "the plant took and did no harm": 1,
        "no healthy twin to measure the harm by": 1,
        "the twin did not learn": 1,
        "the twin has the condition by itself": 0,
        "the pair broke": 1,
    }


def test_a_harmless_plant_counts_without_harm_and_any_finding_names_it() -> None:
    told = scored(
        pair(named("dead-features", "info"), named("null-parameter", "info"), slug="idle-bias", skill=0.9),
        pair(
            slug="idle-bias",
            skill=0.9,
            number=1,
            twin=seen(named("null-parameter", "info"), skill=0.9, took=False),
        ),
    )
    assert of(told, "null-parameter")["sensitivity"] == "1/2"
    assert of(told, "null-parameter")["quiet"] == "1/2"
    assert told.detected.trials == 0


def test_another_rule_that_sees_the_same_is_accepted_and_not_called_a_misnomer() -> None:
    told = scored(pair(named("lr-too-high"), slug="killing-step"))
    assert of(told)["sensitivity"] == "0/1"
    assert of(told)["accepted"] == "1/1"
    assert of(told, "lr-too-high")["misnamed"] == "0/0"


def test_a_warning_on_a_healthy_twin_costs_specificity_and_information_does_not() -> None:
    told = scored(
        pair(twin=seen(named("dead-unit", "warning"), skill=0.9, took=False)),
        pair(number=1, twin=seen(named("dead-unit", "info"), skill=0.9, took=False)),
        pair(number=2, twin=seen(named("dead-unit", "warning"), skill=0.4, took=False)),
    )
    assert (told.false_alarms.hits, told.false_alarms.trials) == (1, 2)
    assert of(told)["specificity"] == "1/2"
    assert told.alarmed == ("born-dead 0 (skill 0.90): dead-unit, born-dead",)


def test_the_page_has_every_rule_and_every_pathology() -> None:
    text = markdown(scored(pair(named("dead-unit"))))
    for slug in (*RULES, *pathologies()):
        assert f"| {slug} |" in text
    assert "| dead-unit | 1 | 1 of 1 = 100.0% [2.5%, 100.0%] |" in text
    assert "| gradient-noise | 0 | not planted |" in text


def test_a_rules_page_tells_its_figures_from_the_stored_scoreboard() -> None:
    told = json.loads(json.dumps(asdict(scored(pair(named("dead-unit")), pair(number=1)))))
    said = " ".join(sentences("dead-unit", told))
    assert "named in 1 of 2 = 50.0% [1.3%, 98.7%]" in said
    assert "A hidden layer's biases are far below zero: 1 of 2; else nothing." in said
    assert "not planted" in " ".join(sentences("gradient-noise", told))
    assert "younger than the last measurement" in " ".join(sentences("no-such-rule", told))
    assert sentences("dead-unit", {}) == ()
    assert rule_scores(told)["dead-unit"].sensitivity == rate(1, 2)


def test_a_kept_pair_is_not_run_again(tmp_path: Path) -> None:
    kept = pair(named("dead-unit"), skill=0.123)
    path = tmp_path / f"born-dead-0-{scoreboard._mark('born-dead')}.json"
    path.write_text(written(kept), encoding="utf-8")
    assert list(conduct([kept.trial], tmp_path)) == [kept]


def test_presenting_kept_pairs_writes_the_page_and_the_data(tmp_path: Path) -> None:
    kept = pair(named("dead-unit"))
    (tmp_path / "pairs").mkdir()
    path = tmp_path / "pairs" / f"born-dead-0-{scoreboard._mark('born-dead')}.json"
    path.write_text(written(kept), encoding="utf-8")
    told: list[str] = []
    found = present(["born-dead"], draws=1, folder=tmp_path, told=told.append)
    assert told == ["1 of 1  born-dead 0: dead-unit/born-dead (error)"]
    assert found.made["command"] == "defib lab scoreboard born-dead --seeds 1"
    assert json.loads((tmp_path / "lab_scoreboard.json").read_text())["sick"] == 1
    assert (tmp_path / "lab_scoreboard.md").read_text() == markdown(found)


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OutputError, match="cannot keep its results in"):
        next(conduct(trials(1, ["born-dead"]), tmp_path / "file"))


def test_an_unknown_pathology_is_one_clear_line() -> None:
    with pytest.raises(NotFound, match="no pathology is called 'born-blue'; did you mean born-dead"):
        trials(1, ["born-blue"])
    assert len(trials(2)) == 2 * len(pathologies())


def test_a_later_board_is_set_beside_the_first_look_and_says_that_its_draws_are_others() -> None:
    first = json.loads(json.dumps(asdict(scored(pair(), pair(named("dead-unit"), number=1)))))
    later = scored(pair(named("dead-unit"), number=8))
    text = beside(later, first)
    assert "| born-dead | 1 of 2 = 50.0% [1.3%, 98.7%] | 1 of 1 = 100.0% [2.5%, 100.0%] |" in text
    assert "which no rule had seen" in text
    assert "| born-dead |" not in beside(later, json.loads(json.dumps(asdict(later))))


def test_trials_begin_at_the_draw_that_is_asked_for() -> None:
    assert [trial.number for trial in trials(3, ["born-dead"], 8)] == [8, 9, 10]
