"""Plots of a run as matplotlib figures; nothing of pyplot's global state is used or changed.

Every figure is a :class:`matplotlib.figure.Figure` of its own: a notebook shows it as a result, and
``figure.savefig("loss.png")`` writes it. Names are shown escaped and shortened, never as mathematics.

Letters: ``C`` columns of a picture.
"""

import base64
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from defib.core.errors import EnvironmentProblem
from defib.core.run import RunView
from defib.core.series import Series
from defib.core.site import Signal
from defib.report.portrait import over_time
from defib.report.portrait.layers import Place, look, places
from defib.report.wording import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_LINES = 40
_MOST_ROWS = 60
_NOTHING = "not observed in this run"


def blank(rows: int = 0) -> "tuple[Figure, Axes]":
    """A figure with one empty plot.

    Args:
        rows: Lines of names at its side, for which it grows.

    Returns:
        Both.

    Raises:
        EnvironmentProblem: If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        hint = "pip install 'defib[plot]'"
        raise EnvironmentProblem(f"plots need matplotlib, which is not installed: {hint}") from None
    figure = Figure(figsize=(8.0, max(3.6, 0.9 + 0.24 * rows)), layout="constrained")
    return figure, figure.add_subplot()


def loss(run: RunView) -> "Figure":
    """The loss of each optimiser step by step, with treatments marked."""
    figure, axes = blank()
    several = len(run.optimizers) > 1
    for optimizer in run.optimizers:
        name = f"{shown(optimizer.kind)} {optimizer.index}" if several else "loss"
        _line(axes, optimizer.loss, name, several)
    _finish(axes, "Loss", "loss", [o.loss.values for o in run.optimizers], named=several)
    _mark(axes, run)
    return figure


def liveness(run: RunView) -> "Figure":
    """Layer by step: the share of units that get a gradient; white where nothing was read."""
    rows = places(run)
    looks = {i: seen for i, place in enumerate(rows) if (seen := look(run, place.site)) is not None}
    grid = over_time.liveness(run, rows, looks)
    kept = [] if grid is None else [i for i, row in enumerate(_numbers(grid)) if not np.isnan(row).all()]
    figure, axes = blank(len(kept[:_MOST_ROWS]))
    if grid is None:
        return _empty(figure, axes, "Units alive")
    kept = kept[:_MOST_ROWS]
    edges = np.append(grid["steps"], grid["end"])
    picture = np.array([_since_it_is_there(run, rows[i], _numbers(grid)[i], edges[1:]) for i in kept])
    image = axes.pcolormesh(edges, np.arange(len(kept) + 1) - 0.5, picture, cmap="cividis", vmin=0, vmax=1)
    axes.invert_yaxis()
    _names(axes, [str(rows[i].site) for i in kept])
    axes.set(title="Units alive", xlabel="step")
    figure.colorbar(image, label="share of the layer's units")
    _mark(axes, run)
    return figure


def _numbers(grid: Mapping[str, Any]) -> NDArray[np.float64]:
    """The numbers of a portrait's grid, shape (rows, C); NaN where nothing was seen."""
    kind = "<u1" if grid["bits"] == 8 else "<u2"
    codes = np.frombuffer(base64.b64decode(grid["data"]), kind).reshape(grid["rows"], grid["cols"])
    top = (1 << grid["bits"]) - 2
    values = grid["low"] + (codes - 1.0) / (top - 1) * (grid["high"] - grid["low"])
    return np.where((codes == 0) | (codes > top), np.nan, values)


def _since_it_is_there(
    run: RunView, place: Place, values: NDArray[np.float64], ends: NDArray[np.int64]
) -> NDArray[np.float64]:
    """NaN before a layer's first step: one that a treatment added was not dead before, it was not there."""
    live = run.liveness.get(place.site.path)
    if live is None or not live.steps:
        return values
    return np.where(ends <= live.last_step + 1 - live.steps * max(1, live.period), np.nan, values)


def ledger(names: Sequence[str], derivative: Sequence[float], between: Sequence[float]) -> "Figure":
    """A bar a layer: what its derivative, and what stands below it, does to the gradient.

    Args:
        names: The activations, nearest to the input first.
        derivative: Decades by each activation's derivative.
        between: Decades by what stands between each activation and the one before it; 0 for the first.

    Returns:
        The figure.
    """
    rows = len(names)
    figure, axes = blank(rows)
    if not rows:
        return _empty(figure, axes, "Gain ledger of the gradient")
    places = np.arange(rows)
    axes.barh(places - 0.2, derivative, height=0.4, color="#d98200", label="derivative of the activation")
    axes.barh(places + 0.2, between, height=0.4, color="#0072b2", label="weights and norms before it")
    axes.axvline(0.0, color="0.4", linewidth=0.8)
    axes.invert_yaxis()
    _names(axes, names)
    axes.set(title="Gain ledger of the gradient", xlabel="decades: -1 leaves a tenth of the gradient")
    axes.legend(fontsize="small")
    return figure


def activations(run: RunView) -> "Figure":
    """Mean, standard deviation and range of each layer's activation, over the last window read."""
    found = []
    for wiring in run.wirings[:_MOST_ROWS]:
        readings = run.at(wiring.site, Signal.ACTIVATION)
        if readings and readings[-1].entries:
            found.append((str(wiring.site), readings[-1].tally))
    figure, axes = blank(len(found))
    if not found:
        return _empty(figure, axes, "Activations")
    names = []
    for row, (name, tally) in enumerate(found):
        entries = float(tally.finite.sum())
        mean = float(tally.total.sum()) / entries
        spread = float(np.sqrt(max(0.0, float(tally.squares.sum()) / entries - mean * mean)))
        axes.hlines(row, float(tally.low.min()), float(tally.high.max()), color="0.6", linewidth=1.0)
        axes.barh(row, 2 * spread, left=mean - spread, height=0.5, color="#56b4e9")
        axes.plot([mean], [row], marker="|", markersize=12, color="black")
        names.append(f"{shown(name, 24)}, {float(tally.zero.sum()) / float(tally.count.sum()):.0%} zero")
    axes.invert_yaxis()
    _names(axes, names)
    axes.set(title="Activations, last window read", xlabel="mean, one standard deviation, lowest and highest")
    return figure


def gradient_flow(run: RunView) -> "Figure":
    """Norm of each weight's gradient over the sampled steps, first layers dark."""
    norms = run.norms
    values = None if norms is None else norms.gradient
    return _per_parameter(run, values, "Gradient flow", "norm of the gradient")


def updates(run: RunView) -> "Figure":
    """Size of each weight's update over that weight's size, on the sampled steps; 1e-3 is usual."""
    norms = run.norms
    values = None
    if norms is not None:
        with np.errstate(invalid="ignore", divide="ignore"):
            values = norms.update / np.where(norms.weight > 0, norms.weight, np.nan)
    figure = _per_parameter(run, values, "Updates", "update / weight")
    figure.axes[0].axhline(1e-3, color="0.5", linewidth=0.8, linestyle="--")
    return figure


def _per_parameter(run: RunView, values: NDArray[np.float64] | None, title: str, unit: str) -> "Figure":
    """One line for each matrix of weights; biases and norms where there is nothing else."""
    figure, axes = blank()
    norms = run.norms
    if norms is None or values is None or not len(norms.steps):
        return _empty(figure, axes, title)
    weights = [i for i, name in enumerate(norms.parameters) if name.endswith("weight")]
    chosen = (weights or list(range(len(norms.parameters))))[:_MOST_LINES]
    from matplotlib import colormaps

    shades = colormaps["cividis"](np.linspace(0.0, 0.85, max(1, len(chosen))))
    for shade, column in zip(shades, chosen, strict=True):
        there = np.isfinite(values[:, column]) & (values[:, column] > 0)
        name = _plain(norms.parameters[column])
        axes.plot(norms.steps[there], values[there, column], color=shade, linewidth=1.2, label=name)
    axes.set(title=title, xlabel="step", ylabel=unit)
    if any(len(line.get_xdata()) for line in axes.lines):  # type: ignore[arg-type]
        axes.set_yscale("log")
    axes.legend(fontsize="x-small", ncols=1 + len(chosen) // 14)
    _mark(axes, run)
    return figure


def _line(axes: "Axes", series: Series, name: str, named: bool) -> None:
    axes.plot(series.steps, series.values, linewidth=1.2, label=_plain(name) if named else None)


def _finish(axes: "Axes", title: str, unit: str, values: Sequence[Any], *, named: bool) -> None:
    """Titles; a logarithmic scale where the numbers go over more than two decades."""
    axes.set(title=title, xlabel="step", ylabel=unit)
    every = np.concatenate([np.asarray(v, dtype=np.float64) for v in values]) if values else np.zeros(0)
    every = every[np.isfinite(every)]
    if len(every) and every.min() > 0 and every.max() > 100 * every.min():
        axes.set_yscale("log")
    if not len(every):
        axes.text(0.5, 0.5, _NOTHING, transform=axes.transAxes, ha="center")
    if named:
        axes.legend(fontsize="small")


def _mark(axes: "Axes", run: RunView) -> None:
    """A dashed line for each treatment that was given."""
    for event in run.of_kind("treatment"):
        if event.data.get("stage") == "done":
            axes.axvline(max(0, event.step), color="#d55e00", linestyle="--", linewidth=1.0)
            name = _plain(str(event.data.get("treatment", "")))
            axes.annotate(name, (max(0, event.step), 1.0), xycoords=("data", "axes fraction"),
                          rotation=90, va="top", ha="right", fontsize="x-small")  # fmt: skip


def _names(axes: "Axes", names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [_plain(name or "(whole model)") for name in names], fontsize="small")


def _plain(name: str) -> str:
    """A name as matplotlib shows it: no formula between dollar signs, no legend entry hidden by "_"."""
    text = shown(name, 32).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def _empty(figure: "Figure", axes: "Axes", title: str) -> "Figure":
    """A plot of what was not observed says so."""
    axes.set(title=title, xticks=[], yticks=[])
    axes.text(0.5, 0.5, _NOTHING, transform=axes.transAxes, ha="center")
    return figure
