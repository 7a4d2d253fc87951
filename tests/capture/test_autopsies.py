"""Autopsies during a run: deaths are looked into at their step, and what cannot be done is said."""

import gc
import warnings
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from memory import Memory
from small import same
from torch import Tensor, nn

from defib.capture import listening
from defib.capture.pulse import Pulse
from defib.capture.recorder import Recorder
from defib.capture.session import Session, start
from defib.capture.vitals import Target
from defib.core.kill import EXHIBIT, Culprit, Inquest, Kills, LayerKill
from defib.probe.kill import inquire

KILLED = 30


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 3))


def watched(model: nn.Module, sink: Memory, memory: int = 256 << 20, probe=inquire) -> Session:
    return start(model, sink=sink, inquire=probe, memory=memory)


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 50, kill: dict[str, float] | None = None
) -> None:
    """Steps on one fixed batch with inputs above 0; at step KILLED some gradients are made large.

    Args:
        kill: By parameter name, the size of the gradient that is put in for its first four units.
    """
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(24, 8, generator=generator), torch.randint(3, (24,), generator=generator)
    named = dict(model.named_parameters())
    for step in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        for name, size in (kill or {}).items():
            if step == KILLED:
                named[name].grad[:4] = size
        optimizer.step()


def killed(sink: Memory, path: str, step: int = KILLED) -> LayerKill:
    return LayerKill.from_exhibit(*sink.exhibits[EXHIBIT, path, step])


def steps(sink: Memory) -> list[tuple[str, int]]:
    return [(path, step) for kind, path, step in sink.exhibits if kind == EXHIBIT]


def why_off(sink: Memory) -> str:
    return sink.known["autopsy"]["why_off"]


def test_units_that_a_large_step_kills_are_looked_into_at_that_very_step(sink: Memory) -> None:
    torch.manual_seed(1)
    model = net()
    session = watched(model, sink)
    train(model, torch.optim.SGD(model.parameters(), lr=0.1), kill={"2.bias": 40.0})
    session.close()
    assert session.faults == 0
    kill = killed(sink, "2")
    assert set(kill.units) <= {0, 1, 2, 3}
    assert set(kill.culprits) == {Culprit.OWN}
    assert kill.own_bias == pytest.approx(-4.0, rel=1e-5)
    assert (kill.crossing == KILLED).all()
    assert kill.alpha == pytest.approx(kill.before / -(kill.after - kill.before), rel=0.02)
    assert kill.residual < 1e-12


def test_the_factor_is_right_when_the_whole_training_is_done_again_with_a_smaller_step(sink: Memory) -> None:
    """The step of the kill is scaled in a run of its own: the strongest test there is."""

    def run(factor: float, into: Memory) -> tuple[nn.Module, Session]:
        torch.manual_seed(1)
        model = net()
        session = watched(model, into)
        train(model, torch.optim.SGD(model.parameters(), lr=0.1), kill={"2.bias": 40.0 * factor})
        session.close()
        return model, session

    run(1.0, sink)
    kill = killed(sink, "2")
    unit, alpha = int(kill.units[0]), float(kill.alpha[0])
    outcome = []
    for factor in (0.9, 1.1):  # only the planted part is scaled here, so 10 % and not 1
        again = Memory()
        run(alpha * factor, again)
        outcome.append(any(unit in killed(again, p, s).units for p, s in steps(again) if p == "2"))
    assert outcome == [False, True]


def test_units_killed_by_what_feeds_them_are_said_to_be(sink: Memory) -> None:
    torch.manual_seed(1)
    model = net()
    with torch.no_grad():
        model[2].weight.copy_(-model[2].weight.abs())  # all that feeds the second layer pushes it down
        model[2].bias.fill_(3.0)
        model[0].weight.abs_()
    session = watched(model, sink)
    frozen = torch.optim.SGD([*model[0].parameters(), *model[4].parameters()], lr=0.1)
    seen = torch.optim.SGD(model[2].parameters(), lr=1e-6)
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(24, 8, generator=generator), torch.randint(3, (24,), generator=generator)
    for step in range(50):
        model.zero_grad()
        F.cross_entropy(model(x), y).backward()
        if step == KILLED:
            model[0].bias.grad.fill_(-40.0)
        frozen.step()
        seen.step()
    session.close()
    kill = killed(sink, "2")
    assert len(kill.units) == 12
    assert set(kill.culprits) == {Culprit.UPSTREAM}
    assert (abs(kill.own) < 1e-3).all()


def test_units_that_momentum_carried_on_and_killed_are_said_to_be(sink: Memory) -> None:
    """A wild gradient whose own step kills nobody: the coasting after it does."""
    torch.manual_seed(1)
    model = net()
    session = watched(model, sink)
    train(model, torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.95), kill={"2.bias": 6.0})
    session.close()
    late = [killed(sink, p, s) for p, s in steps(sink) if p == "2"]
    culprits = [c for kill in late for c in kill.culprits]
    assert Culprit.MOMENTUM in culprits
    for kill in late:
        carried = np.array([c is Culprit.MOMENTUM for c in kill.culprits])
        assert (kill.crossing[carried] > KILLED).all()
        assert (kill.momentum[carried] / kill.own[carried] > 0.5).all()


def test_a_unit_that_is_pushed_below_between_its_batches_is_charged_to_the_step_that_did_it(
    sink: Memory,
) -> None:
    """Two batches by turns; only the first fires unit 0, by 1. From KILLED on it falls by 0.6 a step.

    Its last gradient is that of KILLED, after which its sample is still at 0.4; the step after takes it.
    """
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1))
    with torch.no_grad():
        model[0].weight[0] = torch.tensor([2.0, 0.0])
        model[0].bias[0] = -1.0
        model[0].weight[1:].abs_()
    batches = torch.tensor([[1.0, 0.5]]), torch.tensor([[0.0, 0.5]])
    # Batch by batch it lives on every second step only: what counts as a silence is made to fit.
    session = watched(model, sink)
    session._recorder.autopsies.chance = 1.0
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.99)
    for step in range(50):
        optimizer.zero_grad()
        (1e-3 * model(batches[step % 2])).sum().backward()
        if step == KILLED:
            model[0].bias.grad[0] = 60.0
        optimizer.step()
    session.close()
    kill = killed(sink, "0")
    assert kill.units.tolist() == [0]
    assert kill.crossing.tolist() == [KILLED + 1]
    assert kill.before == pytest.approx(0.4, abs=0.01)
    assert kill.after == pytest.approx(0.4 - 0.594, abs=0.01)
    assert kill.culprits == (Culprit.MOMENTUM,)


def test_inputs_that_are_not_centred_show_in_the_counterfactual(sink: Memory) -> None:
    torch.manual_seed(1)
    model = net()
    session = watched(model, sink)
    train(model, torch.optim.SGD(model.parameters(), lr=0.1), kill={"0.weight": 8.0})
    session.close()
    kill = killed(sink, "0")
    assert set(kill.culprits) == {Culprit.OWN}
    assert kill.exact
    assert np.isfinite(kill.centring).all(), "rows that are shifted by a constant live on centred inputs"
    assert not kill.bias_zero.any()


def test_every_training_step_is_the_same_to_the_bit_while_deaths_are_looked_into(sink: Memory) -> None:
    def run(into: Memory | None) -> list[Tensor]:
        torch.manual_seed(1)
        model = nn.Sequential(*net()[:2], nn.Dropout(0.3), nn.BatchNorm1d(12), *net()[2:])
        session = None if into is None else watched(model, into)
        train(model, torch.optim.Adam(model.parameters(), lr=0.02), kill={"0.bias": 40.0})
        if session is not None:
            session.close()
            assert session.faults == 0
        return [t.detach().clone() for t in model.state_dict().values()] + [torch.rand(3)]

    assert same(run(None), run(sink))
    assert steps(sink), "no death was looked into"


# ------------------------------------------------------------------ what cannot be done


def test_a_model_too_large_for_the_memory_is_refused_in_one_line(sink: Memory) -> None:
    model = net()
    session = watched(model, sink, memory=4000)
    train(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
    session.close()
    assert "autopsy_memory is 0 MiB" in why_off(sink)
    assert [d["why"] for _, k, d in sink.events if k == "autopsy-off"] == [why_off(sink)]
    assert not steps(sink)


def test_with_little_memory_fewer_steps_are_kept_and_a_shorter_silence_must_do(sink: Memory) -> None:
    torch.manual_seed(1)
    model = net()
    session = watched(model, sink, memory=16_000)  # 1.3 KiB of parameters and 1 KiB of data a step
    train(model, torch.optim.SGD(model.parameters(), lr=0.1), kill={"2.bias": 40.0})
    session.close()
    assert why_off(sink) == ""
    assert 1 <= sink.known["autopsy"]["silence"] < 8
    assert set(killed(sink, "2").culprits) == {Culprit.OWN}


def test_memory_stays_below_the_cap(sink: Memory) -> None:
    model, most = net(), 0
    session = watched(model, sink, memory=20_000)
    camera = session._recorder.autopsies._camera
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(30):
        train(model, optimizer, steps=1)
        most = max(most, sum(a.size for a in camera.albums.values()))
        kept = [t for a in camera.albums.values() for f in a.frames for t in f.values]
        assert sum(t.numel() * t.element_size() for t in kept) <= most
    session.close()
    one = 8 * 12 * 4 + 12 * 12 * 4 + 12 * 3 * 4 + 27 * 4 + 24 * 8 * 4
    assert one < most <= 20_000 + one
    assert not camera.albums


def test_torch_compile_takes_the_hooks_away_before_it_is_used(sink: Memory) -> None:
    original = torch.compile
    model = net()
    session = watched(model, sink)
    assert torch.compile is not original
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch would warn of a global module hook
        compiled = torch.compile(model, backend="eager")
        train(compiled, torch.optim.SGD(model.parameters(), lr=0.1), steps=3)
    assert "torch.compile" in why_off(sink)
    assert not torch.nn.modules.module._global_forward_pre_hooks
    session.close()
    assert torch.compile is original


def test_an_optimiser_with_a_closure_is_refused(sink: Memory) -> None:
    model = net()
    session = watched(model, sink)
    optimizer = torch.optim.LBFGS(model.parameters())

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = model(torch.rand(4, 8)).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    session.close()
    assert "closure" in why_off(sink)


def test_an_argument_that_cannot_be_kept_is_named(sink: Memory) -> None:
    class Graph:
        x = torch.rand(4, 8)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net()

        def forward(self, graph: Graph) -> Tensor:
            return self.net(graph.x)

    model = Net()
    session = watched(model, sink)
    model(Graph()).sum().backward()
    session.close()
    assert why_off(sink) == "the model is given a Graph, which cannot be kept for later"


def test_a_pass_that_is_another_one_when_made_again_is_not_believed(sink: Memory) -> None:
    """A hook of the user's changes the result, and does not run again."""
    torch.manual_seed(1)
    model = net()
    model[2].register_forward_hook(lambda _m, _i, out: out - 0.05)
    session = watched(model, sink)
    train(model, torch.optim.SGD(model.parameters(), lr=0.1), kill={"2.bias": 40.0})
    session.close()
    assert not steps(sink)
    assert sink.known["autopsy"]["not_attributed"] > 0


def test_a_probe_that_breaks_harms_nobody(sink: Memory) -> None:
    def broken(inquest: Inquest) -> Kills:
        raise RuntimeError("planted")

    def run(probe) -> list[Tensor]:
        torch.manual_seed(1)
        model = net()
        session = watched(model, sink, probe=probe) if probe else None
        train(model, torch.optim.SGD(model.parameters(), lr=0.1), kill={"2.bias": 40.0})
        if session:
            session.close()
            assert session.faults == 0
        return [p.detach().clone() for p in model.parameters()]

    assert same(run(None), run(broken))
    assert ["planted" in d["error"] for _, k, d in sink.events if k == "autopsy-fault"]


def test_a_forward_pass_that_raises_is_the_users_own_affair(sink: Memory) -> None:
    torch.manual_seed(1)
    model = net()
    session = watched(model, sink)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        model(torch.rand(4, 5))
    train(model, optimizer, kill={"2.bias": 40.0})
    session.close()
    assert killed(sink, "2").own_bias == pytest.approx(-4.0, rel=1e-5)
    assert session.faults == 0


def test_validation_passes_are_not_taken_for_training(sink: Memory) -> None:
    model = net()
    session = watched(model, sink)
    with torch.no_grad():
        model(torch.rand(4, 8))
    assert not session._recorder.autopsies._camera.albums
    session.close()


def test_micro_batches_are_kept_together(sink: Memory) -> None:
    model = net()
    session = watched(model, sink)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        for _ in range(2):
            model(torch.rand(4, 8)).sum().backward()
        optimizer.step()
    (album,) = session._recorder.autopsies._camera.albums.values()
    assert [len(frame.calls) for frame in album.frames] == [2, 2, 2]
    assert [frame.steps for frame in album.frames] == [{0: 0}, {0: 1}, {0: 2}]
    session.close()


def test_a_layer_without_any_gradient_is_not_taken_for_silent() -> None:
    """A layer that is frozen for a while tells nothing about its units."""
    targets = tuple(
        Target(path=path, source="bias", parameter=torch.zeros(2), rows=False, units=2) for path in "ab"
    )
    pulse = Pulse(targets, 0, 0)
    found = []
    for step in range(30):
        silent = step >= 20
        alive = np.array([not silent, True, not silent, True])
        found.append(pulse.see(step, alive, frozenset({1}) if silent else frozenset(), 8, 1e-3))
    told = {path: units.tolist() for each in found for path, (_, units) in each.items()}
    assert told == {"a": [0]}
    assert [step for step, each in enumerate(found) if each] == [27]


def test_a_unit_that_lives_now_and_then_is_no_suspect() -> None:
    target = Target(path="a", source="bias", parameter=torch.zeros(2), rows=False, units=2)
    pulse = Pulse((target,), 0, 0)
    found = [
        pulse.see(step, np.array([step < 20, step < 20 and step % 4 == 0]), frozenset(), 8, 1e-3)
        for step in range(40)
    ]
    assert [units.tolist() for each in found for _, units in each.values()] == [[0]]


def test_nothing_of_the_users_is_kept_alive(sink: Memory) -> None:
    model = net()
    session = watched(model, sink)
    x = torch.rand(4, 8)
    model(x).sum().backward()
    gone = weakref.ref(model[0]), weakref.ref(x)
    del model, x
    gc.collect()
    assert [ref() for ref in gone] == [None, None]
    session.close()


def test_two_watches_with_autopsies_end_as_if_there_had_been_none(sink: Memory) -> None:
    original, other = torch.compile, Memory()
    model = net()
    one, two = watched(model, sink), watched(model, other)
    train(model, torch.optim.SGD(model.parameters(), lr=0.1), steps=3)
    one.close()
    assert listening._listeners
    two.close()
    assert not listening._listeners
    assert torch.compile is original
    assert not torch.nn.modules.module._global_forward_hooks


def test_without_an_autopsy_nothing_listens_to_modules(sink: Memory) -> None:
    session = Session(Recorder(sink, [net()]), sink)
    assert not torch.nn.modules.module._global_forward_pre_hooks
    session.close()
    assert "autopsy" not in sink.known
