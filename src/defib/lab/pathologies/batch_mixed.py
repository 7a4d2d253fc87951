"""A mean over the wrong axis: what enters the last layers is the same for every sample."""

from defib.lab.nets import Lambda
from defib.lab.pathology import DENSE, Pathology, insert
from defib.lab.training import Training


class BatchMixed(Pathology):
    """A layer averages over the batch."""

    slug = "batch-mixed"
    title = "a layer averages over the batch"
    rule = "constant-predictor"
    causes = ("constant-output", "input-ignored")
    kinds = DENSE

    def plant(self, job: Training) -> None:
        insert(job, -1, Lambda(lambda h: h.mean(0, keepdim=True).expand_as(h)))

    def took(self, job: Training) -> bool:
        answers = job.answers()
        return bool((answers == answers[0]).all())
