"""Decides whether a unit can fire, exactly but for the solver's tolerance, by a mixed-integer program.

For a ReLU h = max(z, 0) with l <= z <= u and l < 0 < u: h >= z, h >= 0, h <= u a, h <= z - l (1 - a) with a
in {0, 1} says just that (Tjeng et al. 2019). z is linear in the inputs and in the ReLUs below.
"""

import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import Bounds as VariableBounds
from scipy.optimize import LinearConstraint, milp
from scipy.sparse import coo_matrix
from torch import Tensor, fx

from defib.probe.certificates.bends import Activated
from defib.probe.certificates.bounds import Bounds, Entered
from defib.probe.certificates.linear import Copying, Difference, Product

Array = NDArray[np.float64]

MOST_VARIABLES = 6000
TOLERANCE = 1e-6
"""HiGHS's own tolerance for feasibility is 1e-7 in absolute terms; bounds are believed to ten times that."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What the program said about one number z.

    Attributes:
        highest: Upper bound of z over the domain; inf if the time was over before there was one.
        inputs: The best input found, flattened, one array for each input; empty if there is none.
    """

    highest: float
    inputs: tuple[Array, ...]


class NotExact(Exception):
    """The graph holds something that such a program cannot say."""


class Program:
    """The program for all that lies below one node.

    Args:
        bounds: What is known of every node.
        node: Whose numbers are asked about.

    Raises:
        NotExact: If something below is neither linear nor a ReLU, is unbounded, or there is too much of it.
    """

    def __init__(self, bounds: Bounds, node: fx.Node) -> None:
        self._bounds = bounds
        self._columns: dict[fx.Node, Tensor] = {}
        self._low: list[Array] = []
        self._high: list[Array] = []
        self._whole: list[Array] = []
        self._rows: list[tuple[Tensor, Tensor, Tensor]] = []
        self._count = 0
        self._inputs: list[fx.Node] = []
        self._prepare(node)
        if self._count > MOST_VARIABLES:
            raise NotExact(f"{self._count} variables are more than {MOST_VARIABLES}")
        self._node = node

    def highest(self, entry: int, seconds: float) -> Decision:
        """The largest value of one number.

        Args:
            entry: Flat index in the node.
            seconds: Time that the solver may take.

        Returns:
            Its upper bound and the best input.

        Raises:
            NotExact: If the solver contradicts itself.
        """
        size = self._bounds.known[self._node].low.numel()
        row = torch.zeros(1, size, dtype=torch.float64)
        row[0, entry] = 1.0
        weights, constant = self._forms(self._node, row)
        matrix, low, high = self._constraints()
        found = milp(
            -weights[0].numpy(),
            constraints=LinearConstraint(matrix, low, high),
            integrality=np.concatenate(self._whole),
            bounds=VariableBounds(np.concatenate(self._low), np.concatenate(self._high)),
            options={"time_limit": max(seconds, 0.01)},
        )
        if found.status == 2:
            raise NotExact("the solver finds no input at all, which cannot be")
        dual = found.mip_dual_bound
        best = np.inf if dual is None else -float(dual) + float(constant[0])
        inputs = () if found.x is None else tuple(found.x[self._columns[n].numpy()] for n in self._inputs)
        return Decision(highest=best, inputs=inputs)

    def input_nodes(self) -> tuple[fx.Node, ...]:
        """The inputs, in the order of :attr:`Decision.inputs`."""
        return tuple(self._inputs)

    def _prepare(self, node: fx.Node) -> None:
        """Variables for all inputs and all undecided ReLUs below a node, in order."""
        needed, waiting = set(), [node]
        while waiting:
            here = waiting.pop()
            if here not in needed:
                needed.add(here)
                waiting += self._bounds.steps[here].parents
        for at, step in self._bounds.steps.items():
            if at not in needed:
                continue
            own = self._bounds.known[at]
            if isinstance(step, Entered):
                self._inputs.append(at)
                self._columns[at] = self._variables(own.low.reshape(-1), own.high.reshape(-1))
            elif isinstance(step, Activated):
                self._bend(at, step)
            elif not isinstance(step, (Copying, Difference, Product)):
                raise NotExact(f"{at.name} is neither linear nor a ReLU")

    def _bend(self, at: fx.Node, step: Activated) -> None:
        """Variables h and a of the undecided entries of a ReLU, and what ties them to z."""
        if step.bent.curve.slope != 0.0 or not step.bent.curve.exact:
            raise NotExact(f"{step.bent.activation.name} is not a ReLU")
        below = step.parents[0]
        low, high = (e.reshape(-1) for e in (self._bounds.known[below].low, self._bounds.known[below].high))
        open_ = ((low < 0) & (high > 0)).nonzero().reshape(-1)
        column = torch.full((low.numel(),), -1, dtype=torch.long)
        self._columns[at] = column
        if not len(open_):
            return
        if self._count + 2 * len(open_) > MOST_VARIABLES:
            raise NotExact(f"more than {MOST_VARIABLES} variables")
        rows = torch.zeros(len(open_), low.numel(), dtype=torch.float64)
        rows[torch.arange(len(open_)), open_] = 1.0
        z, constant = self._forms(below, rows)
        zero, one = torch.zeros(len(open_), dtype=torch.float64), torch.ones(len(open_), dtype=torch.float64)
        h = self._variables(zero, high[open_])
        a = self._variables(zero, one, whole=True)
        column[open_] = h
        grown = torch.zeros(len(open_), self._count, dtype=torch.float64)
        grown[:, : z.shape[1]] = -z
        grown[torch.arange(len(open_)), h] += 1.0
        infinite = torch.full_like(zero, torch.inf)
        self._rows.append((grown.clone(), constant, infinite))  # h - z >= constant of z
        grown[torch.arange(len(open_)), a] -= low[open_]
        self._rows.append((grown, -infinite, constant - low[open_]))  # h - z - l a <= constant - l
        cap = torch.zeros_like(grown)
        cap[torch.arange(len(open_)), h] = 1.0
        cap[torch.arange(len(open_)), a] = -high[open_]
        self._rows.append((cap, -infinite, zero))  # h <= u a

    def _variables(self, low: Tensor, high: Tensor, whole: bool = False) -> Tensor:
        """New variables; their columns."""
        if not (torch.isfinite(low).all() and torch.isfinite(high).all()):
            raise NotExact("the domain is not bounded")
        self._low.append(low.numpy())
        self._high.append(high.numpy())
        self._whole.append(np.full(len(low), float(whole)))
        self._count += len(low)
        if self._count > MOST_VARIABLES:
            raise NotExact(f"more than {MOST_VARIABLES} variables")
        return torch.arange(self._count - len(low), self._count)

    def _forms(self, node: fx.Node, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Linear forms of a node's numbers in terms of the variables: (K, variables) and constants (K,)."""
        known, steps = self._bounds.known, self._bounds.steps
        waiting = {node: rows.reshape(len(rows), *known[node].low.shape)}
        found = torch.zeros(len(rows), self._count, dtype=torch.float64)
        constant = torch.zeros(len(rows), dtype=torch.float64)
        order = list(steps)
        for at in reversed(order[: order.index(node) + 1]):
            here = waiting.pop(at, None)
            if here is None:
                continue
            step = steps[at]
            if isinstance(step, (Entered, Activated)):
                columns = self._columns[at]
                own = (columns >= 0).nonzero().reshape(-1)
                found.index_add_(1, columns[own], here.flatten(1)[:, own])
                if isinstance(step, Activated):
                    on = (known[step.parents[0]].low >= 0).double()
                    passed = here * on
                    waiting[step.parents[0]] = waiting.get(step.parents[0], 0) + passed
                continue
            back = step.backward(here, [known[p] for p in step.parents], known[at])
            constant += back.constant
            for parent, through in zip(step.parents, back.rows, strict=True):
                waiting[parent] = waiting.get(parent, 0) + through
        return found, constant

    def _constraints(self) -> tuple[coo_matrix, Array, Array]:
        """All constraints as one sparse matrix with lower and upper ends."""
        if not self._rows:
            return coo_matrix((1, self._count)), np.array([-np.inf]), np.array([np.inf])
        full = [torch.nn.functional.pad(m, (0, self._count - m.shape[1])) for m, _, _ in self._rows]
        matrix = coo_matrix(torch.cat(full).numpy())
        low = torch.cat([a for _, a, _ in self._rows]).numpy()
        return matrix, low, torch.cat([b for _, _, b in self._rows]).numpy()


def time_left(deadline: float) -> float:
    """Seconds until a deadline of ``time.perf_counter``; not negative."""
    return max(0.0, deadline - time.perf_counter())
