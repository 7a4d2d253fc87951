"""The optimisers and settings against which prognoses are checked."""

import math

from bruteforce import Setting

COSINE = tuple(0.5 * (1 + math.cos(math.pi * k / 400)) for k in range(401))
BARE = {"weight_decay": 0.0}


def _s(
    name: str, kind: str, steps: int = 1000, bias: dict[str, float] | None = None, **more: object
) -> Setting:
    outer = {k: more.pop(k) for k in ("history", "dtype", "schedule") if k in more}
    return Setting(name=name, kind=kind, steps=steps, bias=bias or {}, weight=more, **outer)  # type: ignore[arg-type]


SETTINGS: tuple[Setting, ...] = (
    _s("plain", "SGD", lr=0.1, steps=300),
    _s("decay", "SGD", lr=0.1, weight_decay=0.05),
    _s("momentum", "SGD", lr=0.02, momentum=0.9),
    _s("momentum .99", "SGD", lr=0.002, momentum=0.99, steps=2500),
    _s("momentum, maximize", "SGD", lr=0.02, momentum=0.9, maximize=True, weight_decay=1e-3),
    _s("dampening", "SGD", lr=0.05, momentum=0.9, dampening=0.5, weight_decay=1e-3),
    _s("Nesterov", "SGD", lr=0.02, momentum=0.9, nesterov=True),
    _s("Nesterov, decay", "SGD", lr=0.02, momentum=0.9, nesterov=True, weight_decay=1e-2),
    _s("underdamped", "SGD", lr=0.1, momentum=0.99, weight_decay=1e-3),
    _s("underdamped Nesterov", "SGD", lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.05),
    _s("no history, decay", "SGD", lr=0.1, momentum=0.9, dampening=0.3, weight_decay=0.03, history=0),
    _s("only weights decay", "SGD", lr=0.1, weight_decay=5e-2, bias=BARE, steps=3000),
    _s("weights decay, momentum", "SGD", lr=0.05, momentum=0.9, weight_decay=5e-3, bias=BARE, steps=3000),
    _s("only bias decays", "SGD", lr=0.1, weight_decay=0.0, bias={"weight_decay": 0.05}),
    _s("different momenta", "SGD", lr=0.02, momentum=0.9, bias={"momentum": 0.5, "lr": 0.2}),
    _s("cosine schedule", "SGD", lr=0.02, momentum=0.9, weight_decay=1e-2, schedule=COSINE),
    _s("float64", "SGD", lr=0.02, momentum=0.9, weight_decay=5e-3, bias=BARE, dtype="float64", steps=2000),
    _s("bfloat16", "SGD", lr=0.05, momentum=0.9, weight_decay=0.1, dtype="bfloat16"),
    _s("default", "Adam", lr=3e-2),
    _s("betas", "Adam", lr=1e-2, betas=(0.8, 0.95)),
    _s("coupled decay", "Adam", lr=1e-2, weight_decay=1e-2, steps=3000),
    _s("coupled decay, small", "Adam", lr=2e-3, weight_decay=1e-4, steps=2000),
    _s("coupled decay of weights", "Adam", lr=1e-2, weight_decay=1e-2, bias=BARE),
    _s("large eps", "Adam", lr=1e-2, eps=0.1),
    _s("AMSGrad", "Adam", lr=1e-2, amsgrad=True),
    _s("AMSGrad, decay", "Adam", lr=1e-2, amsgrad=True, weight_decay=1e-3),
    _s("maximize", "Adam", lr=1e-2, maximize=True, weight_decay=1e-3),
    _s("float64", "Adam", lr=1e-2, weight_decay=1e-2, dtype="float64"),
    _s("bfloat16", "Adam", lr=1e-2, weight_decay=1e-2, dtype="bfloat16"),
    _s("long history", "Adam", lr=1e-2, history=300),
    _s("default", "AdamW", lr=3e-2),
    _s("only weights decay", "AdamW", lr=1e-2, weight_decay=0.5, bias=BARE, steps=2000),
    _s("AMSGrad", "AdamW", lr=1e-2, amsgrad=True, weight_decay=0.1),
    _s("cosine schedule", "AdamW", lr=1e-2, weight_decay=0.1, schedule=COSINE),
    _s("default", "NAdam", lr=3e-2),
    _s("coupled decay", "NAdam", lr=1e-2, weight_decay=1e-2),
    _s("decoupled decay", "NAdam", lr=1e-2, weight_decay=0.1, decoupled_weight_decay=True, bias=BARE),
    _s("default", "RAdam", lr=5e-2),
    _s("early", "RAdam", lr=1e-2, history=2),
    _s("coupled decay", "RAdam", lr=1e-2, weight_decay=1e-2),
    _s("decoupled decay", "RAdam", lr=1e-2, weight_decay=0.1, decoupled_weight_decay=True),
    _s("default", "RMSprop", lr=1e-2, steps=300),
    _s("decay", "RMSprop", lr=1e-2, weight_decay=1e-2),
    _s("momentum", "RMSprop", lr=1e-3, momentum=0.9),
    _s("centred, decay", "RMSprop", lr=1e-2, centered=True, weight_decay=1e-2),
    _s("centred, momentum, decay", "RMSprop", lr=1e-3, centered=True, momentum=0.9, weight_decay=1e-2),
    _s("default", "Adagrad", lr=1e-2, steps=300),
    _s("decay", "Adagrad", lr=0.1, weight_decay=0.1, steps=2000),
    _s("decay, lr_decay", "Adagrad", lr=0.5, lr_decay=1e-2, weight_decay=0.1, bias=BARE),
    _s("default", "Adamax", lr=3e-2),
    _s("decay", "Adamax", lr=1e-2, weight_decay=1e-2),
    _s("default", "Adadelta", lr=1.0, steps=300),
    _s("decay", "Adadelta", lr=1.0, weight_decay=0.1),
    _s("default", "Rprop", lr=1e-2, steps=300),
    _s("default", "ASGD", lr=1e-2, steps=300),
    _s("decay of weights", "ASGD", lr=0.1, weight_decay=0.05, bias=BARE),
)  # fmt: skip
"""Each with zero to thousands of steps, in the paths that torch takes on a CPU by default."""
