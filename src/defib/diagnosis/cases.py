"""Small runs made by hand: the examples of the rules.

Each layer of a run is a :class:`Plan`; everything not said in it is as in a
healthy layer. The numbers are exact by construction, no chance enters.

Letters: ``U`` units, ``T`` steps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from defib.core.activation_index import activation_named
from defib.core.optimizer import Norms, Optimizer
from defib.core.reading import Liveness, Reading
from defib.core.run import Event, RunView
from defib.core.series import Series
from defib.core.site import Signal, Site
from defib.core.tally import Tally
from defib.core.wiring import Layer, Wiring

Array = NDArray[np.float64]
NEVER = -1


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One hidden layer of a made-up run.

    Attributes:
        path: Its module path.
        units: How many.
        activation: Slug of its activation.
        dies: First step on which a unit is off for good; 0: it never fires.
        blocked: First step on which a unit gets no gradient although it fires.
        fires: Share of the samples on which a unit fires, for those not named in ``rates``.
        rates: The same for single units; below 1 / batch they fire only now and then.
        saturated: Share of saturated entries of single units.
        gradient: Sizes of dL/dh and of dL/dz.
        forward: Sizes of z and of h.
        inputs: Paths of the layers that feed it; None for the plan before it.
        skips: Paths that reach it around its producer.
        frozen: Its parameters require no gradient.
    """

    path: str
    units: int = 8
    activation: str = "relu"
    dies: Mapping[int, int] = field(default_factory=dict)
    blocked: Mapping[int, int] = field(default_factory=dict)
    fires: float = 0.5
    rates: Mapping[int, float] = field(default_factory=dict)
    saturated: Mapping[int, float] = field(default_factory=dict)
    gradient: tuple[float, float] = (1.0, 1.0)
    forward: tuple[float, float] = (1.0, 1.0)
    inputs: tuple[str, ...] | None = None
    skips: tuple[str, ...] = ()
    frozen: bool = False


def falling_loss(steps: int = 200, start: float = 2.3, end: float = 0.05) -> Array:
    """A loss that falls from ``start`` towards ``end``, with noise of 2 %; shape (T,)."""
    course = end + (start - end) * np.exp(-6 * np.arange(steps) / steps)
    return np.asarray(course * _wobble(steps))


def flat_loss(steps: int = 200, level: float = 2.303) -> Array:
    """A loss that stays where it is, with noise of 2 %; shape (T,)."""
    return np.asarray(level * _wobble(steps))


def broken_loss(steps: int = 200, at: int = 50) -> Array:
    """A loss that falls and is NaN from step ``at`` on; shape (T,)."""
    loss = falling_loss(steps)
    loss[at:] = np.nan
    return loss


def stair_loss(steps: int = 300, every: int = 25) -> Array:
    """A loss that falls from one pass to the next, and rises a little within each; shape (T,)."""
    number, place = np.divmod(np.arange(steps), every)
    course = 2.3 - 1.8 * number * every / steps + 0.1 * place / every
    return np.asarray(course * _wobble(steps))


def relapsing_loss(steps: int = 200, at: int = 100, level: float = 2.3) -> Array:
    """A loss that falls until step ``at`` and jumps to ``level`` there; shape (T,)."""
    loss = falling_loss(at)
    return np.concatenate([loss, flat_loss(steps - at, level)])


def _wobble(steps: int) -> Array:
    """Noise about 1 without chance: two incommensurable waves."""
    t = np.arange(steps)
    return np.asarray(1.0 + 0.02 * np.sin(2.4 * t) + 0.02 * np.sin(5.1 * t + 1))


def run_of(
    *plans: Plan,
    loss: Array | None = None,
    batch: int = 64,
    every: int = 10,
    readings: bool = True,
    period: int = 1,
    output: str = "head",
    output_activation: str = "",
    events: Sequence[Event] = (),
    loss_operations: tuple[str, ...] = ("NllLossBackward0", "LogSoftmaxBackward0"),
    norms: Norms | None = None,
    scale: Array | None = None,
) -> RunView:
    """A run of those hidden layers and an output layer.

    Args:
        *plans: Hidden layers in order of data flow.
        loss: At each step; None for one that falls over 200 steps.
        batch: Samples a step.
        every: Steps between readings.
        readings: Whether there are readings at all.
        period: Steps between reads of the gradients.
        output: Path of the output layer.
        output_activation: Slug of its activation; "" for none.
        events: Events.
        loss_operations: Node names between the last layer and the loss.
        norms: Sizes of gradients and weights.
        scale: Loss scale at each step.

    Returns:
        The run, with one SGD optimiser.
    """
    values = falling_loss() if loss is None else loss
    steps = len(values)
    if output_activation:
        plans = (*plans, Plan(path=output, activation=output_activation))
    taken = range(0, steps, every) if readings else ()
    layers = [_layer(p) for p in plans]
    if not output_activation:
        layers.append(Layer(path=output, kind="Linear", units=10, parameters=_names(output), optimizer=0))
    liveness = {p.path: _liveness(p, steps, batch, period) for p in plans if not p.frozen}
    if not output_activation:
        liveness[output] = _liveness(Plan(path=output, units=10, fires=1.0), steps, batch, period)
    index = np.arange(steps)
    return RunView(
        facts={"status": "finished"},
        layers=tuple(layers),
        wirings=tuple(_wiring(p, i, plans) for i, p in enumerate(plans)),
        readings=tuple(r for p in plans for step in taken for r in _readings(p, step, batch)),
        liveness=liveness,
        optimizers=(
            Optimizer(
                index=0,
                kind="SGD",
                steps=steps,
                parameters=tuple(n for layer in layers for n in layer.parameters),
                loss=Series(steps=index, values=values),
                lr=Series(steps=index, values=np.full(steps, 0.1)),
                scale=Series.empty() if scale is None else Series(steps=index, values=scale),
            ),
        ),
        flow_steps=np.array(list(taken), dtype=np.int64),
        events=tuple(events),
        loss_operations=loss_operations,
        norms=norms,
    )


def norms_of(sizes: Mapping[str, Array], every: int = 10) -> Norms:
    """Gradient norms of single parameters on sampled steps; weights of norm 1.

    Returns:
        The norms, R sampled steps by P parameters.
    """
    gradient = np.stack(list(sizes.values()), axis=1)
    return Norms(
        parameters=tuple(sizes),
        steps=np.arange(len(gradient)) * every,
        gradient=gradient,
        weight=np.ones_like(gradient),
        update=0.1 * gradient,
        swallowed=np.zeros_like(gradient),
    )


def _names(path: str) -> tuple[str, ...]:
    """Its parameters."""
    return (f"{path}.weight", f"{path}.bias")


def _layer(plan: Plan) -> Layer:
    """The layer of a plan."""
    return Layer(
        path=plan.path,
        kind="Linear",
        units=plan.units,
        parameters=_names(plan.path),
        optimizer=0,
        frozen=plan.frozen,
    )


def _wiring(plan: Plan, order: int, plans: Sequence[Plan]) -> Wiring:
    """The wiring of a plan: fed by the plan before it unless it says otherwise."""
    activation = activation_named(plan.activation)
    before = (plans[order - 1].path,) if order else ()
    return Wiring(
        site=Site(path=plan.path),
        activation=plan.activation,
        operation=activation.operations[0] if activation else "",
        units=plan.units,
        order=order,
        modules=(plan.path,),
        inputs=tuple(Site(path=p) for p in (before if plan.inputs is None else plan.inputs)),
        skips=tuple(Site(path=p) for p in plan.skips),
    )


def _end(plan: Plan, unit: int) -> int | None:
    """First step without gradient; None if it gets gradient to the end."""
    ends = [e for e in (plan.dies.get(unit), plan.blocked.get(unit)) if e is not None]
    return min(ends) if ends else None


def _alive(plan: Plan, unit: int, steps: int, batch: int, period: int) -> NDArray[np.int64]:
    """The steps on which a unit got gradient."""
    rate = plan.rates.get(unit, plan.fires) * batch
    spacing = period if rate >= 1 else max(period, round(1 / max(rate, 1e-9)))
    end = _end(plan, unit)
    return np.arange(0, steps if end is None else min(end, steps), spacing)


def _liveness(plan: Plan, steps: int, batch: int, period: int) -> Liveness:
    """The liveness that such a layer leaves behind."""
    alive = [_alive(plan, u, steps, batch, period) for u in range(plan.units)]
    read = np.arange(0, steps, period)
    return Liveness(
        path=plan.path,
        source=f"{plan.path}.bias",
        steps=len(read),
        last_step=int(read[-1]) if len(read) else NEVER,
        period=period,
        first_alive=np.array([a[0] if len(a) else NEVER for a in alive], dtype=np.int64),
        last_alive=np.array([a[-1] if len(a) else NEVER for a in alive], dtype=np.int64),
        alive_steps=np.array([len(a) for a in alive], dtype=np.int64),
        batch=float(batch),
    )


def _readings(plan: Plan, step: int, batch: int) -> list[Reading]:
    """What the four signals of a layer look like on one step."""
    site = Site(path=plan.path)
    on = np.array([_positive(plan, u, step, batch) for u in range(plan.units)])
    share = np.array([plan.saturated.get(u, 0.0) for u in range(plan.units)])
    off = np.where(on == 0, float(batch), batch - on) * _switches(plan)
    saturated = np.maximum(share * batch, off)
    outward, inward = plan.gradient
    tallies = {
        Signal.PREACTIVATION: _tally(batch, on, np.zeros_like(on), plan.forward[0], saturated, off),
        Signal.ACTIVATION: _tally(batch, on, off, plan.forward[1], saturated, off),
        Signal.ACTIVATION_GRAD: _tally(batch, on, np.zeros_like(on), outward, 0 * on, 0 * on),
        Signal.PREACTIVATION_GRAD: _tally(batch, on, off, inward, 0 * on, 0 * on),
    }
    return [Reading(site=site, signal=s, first=step, last=step, tally=t) for s, t in tallies.items()]


def _switches(plan: Plan) -> bool:
    """Whether its activation has an off side."""
    activation = activation_named(plan.activation)
    return activation is not None and activation.can_die


def _positive(plan: Plan, unit: int, step: int, batch: int) -> float:
    """On how many samples a unit is positive."""
    if plan.dies.get(unit, step + 1) <= step:
        return 0.0
    rate = plan.rates.get(unit, plan.fires) * batch
    if rate >= 1:
        return float(round(rate))
    return float(step % max(1, round(1 / max(rate, 1e-9))) == 0)


def _tally(batch: int, positive: Array, zero: Array, size: float, saturated: Array, flat: Array) -> Tally:
    """A tally of ``batch`` entries a unit with that root mean square."""
    units = len(positive)
    count = np.full(units, float(batch))
    finite = np.isfinite(size)
    return Tally(
        samples=batch,
        count=count,
        positive=positive,
        zero=zero,
        saturated=saturated,
        flat=flat,
        nonfinite=np.zeros(units) if finite else count,
        total=0.1 * count * (size if finite else 0.0) * np.linspace(-1, 1, units),  # no two units alike
        squares=count * size**2 if finite else np.zeros(units),
        low=np.full(units, -size if finite else np.inf),
        high=np.full(units, size if finite else -np.inf),
    )
