"""Every experiment: it runs, its page is whole, and its verdicts follow the mechanism."""

import random
import re

import numpy as np
import pytest
import torch

from defib.lab.dials import Scale, choose
from defib.lab.estimate import Verdict
from defib.lab.experiment import HEADINGS
from defib.lab.index import claims, experiments, page
from defib.lab.result import Order, Result, across, plain, read, written
from defib.lab.runner import perform

KNOWN = experiments()


def quick(slug: str, **dials) -> Result:
    return perform(Order(slug=slug, seed=0, scale=Scale.QUICK, overrides=dials))


def chance():
    """The state of every global generator."""
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()


@pytest.mark.parametrize("slug", KNOWN)
def test_an_experiment_repeats_itself_and_its_verdicts_change_with_the_mechanism(slug, tmp_path):
    cls = KNOWN[slug]
    before = chance()
    result = quick(slug)
    assert chance() == before, "an experiment draws from its own generators only"
    assert plain(quick(slug))["measurement"] == plain(result)["measurement"]
    verdicts = result.measurement.verdicts()
    assert set(verdicts) == set(cls.rows)

    path = tmp_path / "result.json"
    path.write_text(written(result), encoding="utf-8")
    assert plain(read(path))["measurement"] == plain(result)["measurement"]
    assert across([read(path)]) == across([result])

    assert cls.perturbations, "without a perturbation nothing shows that it measures anything"
    for change in cls.perturbations:
        perturbed = quick(slug, **change.dials).measurement.verdicts()
        for row in change.changes:
            assert verdicts[row] != Verdict.UNDECIDED, f"{row} is undecided as it stands"
            assert perturbed[row] != verdicts[row], f"{row} is {verdicts[row]} all the same: {change.why}"


@pytest.mark.parametrize("slug", KNOWN)
def test_a_page_has_its_headings_and_every_dial_its_meaning(slug):
    cls = KNOWN[slug]
    found = re.findall(r"^([A-Z][A-Za-z ]+):?\n-{3,}$", page(cls), re.MULTILINE)
    assert found == list(HEADINGS)
    assert cls.title.endswith("?"), "the title is the question"
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", slug)
    assert all(field.metadata["meaning"] for field in cls.dials.__dataclass_fields__.values())
    for scale in Scale:
        choose(cls.dials, scale, {})


def test_every_claim_is_settled_by_an_experiment_or_says_why_it_cannot_be():
    settled = {row for cls in KNOWN.values() for row in cls.rows}
    assert settled <= set(claims()), "an experiment names a row that the list does not have"
    for row, claim in claims().items():
        assert bool(claim.untestable) != (row in settled), row


def test_there_are_as_many_experiments_and_settled_rows_as_promised():
    assert len(KNOWN) >= 45
    assert len({row for cls in KNOWN.values() for row in cls.rows}) >= 110
