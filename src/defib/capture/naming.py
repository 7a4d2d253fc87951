"""Which parameter belongs to which module, and what the user calls it."""

import gc
import sys
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, count
from time import monotonic

import torch
from torch import nn

from defib.capture.bare import bare_layers
from defib.core.wiring import Layer

_REST = 20
_BARE = "Tensor"
"""The kind of a layer without a module."""
_WRAPPERS = {
    "DistributedDataParallel": "module.",
    "DataParallel": "module.",
    "FullyShardedDataParallel": "_fsdp_wrapped_module.",
    "OptimizedModule": "_orig_mod.",
}


@dataclass(frozen=True, kw_only=True)
class Owner:
    """Where a parameter lives.

    Attributes:
        name: Full name as the user knows it ("encoder.0.fc1.weight").
        path: The module's path ("encoder.0.fc1"); "" for the root itself.
        kind: The module's class name.
        field: The attribute within the module ("weight").
        siblings: Paths of the modules that follow it in its parent and have no
            parameters, with their class names: where its activation may sit.
        units: Length of the module's unit axis; 0 if it has none.
        transposed: The weight has its units along axis 1 (transposed convolutions, embeddings).
    """

    name: str
    path: str
    kind: str
    field: str
    siblings: tuple[tuple[str, str], ...] = ()
    units: int = 0
    transposed: bool = False


class Names:
    """Names of parameters, by identity. Holds no module and no parameter alive.

    A tied parameter keeps the first of its names. Modules are found by looking
    at the models given, or at every live module if none was given: nothing is
    hooked, so nothing can be missed by a direct call of ``forward``.
    """

    def __init__(self, roots: Iterable[nn.Module] = ()) -> None:
        self._owners: dict[int, tuple[weakref.ref[torch.Tensor], Owner]] = {}
        self._layers: dict[str, Layer] = {}
        self._parameters: dict[str, list[weakref.ref[torch.Tensor]]] = {}
        self._unborn: list[tuple[str, weakref.ref[nn.Module]]] = []
        self._roots: list[tuple[str, weakref.ref[nn.Module]]] = []
        self._searches = 0
        self._next_search = 0.0
        for name, root in _named_roots(list(roots)):
            self._add(name, root)

    def owner(self, parameter: torch.Tensor) -> Owner | None:
        """Where a parameter lives; None if no known module has it."""
        found = self._owners.get(id(parameter))
        return found[1] if found is not None and found[0]() is parameter else None

    def knows(self, parameters: Iterable[torch.Tensor]) -> bool:
        """Whether every one of these parameters has a name."""
        return all(self.owner(p) is not None for p in parameters)

    def search(self, parameters: Iterable[torch.Tensor]) -> None:
        """Look among all live modules for the owners of these parameters.

        Five times for the asking; after that a search may take one part in ``_REST`` of the time.
        """
        wanted = {id(p) for p in parameters if self.owner(p) is None}
        start = monotonic()
        if not wanted or (self._searches >= 5 and start < self._next_search):
            return
        self._searches += 1
        for name, root in self._named(list(_live_roots(wanted))):
            self._add(name, root)
        end = monotonic()
        self._next_search = end + _REST * (end - start)

    def _named(self, roots: list[nn.Module]) -> list[tuple[str, nn.Module]]:
        """A prefix for each root found: a known one keeps its own, a second "0.weight" gets one."""
        known = [(prefix, root) for prefix, ref in self._roots if (root := ref()) is not None]
        again = [(prefix, root) for prefix, root in known if any(root is r for r in roots)]
        fresh = [r for r in roots if not any(r is root for _, root in again)]
        if len(fresh) == 1 and not self._is_taken(fresh[0]):
            return [*again, ("", fresh[0])]
        return [*again, *_prefixed(fresh, {prefix for prefix, _ in known})]

    def _is_taken(self, root: nn.Module) -> bool:
        """Whether a layer of this root would have the name of one that lives elsewhere."""
        own = {id(p) for p in root.parameters()}
        paths = {_clean(root, raw) for raw, module in root.named_modules() if module._parameters}
        living = (p for path in paths for ref in self._parameters.get(path, ()) if (p := ref()) is not None)
        return any(id(p) not in own for p in living)

    def adopt(self, parameters: Iterable[torch.Tensor]) -> None:
        """Take in those of an optimiser's parameters that no module owns, as layers of their own."""
        for layer in bare_layers([p for p in parameters if self.owner(p) is None], self._layers):
            fields = layer.fields
            for name, (field, parameter) in zip(layer.names, fields.items(), strict=True):
                owner = Owner(
                    name=name,
                    path=layer.path,
                    kind=_BARE,
                    field=field,
                    units=layer.units,
                    transposed=layer.transposed,
                )
                self._owners[id(parameter)] = (weakref.ref(parameter), owner)
            self._parameters[layer.path] = [weakref.ref(p) for p in fields.values()]
            self._layers[layer.path] = Layer(
                path=layer.path,
                kind=_BARE,
                units=layer.units,
                parameters=layer.names,
                dtypes=tuple(_format(p) for p in fields.values()),
            )

    def complete(self) -> None:
        """Take in lazy modules that have got their parameters by now."""
        unborn, self._unborn = self._unborn, []
        for prefix, ref in unborn:
            root = ref()
            if root is not None:
                self._roots = [(p, r) for p, r in self._roots if r is not ref and r() is not root]
                known, self._layers = self._layers, {}
                self._add(prefix, root)
                self._layers |= {path: layer for path, layer in known.items() if path not in self._layers}

    def renew(self) -> None:
        """Modules were exchanged or added: the known models are gone through again."""
        roots, self._roots = self._roots, []
        self._owners = {i: known for i, known in self._owners.items() if known[1].kind == _BARE}
        self._layers = {path: layer for path, layer in self._layers.items() if layer.kind == _BARE}
        self._parameters = {path: self._parameters[path] for path in self._layers}
        for prefix, ref in roots:
            root = ref()
            if root is not None:
                self._add(prefix, root)

    def layers(self) -> tuple[Layer, ...]:
        """Every module that owns parameters, in the models' own order, frozen or not as it is now."""
        return tuple(self._now(layer) for layer in self._layers.values())

    def _now(self, layer: Layer) -> Layer:
        """What may have changed since it was found: ``requires_grad_()``, ``half()``."""
        alive = [p for ref in self._parameters[layer.path] if (p := ref()) is not None]
        if not alive:
            return layer
        whole = len(alive) == len(layer.parameters)
        dtypes = tuple(_format(p) for p in alive) if whole else layer.dtypes
        return replace(layer, frozen=_frozen(alive), dtypes=dtypes)

    def _add(self, prefix: str, root: nn.Module) -> None:
        if any(isinstance(p, nn.parameter.UninitializedParameter) for p in root.parameters()):
            self._unborn.append((prefix, weakref.ref(root)))
        if not any(ref() is root for _, ref in self._roots):
            self._roots.append((prefix, weakref.ref(root)))
        parents = dict(root.named_modules(remove_duplicate=False))
        for raw, module in root.named_modules():
            own = {f: p for f, p in module._parameters.items() if isinstance(p, torch.Tensor)}
            if not own or any(isinstance(p, nn.parameter.UninitializedParameter) for p in own.values()):
                continue
            path = _join(prefix, _clean(root, raw))
            siblings = tuple(
                (_join(prefix, _clean(root, s)), kind) for s, kind in _next_siblings(parents, raw)
            )
            names = []
            for field, parameter in own.items():
                name = _join(path, field)
                names.append(name)
                owner = Owner(
                    name=name,
                    path=path,
                    kind=_kind(module),
                    field=field,
                    siblings=siblings,
                    units=_units(module, own),
                    transposed=_transposed(module),
                )
                if self.owner(parameter) is None:
                    self._owners[id(parameter)] = (weakref.ref(parameter), owner)
            self._parameters[path] = [weakref.ref(p) for p in own.values()]
            self._layers[path] = Layer(
                path=path,
                kind=_kind(module),
                units=_units(module, own),
                parameters=tuple(names),
                frozen=_frozen(own.values()),
                dtypes=tuple(_format(p) for p in own.values()),
            )


def _kind(module: nn.Module) -> str:
    return type(module).__name__


def _frozen(parameters: Iterable[torch.Tensor]) -> bool:
    return not any(p.requires_grad for p in parameters)


def _format(parameter: torch.Tensor) -> str:
    return str(parameter.dtype).removeprefix("torch.")


def _transposed(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.conv._ConvTransposeNd | nn.Embedding | nn.EmbeddingBag)


def _units(module: nn.Module, own: dict[str, torch.Tensor]) -> int:
    """Length of the unit axis: the bias's, else the weight's first (transposed: its second, a group)."""
    if isinstance(module, nn.modules.conv._ConvTransposeNd):
        return int(module.out_channels)
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return int(module.embedding_dim)
    for field in ("bias", "weight"):
        parameter = own.get(field)
        if parameter is not None and parameter.ndim:
            return int(parameter.shape[0])
    return 0


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix and name else prefix or name


def _clean(root: nn.Module, path: str) -> str:
    """The path without the names that known wrappers put in front of the user's own."""
    wrapper = _WRAPPERS.get(type(root).__name__)
    if wrapper is not None and f"{path}.".startswith(wrapper):
        path = path.removeprefix(wrapper.rstrip(".")).removeprefix(".")
    return path.replace("_orig_mod.", "").removesuffix("._orig_mod").removesuffix("_orig_mod")


def _next_siblings(modules: dict[str, nn.Module], path: str) -> Iterator[tuple[str, str]]:
    """Parameter-free modules that directly follow ``path`` among its parent's children."""
    parent_path, _, own = path.rpartition(".")
    parent = modules.get(parent_path)
    if parent is None or not path:
        return
    following = False
    for name, child in parent.named_children():
        if following:
            if any(True for _ in child.parameters()):
                return
            yield _join(parent_path, name), _kind(child)
        following = following or name == own


def _live_roots(wanted: set[int]) -> Iterator[nn.Module]:
    """Outermost live modules that hold at least one of the wanted parameters."""
    kinds: dict[type, bool] = {}
    modules: list[nn.Module] = []
    for thing in gc.get_objects():
        kind = type(thing)
        if kind not in kinds:
            kinds[kind] = issubclass(kind, nn.Module)
        if kinds[kind] and "_modules" in thing.__dict__:
            modules.append(thing)
    inner = {id(child) for module in modules for child in module._modules.values()}
    for module in modules:
        if id(module) not in inner and any(id(p) in wanted for p in module.parameters()):
            yield module


def _named_roots(roots: list[nn.Module]) -> list[tuple[str, nn.Module]]:
    """A prefix for each root: none for a single one."""
    return [("", roots[0])] if len(roots) == 1 else _prefixed(roots, set())


def _prefixed(roots: list[nn.Module], known: set[str]) -> list[tuple[str, nn.Module]]:
    """The user's variable or the class name for each root, none of them twice or in ``known``."""
    variables = {id(v): k for k, v in vars(sys.modules["__main__"]).items() if not k.startswith("_")}
    taken, named = set(known), []
    for root in roots:
        base = variables.get(id(root), _kind(root))
        name = next(n for n in chain((base,), (f"{base}_{i}" for i in count(1))) if n not in taken)
        taken.add(name)
        named.append((name, root))
    return named
