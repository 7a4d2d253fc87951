"""How far back in time a recurrent layer's gradient reaches: plain data, made by ``probe``.

Letters: ``h`` the hidden state, ``c`` an LSTM's cell, ``f`` the gate that carries the state over a step.
"""

import math
from dataclasses import dataclass

SHORT = 1e-3
"""Below this gain what lies further back no longer counts: a thousandth of what arrives at the end."""


@dataclass(frozen=True, kw_only=True)
class Lag:
    """One step back in time; gains in decades of the norm of the whole state's gradient.

    Attributes:
        derivative: Everything elementwise: activation derivatives and gates.
        weights: The recurrent weights.
        gate: The carrying gate alone (an LSTM's forget gate, a GRU's update gate): log10 of the RMS
            over batch and units of the product of its values, step by step; NaN without such a gate.
            It is not part of the sum.
    """

    derivative: float
    weights: float
    gate: float = math.nan

    @property
    def total(self) -> float:
        """Both parts."""
        return self.derivative + self.weights


@dataclass(frozen=True, kw_only=True)
class Recurrence:
    """The gain ledger of one recurrent layer, lag by lag: from the last state back to the first.

    Attributes:
        path: Path of its module.
        cell: "RNN", "LSTM" or "GRU".
        depth: Which of the module's stacked layers, from 0.
        reverse: It runs from the last position to the first.
        lags: From the last step back.
        real: The gradient at the last state was the loss's own; else one of random signs.
        precision: Spacing of the numbers that the model computes in (its dtype's eps).
        unknown: Why it could not be parted, in words; "" if it was.
    """

    path: str
    cell: str
    depth: int = 0
    reverse: bool = False
    lags: tuple[Lag, ...] = ()
    real: bool = True
    precision: float = math.nan
    unknown: str = ""

    @property
    def total(self) -> float:
        """Decades over all lags."""
        return math.fsum(lag.total for lag in self.lags)

    @property
    def per_lag(self) -> Lag:
        """The mean over lags; NaN without any."""
        count = len(self.lags) or math.nan
        return Lag(
            derivative=math.fsum(x.derivative for x in self.lags) / count,
            weights=math.fsum(x.weights for x in self.lags) / count,
            gate=math.fsum(x.gate for x in self.lags) / count,
        )

    @property
    def memory(self) -> int | None:
        """The usable memory: the first lag at which the gain is below ``SHORT``; None if none is."""
        return self._first_below(math.log10(SHORT))

    @property
    def lost(self) -> int | None:
        """The first lag at which the gain is below ``precision``; None if none is."""
        return self._first_below(math.log10(self.precision)) if self.precision > 0 else None

    def _first_below(self, decades: float) -> int | None:
        gone = 0.0
        for number, lag in enumerate(self.lags, 1):
            gone += lag.total
            if gone < decades:
                return number
        return None
