"""RAdam: Adam whose scale is used only once it is trustworthy."""

from defib.diagnosis.prognosis.family import Body, Family, Tail, shrinking, spent_moments

TRUSTED = 5.0
"""Length of the running mean of squares above which torch divides by it."""


class RAdam(Family):
    """Liu et al. 2020: below a length of 5 the step is the plain momentum."""

    kinds = ("RAdam",)
    momenta = ("exp_avg",)
    needs = ("exp_avg", "exp_avg_sq")
    scaled = True

    def step(self, body: Body, lr: float) -> None:
        """As torch's ``_single_tensor_radam`` (not capturable)."""
        do, (beta1, beta2), step = body.arithmetic, body.betas, body.count()
        pull = body.pull()
        body.shrink(lr)
        mean, square = body.moments(pull)
        move = do.scale(do.divide(mean, 1 - beta1**step), lr)
        correction2 = 1 - beta2**step
        longest = 2 / (1 - beta2) - 1
        length = _length(beta2, step)
        if length > TRUSTED:
            scale = do.over(correction2**0.5, do.shift(do.sqrt(square), body.number("eps", 1e-8)))
            trust = ((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)) ** 0.5
            move = do.scale(do.times(move, scale), trust)
        body.values = do.add(body.values, move, -1.0)

    def tail(self, body: Body, lr: float) -> Tail | None:
        """As Adam's: the rectification is below 1 and the length only grows.

        Returns:
            One mode and the bound; None with coupled decay, or before the scale is used.
        """
        rate, (beta1, beta2) = shrinking(body, lr), body.betas
        if rate is None or _length(beta2, body.steps + 1) <= TRUSTED:
            return None
        left = spent_moments(body, rate)
        return Tail.single(body.values, rate, left * (lr / (1 - beta1 ** (body.steps + 1))))


def _length(beta2: float, step: float) -> float:
    """Length of the running mean of squares after ``step`` steps."""
    kept = float(beta2**step)
    return (2 / (1 - beta2) - 1) - 2 * step * kept / (1 - kept)
