"""What running the same graph backward again tells: attentions parted, and a gradient of random signs.

A gradient v of random signs (Rademacher) has E |J^T v|^2 = |J|_F^2: its gain is the mean over all
directions, where the real gradient takes its own. A network that has learned sends its gradients along
the largest directions; the difference, the alignment bonus, is a sign of learning by itself. Signs vary
half as much as normal numbers do, and a batch of them makes one probe enough.
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from defib.core.checkup import GainLedger
from defib.core.evidence import Unseen
from defib.probe.gains import Gains
from defib.probe.graph import Graph, Kind
from defib.torchgraph.nodes import FUSED_ATTENTION, RECURRENT, Node

_SEED = 0


def why_only_once(graph: Graph) -> str:
    """Why a graph is not to be run backward twice.

    A compiled region gives its memory away in its first backward, and a reentrant checkpoint trains.

    Returns:
        The reason in words; "" if it can be.
    """
    for node in graph.nodes:
        name = node.name()
        if graph.kind(node) is Kind.FUSED and name not in RECURRENT and FUSED_ATTENTION not in name:
            return f"{name} cannot be run backward a second time"
    return ""


def followed(graph: Graph, gains: Gains, why_not: str) -> tuple[GainLedger | None, list[Unseen]]:
    """The ledger of a backward pass that is over, with all that further passes can add to it.

    Args:
        graph: The graph, kept for another backward unless ``why_not`` says otherwise.
        gains: What listened to the first backward, and no longer does.
        why_not: From :func:`why_only_once`.

    Returns:
        The ledger, and what could not be added to it.
    """
    gains.part_attentions(why_not)
    ledger = gains.ledger()
    if ledger is None:
        return None, []
    why = why_not
    if not why:
        try:
            return _with_probe(ledger, _probed(graph, gains)), []
        except RuntimeError as error:  # a checkpoint recomputes only once; a user's own backward may refuse
            why = str(error).partition("\n")[0]
    return ledger, [Unseen(what="run", why=f"no probe was sent: {why}")]


def _with_probe(ledger: GainLedger, probe: GainLedger | None) -> GainLedger:
    """The real account with the probe's beside it, row by row."""
    if probe is None or len(probe.stretches) != len(ledger.stretches):
        return ledger
    rows = zip(ledger.stretches, probe.stretches, strict=True)
    stretches = tuple(replace(row, probe=other.gain.total) for row, other in rows)
    return replace(ledger, stretches=stretches, probe=probe.gain)


def _probed(graph: Graph, gains: Gains) -> GainLedger | None:
    """The account of a probe over the same stations."""
    listener = Gains(graph)
    top, bottom = listener.ends
    listener.listen()
    try:
        leaves = [owned.tensor for owned in graph.owned[bottom]]
        signs = rademacher(top)
        torch.autograd.grad([GradientEdge(top, 0)], leaves, [signs], retain_graph=True, allow_unused=True)
    finally:
        listener.forget()
    listener.attributed_as(gains)
    return listener.ledger()


def rademacher(node: Node) -> Tensor:
    """Random signs in the shape of a node's first output; every generator of the user's is left alone."""
    kept = node._input_metadata[0]
    generator = torch.Generator().manual_seed(_SEED)
    signs = 2 * torch.randint(2, tuple(kept.shape), generator=generator) - 1
    return signs.to(device=kept.device, dtype=kept.dtype)
