"""Half of a ReLU layer's units have weights a thousand times too small."""

import torch
from torch import nn

from defib.lab.draws import Draw
from defib.lab.pathology import DENSE, LONG, Pathology, hidden, layers, leaving, per_unit, plain
from defib.lab.training import Training


class FaintUnits(Pathology):
    """Half of a layer's units give next to nothing."""

    slug = "faint-units"
    title = "half of a layer's units give next to nothing"
    rule = "dormant-unit"
    causes = ("relatively-silent",)
    kinds = DENSE
    harmful = False

    def fit(self, of: Draw) -> Draw:
        return plain(of, "relu", optimiser="sgd", rate=0.05, steps=LONG)

    def plant(self, job: Training) -> None:
        number = int(torch.randint(len(hidden(job)), (1,), generator=job.chance))
        layer, behind = layers(job)[number : number + 2]
        with torch.no_grad():
            layer.weight[::2] *= 1e-3
            layer.bias[::2] *= 1e-3  # type: ignore[index]
            behind.weight[:, ::2] *= 1e-2

    def took(self, job: Training) -> bool:
        sizes = [per_unit(h).abs().mean(1) for h in leaving(job, nn.ReLU)]
        faint = [(s > 0) & (s < 0.02 * s.mean()) for s in sizes]
        return max((float(f.float().mean()) for f in faint), default=0.0) >= 0.25
