"""A recurrence h' = relu(W x + U h), U three times orthogonal: all grows with every token."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from defib.lab.draws import Kind
from defib.lab.ordinary import TOKENS
from defib.lab.pathology import Pathology
from defib.lab.training import Training


class _Loop(nn.Module):
    """The recurrence, written out."""

    def __init__(self, width: int, chance: torch.Generator) -> None:
        super().__init__()
        self.embed = nn.Embedding(TOKENS, 16)
        self.enter = nn.Linear(16, width)
        self.again = nn.Linear(width, width, bias=False)
        self.head = nn.Linear(width, 4)
        nn.init.orthogonal_(self.again.weight, 3.0, generator=chance)

    def states(self, x: Tensor) -> list[Tensor]:
        """The state after each token."""
        found = [torch.zeros(len(x), self.enter.out_features)]
        for token in self.embed(x).unbind(1):
            found.append(functional.relu(self.enter(token) + self.again(found[-1])))
        return found[1:]

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.states(x)[-1])
        return found


class RecurrenceExplodes(Pathology):
    """A ReLU recurrence whose matrix is three times an orthogonal one."""

    slug = "recurrence-explodes"
    title = "a ReLU recurrence whose matrix is three times an orthogonal one"
    rule = "exploding-gradient"
    causes = ("weights", "derivative-and-weights", "activation-derivative")
    also = ("initialisation",)
    kinds = (Kind.SEQUENCES,)

    def plant(self, job: Training) -> None:
        job.net = _Loop(job.draw.width, job.chance)

    def took(self, job: Training) -> bool:
        if not isinstance(job.net, _Loop):
            return False
        job.net.load_state_dict(job.start)
        with torch.no_grad():
            sizes = [float(h.norm()) for h in job.net.states(job.x[:64])]
        return sizes[-1] > 300 * sizes[0]
