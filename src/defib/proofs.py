"""Where proofs meet the user: what a model can and cannot do on a set of inputs."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from defib import factories
from defib.core.domain import Box, DataRange, Domain, Ellipsoid, Everything, domain_of
from defib.core.errors import UsageError

if TYPE_CHECKING:
    import torch

    from defib.core.certificate import Certificate

__all__ = ["Box", "DataRange", "Ellipsoid", "Everything", "certify", "certify_named"]


def certify(
    model: "torch.nn.Module",
    domain: Domain | str,
    batch: object,
    loss: Callable[..., Any] | None = None,
    *,
    seconds: float = 60.0,
    exact: int = 0,
    exact_seconds: float = 10.0,
    paths: bool = True,
) -> "Certificate":
    """Proves for each unit, on a set of inputs, that it never fires or is always linear.

    The model is taken as it works in evaluation mode; BatchNorm in training mode has a certificate of
    its own. Nothing is changed by a bit: parameters, buffers, ``.grad``, training mode, generators.

    Args:
        model: The model.
        domain: ``Box``, ``Ellipsoid``, ``Everything()`` or ``DataRange(margin=...)`` of
            ``defib.proofs``, or one of them as text: "data", "data+10%", "any", "0:1", "ball:0.5:0.1".
        batch: As in :func:`defib.check`: it gives the inputs' shapes, the data's range, witnesses, and
            with a target the rank certificate.
        loss: As in :func:`defib.check`, for the rank certificate.
        seconds: Time for linear bounds; when it is over, interval bounds have to do.
        exact: How many units that stay open a mixed-integer program is asked about (ReLU networks on a
            box).
        exact_seconds: Time for each of them.
        paths: Follow the active paths of every sample.

    Returns:
        The verdict of every unit, and the certificates of BatchNorm, paths and rank.

    Raises:
        UsageError: If the domain does not fit the inputs, or the model cannot be traced.
    """
    from defib.probe.certificates.certify import certified
    from defib.probe.certificates.effort import Effort

    if isinstance(domain, str):
        found = domain_of(domain)
        if found is None:
            raise UsageError(f"a domain is a Box, an Ellipsoid, or text like '0:1', not {domain!r}")
        domain = found
    if not isinstance(domain, (Box, DataRange, Ellipsoid, Everything)):
        raise UsageError(
            f"a domain is a Box, an Ellipsoid, or text like '0:1', not a {type(domain).__name__}"
        )
    effort = Effort(seconds=seconds, exact=exact, exact_seconds=exact_seconds, paths=paths)
    return certified(model, batch, domain, loss, effort)


def certify_named(
    model: str,
    domain: str,
    batch: str,
    loss: str | None = None,
    seed: int = 0,
    *,
    seconds: float = 60.0,
    exact: int = 0,
) -> "Certificate":
    """The same, with everything named as ``module:factory`` as on the command line.

    Args:
        model: Where a function without arguments, or a class, gives the model.
        domain: As text, or where a function without arguments gives it.
        batch: Where one gives the batch.
        loss: Where a loss is.
        seed: For torch, numpy and Python, before each of the factories is called.
        seconds: As in :func:`certify`.
        exact: As in :func:`certify`.

    Returns:
        What :func:`certify` returns.

    Raises:
        UsageError: If a name is not written so, its code raises, or the domain does not fit.
    """  # noqa: DOC502 - the functions below raise it
    known = domain_of(domain)  # a domain that cannot be read is told before anything is loaded
    made, data = factories.model(model, seed), factories.batch(batch, seed)
    region = factories.made(domain, seed) if known is None else known
    return certify(made, region, data, factories.loss(loss, seed), seconds=seconds, exact=exact)
