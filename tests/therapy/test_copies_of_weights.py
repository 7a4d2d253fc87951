"""Averages follow a treatment; other copies of the weights are named; what none could follow is refused."""

import copy
import gc
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

import defib
from defib.core.errors import Refused


def trained(average: bool) -> tuple[nn.Module, torch.optim.Optimizer, AveragedModel | None]:
    gc.collect()  # networks of earlier tests are alive until then, and would count as copies
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    averaged = AveragedModel(model) if average else None
    for _ in range(3):
        step(model, optimizer)
        if averaged is not None:
            averaged.update_parameters(model)
    return model, optimizer, averaged


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(torch.ones(2, 4)).square().mean().backward()
    optimizer.step()


def test_an_average_has_the_new_activation_too_and_undo_gives_back_the_old(tmp_path: Path) -> None:
    model, optimizer, averaged = trained(average=True)
    assert averaged is not None
    with defib.watch(model, optimizer, output=tmp_path / "r.rec") as run:
        step(model, optimizer)
        receipt = run.treat("leaky-relu")
        assert isinstance(averaged.module[1], nn.LeakyReLU)
        assert averaged.module[1] is not model[1]
        assert int(averaged.n_averaged) == 3  # no weight was changed
        receipt.undo()
        assert isinstance(averaged.module[1], nn.ReLU)


def test_an_average_starts_anew_after_new_weights_and_undo_takes_that_back(tmp_path: Path) -> None:
    model, optimizer, averaged = trained(average=True)
    assert averaged is not None
    with defib.watch(model, optimizer, output=tmp_path / "r.rec") as run:
        step(model, optimizer)
        receipt = run.treat("he-init")
        assert int(averaged.n_averaged) == 0
        receipt.undo()
        assert int(averaged.n_averaged) == 3
        run.treat("he-init")
        averaged.update_parameters(model)
    for mine, theirs in zip(model.parameters(), averaged.module.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_new_parameters_are_refused_where_an_average_could_not_follow(tmp_path: Path) -> None:
    model, optimizer, averaged = trained(average=True)
    assert averaged is not None
    with defib.watch(model, optimizer, output=tmp_path / "r.rec") as run:
        step(model, optimizer)
        before = list(model.state_dict())
        with pytest.raises(Refused, match="AveragedModel") as caught:
            run.treat("batch-norm")
        assert "\n" not in str(caught.value)
        assert list(model.state_dict()) == before
        assert int(averaged.n_averaged) == 3


@pytest.mark.parametrize("kind", ["Sequential", "dict"])
def test_a_copy_that_is_somebody_elses_to_update_is_named_and_left(tmp_path: Path, kind: str) -> None:
    model, optimizer, _ = trained(average=False)
    shadow: object = copy.deepcopy(model)
    if kind == "dict":
        shadow = {name: t.detach().clone() for name, t in model.state_dict().items()}
    with defib.watch(model, optimizer, output=tmp_path / "r.rec") as run:
        step(model, optimizer)
        assert run.treat("he-init").left == (f"a {kind}",)
        assert run.treat("leaky-relu").left == (f"a {kind}",)
        assert run.treat("scale-lr", factor=0.5).left == ()  # nothing of theirs was changed
        with pytest.raises(Refused, match="could neither follow nor be loaded back"):
            run.treat("batch-norm")
        done = [e for e in run.view.of_kind("treatment") if e.data["stage"] == "done"]
    assert f"a {kind}" in done[0].data["left"]
    assert shadow is not None


def test_snapshots_of_ours_and_the_model_itself_are_no_copies(tmp_path: Path) -> None:
    model, optimizer, _ = trained(average=False)
    with defib.watch(model, optimizer, output=tmp_path / "r.rec") as run:
        step(model, optimizer)
        run.snapshot()
        assert run.treat("he-init").left == ()


def test_another_network_of_the_same_shape_that_is_trained_itself_is_no_copy(tmp_path: Path) -> None:
    model, optimizer, _ = trained(average=False)
    twin = copy.deepcopy(model)
    other = torch.optim.SGD(twin.parameters(), lr=0.1)
    with defib.watch(model, optimizer, output=tmp_path / "r.rec") as run:
        step(model, optimizer)
        assert run.treat("he-init").left == ()
    assert other.param_groups


class _Odd(dict):
    """Somebody's table that answers in its own way."""

    def keys(self):  # type: ignore[no-untyped-def, override]
        return ["one", "two"]

    def get(self, *_what):  # type: ignore[no-untyped-def, override]
        raise RuntimeError("not yours to ask")


def test_odd_tables_and_lazy_networks_that_happen_to_live_disturb_nobody(tmp_path: Path) -> None:
    model, optimizer, _ = trained(average=False)
    odd = _Odd({name: None for name, _ in model.named_parameters()})
    lazy = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(1))
    with defib.watch(model, optimizer, output=tmp_path / "r.rec") as run:
        step(model, optimizer)
        receipt = run.treat("scale-lr", factor=0.5)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05)
    receipt.undo()
    del odd, lazy
