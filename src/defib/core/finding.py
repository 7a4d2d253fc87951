"""What a judgement is made of. All of it is plain data that becomes JSON and back."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from defib.core.evidence import Evidence as Evidence  # noqa: PLC0414 - findings are made of these
from defib.core.evidence import Unseen as Unseen  # noqa: PLC0414
from defib.core.prognosis import Prognosis


class Severity(StrEnum):
    """How much harm a finding does to learning; ordered from worst to least."""

    ERROR = "error"
    """The run cannot reach its goal like this."""
    WARNING = "warning"
    """It learns less, or later, than it could."""
    INFO = "info"
    """Worth knowing; a healthy run may have it."""

    @property
    def rank(self) -> int:
        """0 for the worst."""
        return list(Severity).index(self)


class Confidence(StrEnum):
    """What a finding rests on."""

    EXACT = "exact"
    """Counted on every step; no estimate enters."""
    MEASURED = "measured"
    """Measured on sampled steps, with the bound stated in the evidence."""
    INFERRED = "inferred"
    """Concluded from other signals; the direct one was not observed."""


class Fault(StrEnum):
    """The vocabulary of faults that scorers read."""

    DEAD_UNITS = "dead_units"
    VANISHING = "vanishing"
    EXPLODING = "exploding"
    SATURATION = "saturation"
    UNDERFLOW = "underflow"
    NON_FINITE = "non_finite"
    WRONG_LOSS_OR_OUTPUT_ACTIVATION = "wrong_loss_or_output_activation"
    LR_TOO_HIGH = "lr_too_high"
    LR_TOO_LOW = "lr_too_low"
    BAD_INIT = "bad_init"
    UNSCALED_DATA = "unscaled_data"
    LABEL_OR_DATA_BUG = "label_or_data_bug"
    HEALTHY = "healthy"


class Cause(StrEnum):
    """Why a finding came about. A rule's page explains each cause that it can name."""

    BORN_DEAD = "born-dead"
    """Never received a gradient, from the first step on."""
    DIED_AT_STEP = "died-at-step"
    """Was alive until an update silenced it."""
    DEAD_INPUT = "dead-input"
    """Everything that feeds it is dead, so its input is constant."""
    ACTIVATION_DERIVATIVE = "activation-derivative"
    """The product of activation derivatives shrinks or grows the gradient."""
    WEIGHTS = "weights"
    """The weights shrink or grow the gradient."""
    DERIVATIVE_AND_WEIGHTS = "derivative-and-weights"
    """Both, in comparable parts."""
    LARGE_PREACTIVATION = "large-preactivation"
    """Pre-activations so large that the activation is flat there."""
    NON_FINITE_DATA = "non-finite-data"
    """The input batch already held NaN or infinity."""
    NON_FINITE_FORWARD = "non-finite-forward"
    """Finite inputs and weights, non-finite result: the forward pass overflowed or divided by zero."""
    NON_FINITE_LOSS = "non-finite-loss"
    """The model's output was finite and the loss was not."""
    NON_FINITE_BACKWARD = "non-finite-backward"
    """Finite loss, non-finite gradient."""
    NON_FINITE_UPDATE = "non-finite-update"
    """Finite gradients, non-finite weights after the step."""
    SHAPES_BROADCAST = "shapes-broadcast"
    """Predictions and targets of different shapes were stretched over each other."""
    CONSTANT_LABELS = "constant-labels"
    """Every label is the same."""
    SORTED_DATA = "sorted-data"
    """Every batch holds one label only, and the next one another: the data comes in order."""
    LABELS_IGNORED = "labels-ignored"
    """Next to all labels carry the index that the loss ignores."""
    LABELS_OUTSIDE = "labels-outside"
    """Targets lie where the loss has no minimum."""
    CONSTANT_INPUTS = "constant-inputs"
    """Every sample of a batch has the same input."""
    NO_RELATION = "no-relation"
    """Outputs vary with the inputs and gradients flow, but nothing in the inputs tells the targets."""
    CONSTANT_OUTPUT = "constant-output"
    """The model's answer does not depend on its input."""
    SOFTMAX_OVER_ONE = "softmax-over-one"
    """A softmax over a single output: its result is always 1."""
    TARGETS_OUT_OF_RANGE = "targets-out-of-range"
    """The output's activation cannot take the values that the targets have."""
    ONE_SIDED_OUTPUT = "one-sided-output"
    """An activation with an off side makes the scores of a classifier."""
    DOUBLE_ACTIVATION = "double-activation"
    """The loss applies a sigmoid or softmax to what already went through one."""
    NOT_LOG_PROBABILITIES = "not-log-probabilities"
    """The loss takes the logarithms of probabilities and is given something else."""
    LOSS_UNBOUNDED = "loss-unbounded"
    """The loss has no lowest value and falls for ever, faster and faster."""
    LARGE_INPUTS = "large-inputs"
    """The data enters the first layer on a scale far above 1."""
    SMALL_INPUTS = "small-inputs"
    """The data enters the first layer on a scale far below 1."""
    LARGE_TARGETS = "large-targets"
    """The targets are far larger than what a network gives at its start."""
    SMALL_TARGETS = "small-targets"
    """The targets are far smaller than what a network gives at its start."""
    ZERO_WEIGHTS = "zero-weights"
    """A hidden layer began with all weights zero."""
    CLONED_UNITS = "cloned-units"
    """All units of a layer compute the same: they began alike and nothing tells them apart."""
    WEIGHTS_TOO_SMALL = "weights-too-small"
    """The first weights shrink the signal layer by layer."""
    WEIGHTS_TOO_LARGE = "weights-too-large"
    """The first weights multiply the signal."""
    STEP_LARGER_THAN_WEIGHTS = "step-larger-than-weights"
    """An update was as large as the weights themselves."""
    LOSS_RUNS_AWAY = "loss-runs-away"
    """The loss rose by orders of magnitude from where it started."""
    STEPS_OVERSHOOT = "steps-overshoot"
    """Each step passes the lowest point ahead of it by half of the way there or more; the loss stays."""
    GRADIENTS_KEPT = "gradients-kept"
    """The gradients of earlier steps are never set to zero and add up."""
    WEIGHTS_FORGOTTEN = "weights-forgotten"
    """Weight decay shrinks the weights away within a hundred steps or fewer."""
    STEPS_TOO_SMALL = "steps-too-small"
    """All updates together did not lead far, and they still point the same way."""
    LR_ZERO = "lr-zero"
    """The learning rate is zero."""
    ROUNDED_AWAY = "rounded-away"
    """Updates are smaller than the spacing of the weights' floating-point numbers."""
    EPSILON_LOST = "epsilon-lost"
    """The optimiser's eps rounds to 0 in half precision, and 0 / 0 follows."""
    EPSILON_THROTTLE = "epsilon-throttle"
    """Gradients below the optimiser's eps: it no longer scales them up."""
    STEPS_SKIPPED = "steps-skipped"
    """The gradient scaler skips the steps."""
    GRAPH_CUT = "graph-cut"
    """No way leads from the loss to these parameters: something on it was detached or is no number."""
    ZERO_DERIVATIVE = "zero-derivative"
    """The only way leads through an operation whose derivative is zero wherever it exists."""
    UNTRUE_DERIVATIVE = "untrue-derivative"
    """A hand-written backward gives another gradient than its forward has."""
    INTEGER_TARGETS = "integer-targets"
    """Targets are of another kind of number than the loss is meant for."""
    CUT = "cut"
    """An operation whose derivative is zero everywhere (sign, round, floor) stands on the way."""
    UNREACHED = "unreached"
    """No path leads from the loss to it: unused, or detached."""
    DEAD_LAYER = "dead-layer"
    """A layer above it is dead as a whole and passes nothing."""
    ZERO_LOSS = "zero-loss"
    """The loss is exactly zero: nothing is left to learn."""
    BLOCKED = "blocked"
    """Its gradient is exactly zero, and none of the other reasons holds."""
    BELOW_PRECISION = "below-precision"
    """Gradients are smaller than the smallest numbers of their floating-point format."""
    RELATIVELY_SILENT = "relatively-silent"
    """Its activation is a small fraction of its layer's mean."""
    ALWAYS_ON = "always-on"
    """It is on the same side of its activation's kink for every sample: a linear unit."""
    ALWAYS_OFF = "always-off"
    """It is on the leaky side for every sample: a linear unit, and alive."""
    DUPLICATE_UNITS = "duplicate-units"
    """Some units of a layer compute the same, up to scale."""
    DEAD_FEATURES = "dead-features"
    """Some features of the data never change."""
    NULL_BEFORE_NORM = "null-before-norm"
    """What a bias adds, the normalisation right after it takes away."""
    NOISE_FLOOR = "noise-floor"
    """The loss is at rest, and what is left of the gradient differs from batch to batch: its mean is zero."""
    OVERFITTED = "overfitted"
    """The loss on validation data rises again while the training loss falls."""
    NOT_GENERALISING = "not-generalising"
    """The training loss falls, and the loss on validation data never did."""
    CLASS_IMBALANCE = "class-imbalance"
    """Some classes are ten times as frequent as others, or more."""
    CLASSES_CONFUSED = "classes-confused"
    """Most samples of one class are answered with one other class."""
    REPEATED_TOKEN = "repeated-token"
    """Most tokens of the input are one and the same."""
    CAUSE_NOT_FOUND = "cause-not-found"
    """It was measured that nothing is learned, and none of the causes looked for was found."""
    NO_DATA = "no-data"
    """Nothing was recorded that could be judged."""
    NO_STEP = "no-step"
    """No optimiser step was seen."""
    TOO_SHORT = "too-short"
    """Fewer optimiser steps were seen than it takes to say whether anything is learned."""
    NOT_VISIBLE = "not-visible"
    """The region runs where defib cannot look (compiled, fused, checkpointed)."""
    WATCHER_FAULT = "watcher-fault"
    """defib switched itself off after faults of its own."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One cause of trouble, with its proof.

    Attributes:
        rule: Slug of the rule that found it; ``defib explain SLUG`` is its page.
        fault: One word of the vocabulary that scorers read.
        severity: Harm done to learning.
        confidence: What it rests on.
        layer: Module path as the user knows it; "" for the whole model.
        call: Which use of that layer in one forward pass, from 0.
        units: Indices along the layer's unit axis, sorted; empty if not per unit.
        units_total: How many units the layer has; 0 if not per unit.
        since_step: First optimiser step (from 0) at which it held; None if unknown.
        cause: Why.
        message: One sentence for a person.
        evidence: The numbers.
        modules: Module paths from the layer to its activation ("conv1", "bn1", "relu1").
        explains: Findings that this one causes; they are listed here and nowhere else.
        try_next: Commands or code to type next.
        prognosis: Whether its units come back by themselves; empty if nothing was kept to tell it by.
    """

    rule: str
    fault: Fault
    severity: Severity
    confidence: Confidence
    layer: str
    cause: Cause
    message: str
    call: int = 0
    units: tuple[int, ...] = ()
    units_total: int = 0
    since_step: int | None = None
    evidence: tuple[Evidence, ...] = ()
    modules: tuple[str, ...] = ()
    explains: tuple["Finding", ...] = ()
    try_next: tuple[str, ...] = ()
    prognosis: tuple[Prognosis, ...] = ()


class Verdict(StrEnum):
    """The answer in one word."""

    HEALTHY = "healthy"
    SICK = "sick"
    NOT_OBSERVED = "not-observed"


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How much of the run was seen.

    Attributes:
        layers: Layers with parameters.
        observed: How many of them were observed.
        not_observed: The others, with the reason.
        steps: Optimiser steps counted.
        readings: Steps on which activations were read.
        samples: Samples seen in those readings.
    """

    layers: int
    observed: int
    not_observed: tuple[Unseen, ...]
    steps: int
    readings: int
    samples: int


@dataclass(frozen=True, kw_only=True)
class Overhead:
    """What watching cost, measured while it happened.

    Attributes:
        ratio: Time spent in defib's own code / time between the first and the last step; None
            if too short to say.
        seconds: Time spent in defib's own code, in seconds.
        budget: What was allowed, as a ratio.
        period: Steps between readings at the end of the run; 0 if there were no readings.
    """

    ratio: float | None
    seconds: float
    budget: float
    period: float


@dataclass(frozen=True, kw_only=True)
class NotRun:
    """A rule that broke or could not be judged; the others went on."""

    rule: str
    why: str


class Aftermath(StrEnum):
    """What became of a finding after a treatment that was given for it."""

    GONE = "gone"
    """It is not found any more in what was seen since."""
    EASED = "eased"
    """It is there, and harms no longer: information only."""
    STAYS = "stays"
    """It is found in what was seen since, as a warning or worse."""
    TOO_EARLY = "too-early"
    """It is not found, and fewer steps were seen since than it takes to find it."""
    NOT_ASKED = "not-asked"
    """The treatment was asked for by a person and not for a finding; or it was refused."""


@dataclass(frozen=True, kw_only=True)
class Treated:
    """One treatment of the run, and what came of it.

    Attributes:
        step: Optimiser steps taken when it was given.
        treatment: Its slug.
        stage: "done", "refused", "rolled-back" or "failed".
        rule: The finding that it was given for; "" if a person asked for it.
        layer: That finding's layer; "" for the whole model.
        dose: How much, and where.
        why: Why it was not given; "" if it was.
        steps_since: Optimiser steps seen since, up to the next treatment for the same finding.
        aftermath: What became of the finding.
    """

    step: int
    treatment: str
    stage: str
    rule: str
    layer: str
    dose: dict[str, Any]
    why: str
    steps_since: int
    aftermath: Aftermath


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """The whole answer: ``defib diagnose RUN --json`` prints exactly this.

    Attributes:
        run: Facts about the run: path, script, versions, started, status.
        verdict: healthy, sick (a finding of warning or worse) or not-observed.
        coverage: How much was seen.
        overhead: What watching cost.
        findings: Ranked, the most fundamental first.
        not_run: Rules that broke.
        treated: Treatments that were given while it ran, in order of time.
        schema: Name and version of this structure.
    """

    run: dict[str, Any]
    verdict: Verdict
    coverage: Coverage
    overhead: Overhead
    findings: tuple[Finding, ...]
    not_run: tuple[NotRun, ...] = ()
    treated: tuple[Treated, ...] = ()
    schema: str = field(default="defib.diagnosis/1")
