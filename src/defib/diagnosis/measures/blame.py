"""Which of two parts a gain or a loss is due to."""

from defib.core.cause import Cause


def blame(activations: float, weights: float, sign: int) -> Cause:
    """Names the part that makes up at least three quarters of a change.

    Args:
        activations: Decades by the activations.
        weights: Decades by what stands between them.
        sign: -1 if a loss is to be explained, +1 for a gain.

    Returns:
        The cause; both, if neither stands out.
    """
    first, second = max(activations * sign, 0.0), max(weights * sign, 0.0)
    if first == second:
        return Cause.DERIVATIVE_AND_WEIGHTS
    if first >= 3 * second:
        return Cause.ACTIVATION_DERIVATIVE
    return Cause.WEIGHTS if second >= 3 * first else Cause.DERIVATIVE_AND_WEIGHTS
