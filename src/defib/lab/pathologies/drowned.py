"""``Dropout(0.9)`` behind every hidden layer, where 0.1 was meant."""

from torch import nn

from defib.lab.draws import Draw
from defib.lab.pathology import DENSE, Pathology, plain
from defib.lab.training import Training


class Drowned(Pathology):
    """Dropout leaves a tenth of each layer."""

    slug = "drowned"
    title = "dropout leaves a tenth of each layer"
    rule = "drowned-signal"
    causes = ("signal-dropped",)
    also = ("not-learning", "constant-predictor")
    kinds = DENSE

    def fit(self, of: Draw) -> Draw:
        return plain(of, "relu", depth=4)

    def plant(self, job: Training) -> None:
        made: list[nn.Module] = []
        for module in job.net.children():
            made += [module, nn.Dropout(0.9)] if isinstance(module, nn.ReLU) else [module]
        job.net = nn.Sequential(*made)

    def took(self, job: Training) -> bool:
        return any(isinstance(module, nn.Dropout) for module in job.net.modules())
