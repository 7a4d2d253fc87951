"""BatchNorm in training mode with a ReLU behind it: an exact verdict from gamma, beta and the batch's size.

Over the N values of a channel, x^ = (x - mean) / std has mean 0 and mean square 1. So its largest value is
at least 1 / sqrt(N - 1) (all others equal) and at most sqrt(N - 1) (one stands out), and both are
attained. The same holds for -x^, so only |gamma| counts. With eps > 0, x^ is shorter by
sqrt(v / (v + eps)), v the channel's variance.
"""

import math
from collections.abc import Sequence

import numpy as np

from defib.core.certificate import BatchNormCertificate, ChannelVerdict


def channel_verdict(gamma: float, beta: float, values: int, epsilon: float) -> tuple[ChannelVerdict, float]:
    """Whether max(gamma x^ + beta, 0) fires on a batch, whatever it holds.

    Args:
        gamma: Scale.
        beta: Shift.
        values: Numbers N that the channel is normalised over.
        epsilon: What is added to the variance.

    Returns:
        The verdict, and the variance above which the channel is alive (NaN where none is needed).
    """
    if beta > 0:
        return ChannelVerdict.ALIVE, math.nan  # the mean of gamma x^ is 0, so its largest value is not below
    size = abs(gamma)
    if values < 2 or size == 0:
        return ChannelVerdict.DEAD, math.nan  # x^ = 0, or it does not count, and beta <= 0
    most = np.nextafter(size * np.nextafter(math.sqrt(values - 1), math.inf), math.inf)
    if beta + most <= 0:
        return ChannelVerdict.DEAD, math.nan
    least = np.nextafter(size / np.nextafter(math.sqrt(values - 1), math.inf), 0.0)
    if beta + least > 0:
        share = (beta / least) ** 2  # alive where sqrt(v / (v + eps)) > |beta| / least
        return ChannelVerdict.ALIVE_IF_VARIED, float(np.nextafter(epsilon * share / (1 - share), math.inf))
    return ChannelVerdict.DEPENDS, math.nan


def batch_norm_certificate(
    layer: str, gamma: Sequence[float], beta: Sequence[float], values: int, epsilon: float
) -> BatchNormCertificate:
    """The verdicts of all channels of one BatchNorm."""
    found = [channel_verdict(g, b, values, epsilon) for g, b in zip(gamma, beta, strict=True)]
    return BatchNormCertificate(
        layer=layer,
        values=values,
        channels=tuple(verdict for verdict, _ in found),
        variance_above=tuple(above for _, above in found),
    )
