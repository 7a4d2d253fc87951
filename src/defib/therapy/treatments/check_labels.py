"""Look whether labels and inputs belong together.

What it does:
    Shows how to see whether the inputs tell anything about the targets at all.

When it helps:
    Gradients flow, weights move, answers differ, and the loss stays at that of the best constant: labels
    were shuffled apart from inputs, or the last layers see nothing.

When it does not:
    The network is too small, or the step never lets it settle.

Dose:
    None: the patch is worded from the evidence.

Safety:
    Shown, never done: only the source can be changed.

References:
    Zhang et al. 2017, Understanding deep learning requires rethinking generalization (arXiv 1611.03530).
"""

from typing import ClassVar

from defib.core.cause import Cause
from defib.core.finding import Finding
from defib.core.run import RunView
from defib.therapy.advice import Advice
from defib.therapy.treatment import Indication

_APART = (
    "look at pairs (x[i], target[i]) by eye, as they enter the model: a shuffle, sort, join or split of one "
    "and not of the other parts them; permute both by one and the same order"
)
_WORDS = {
    Cause.SAMPLES_MIXED: "x.permute(1, 0, 2) where view or reshape turns (time, batch, features) into "
    "(batch, time, features): they rename the axes and keep the memory, so that each row holds parts of "
    "several samples",
    Cause.NO_RELATION: _APART,
    Cause.LEARNED_BY_HEART: _APART,
    Cause.RELATION_UNUSED: "the data are as they should be; train on one batch of 8 samples, again and "
    "again: if the loss does not fall to 0, the model or the loop is at fault (axes mixed up in forward, a "
    "mask the wrong way round, zero_grad or train() missing, a hand-written backward); if it does, look at "
    "the loss",
}


class CheckLabels(Advice):
    """Labels that belong to their inputs."""

    slug = "check-labels"
    title = "Look whether labels and inputs belong together"
    indications: ClassVar[tuple[Indication, ...]] = (
        Indication(
            rule="constant-predictor",
            strength=0.5,
            why="if inputs do not tell the targets no network learns them",
        ),
        Indication(
            rule="by-heart",
            strength=0.8,
            why="what inputs do not tell is learned by heart, or not at all",
        ),
        Indication(
            rule="mixed-samples",
            strength=0.9,
            why="only whole samples have to do with their targets",
        ),
        Indication(
            rule="not-learning",
            strength=0.4,
            why="what cannot be fitted on eight samples is a bug, not a hard problem",
        ),
        Indication(
            rule="confused-classes",
            strength=0.5,
            why="two classes that are taken for each other may be labelled so",
        ),
    )

    def words(self, finding: Finding, run: RunView) -> str:
        del run
        if finding.rule == "confused-classes":
            return "look at samples of the classes that are taken for each other: are their labels right?"
        return _WORDS.get(
            finding.cause,
            "train on one batch of 8 samples, again and again: if the loss does not fall to 0, the model "
            "or the loop is at "
            "fault (is the model in train() mode, do its parameters change, how much does dropout leave?); "
            "if it does, "
            "look at pairs (x[i], target[i]) by eye: a shuffle, sort or split of one and not of the other "
            "parts them",
        )
