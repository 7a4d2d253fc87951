"""A forward pass made again with given parameters, and what each layer multiplied in it.

The parameters go in as other tensors (``functional_call``), buffers as copies, and the states of the
random generators are those of the pass that is repeated, so that dropout draws the same masks. What a
module's code sets on itself is put back, and the user's own forward hooks do not run again: a pass
that is repeated leaves nothing behind. Layers are seen through the torch functions they call, in any
spelling, and not by hooks.
"""

import contextlib
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils import _pytree as pytree

from defib.core.kill import Call
from defib.probe.calls import told
from defib.probe.products import Products, Use
from defib.probe.state import Generators
from defib.torchgraph.witness import agree, output_tensors, witness


@dataclass(frozen=True, kw_only=True)
class Passed:
    """What passes that were made again showed.

    Attributes:
        uses: Products by layer, call after call.
        outputs: The passes' output tensors.
        leaves: The parameters' stand-ins by name, in which the graph of the outputs ends.
        same: They gave what they gave the first time, as far as that is known.
    """

    uses: dict[str, list[Use]]
    outputs: list[Tensor]
    leaves: dict[str, Tensor]
    same: bool


def rerun(
    model: nn.Module,
    values: Mapping[str, Tensor],
    calls: Sequence[Call],
    wanted: Iterable[str] | None = None,
) -> Passed:
    """Make some forward passes again with these parameters; within :func:`quiet`.

    Args:
        model: The module.
        values: Its parameters and buffers by name, each once.
        calls: The passes.
        wanted: Layers whose products are noted; None for all.

    Returns:
        Products, outputs, and the parameters' stand-ins.

    Raises:
        UsageError: If the model raises.
    """  # noqa: DOC501, DOC502 - told() makes one
    learning = {n: p.requires_grad for n, p in model.named_parameters()}
    leaves = {n: v.detach().requires_grad_(learning[n]) for n, v in values.items() if n in learning}
    # What makes a weight out of it (weight norm) is no weight; such a layer is known by its bias.
    names = {id(t): n for n, t in leaves.items() if ".parametrizations." not in f".{n}"}
    notes = Products(names, wanted)
    outputs: list[Tensor] = []
    same = True
    now = Generators()
    for call in calls:
        buffers = {n: v.detach().clone() for n, v in values.items() if n not in leaves}
        _set(call.generators)
        arguments, options = pytree.tree_map(_fresh, (call.arguments, dict(call.options)))
        try:
            with notes, _autocast(call):
                output = functional_call(model, {**leaves, **buffers}, arguments, options)
        except Exception as error:
            raise told("the model", error) from error
        outputs += output_tensors(output)
        same = same and agree(call.witness, witness(output))
    now.restore()
    return Passed(uses=notes.uses, outputs=outputs, leaves=leaves, same=same)


def _fresh(value: Any) -> Any:
    """A copy: a pass may write into what it is given."""
    return value.detach().clone().requires_grad_(value.requires_grad) if isinstance(value, Tensor) else value


def _set(generators: tuple[Any, ...] | None) -> None:
    if generators is None:
        return
    torch.set_rng_state(generators[0])
    if len(generators) > 1:
        torch.cuda.set_rng_state_all(list(generators[1:]))


@contextlib.contextmanager
def _autocast(call: Call) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for device, dtype in call.autocast:
            stack.enter_context(torch.autocast(device, dtype=dtype))
        yield


@contextlib.contextmanager
def quiet(model: nn.Module) -> Iterator[None]:
    """What passes made in here do to the model, the generators and the user's output is undone.

    Put back: attributes of every module (those that it rebinds, not what it writes into a list of its
    own), the generators of torch, Python and numpy. Warnings are not repeated. Hooks of torch's own
    stay: some compute weights.

    Args:
        model: The user's model.

    Yields:
        Nothing.
    """
    modules = list({id(m): m for m in model.modules()}.values())
    inner = ("_parameters", "_buffers", "_modules")
    attributes = [(m, dict(m.__dict__)) for m in modules]
    members = [(m.__dict__[name], dict(m.__dict__[name])) for m in modules for name in inner]
    generators = Generators()
    try:
        for module in modules:
            for name in ("_forward_hooks", "_forward_pre_hooks"):
                hooks = module.__dict__[name]
                if hooks:
                    kept = ((k, h) for k, h in hooks.items() if _is_torchs(h))
                    module.__dict__[name] = type(hooks)(kept)
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for module, held in attributes:
            _put_back(module.__dict__, held)
        for current, entries in members:
            _put_back(current, entries)
        generators.restore()


def _put_back(current: dict[str, Any], entries: dict[str, Any]) -> None:
    """The old entries in the old order; nothing is written where nothing was changed."""
    same = list(current) == list(entries) and all(current[k] is v for k, v in entries.items())
    if not same:
        current.clear()
        current.update(entries)


def _is_torchs(hook: Any) -> bool:
    module = getattr(hook, "__module__", None) or type(hook).__module__
    return str(module).partition(".")[0] == "torch"
