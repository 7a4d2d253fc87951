"""What feeds what, asked in the ways in which rules ask it.

A layer is named by its module path; its several uses in one forward pass count as one.
"""

from collections.abc import Iterable

from defib.core.run import RunView
from defib.core.wiring import Wiring


class Wires:
    """The graph of activations of one run."""

    def __init__(self, run: RunView) -> None:
        self._run = run
        self.wirings: dict[str, tuple[Wiring, ...]] = {}
        for wiring in run.wirings:
            self.wirings[wiring.site.path] = (*self.wirings.get(wiring.site.path, ()), wiring)
        self._before = {path: self._fed_by(uses) for path, uses in self.wirings.items()}
        self._after: dict[str, set[str]] = {path: set() for path in self.wirings}
        for path, feeders in self._before.items():
            for feeder in feeders:
                self._after.setdefault(feeder, set()).add(path)
        self._position = {path: i for i, path in enumerate(dict.fromkeys(self._paths()))}

    @staticmethod
    def _fed_by(uses: Iterable[Wiring]) -> set[str]:
        """Paths that reach an activation, through its producer or around it."""
        return {site.path for use in uses for site in (*use.inputs, *use.skips)} - {u.site.path for u in uses}

    def _paths(self) -> Iterable[str]:
        """Activations in order of data flow, then the layers without one."""
        yield from self.wirings
        yield from (layer.path for layer in self._run.layers)

    def position(self, path: str) -> int:
        """Place in order of data flow; a large number if the path is unknown."""
        return self._position.get(path, len(self._position))

    def before(self, path: str) -> set[str]:
        """Every activation upstream of ``path``."""
        return self._closure(path, self._before)

    def after(self, path: str) -> set[str]:
        """Every activation downstream of ``path``."""
        return self._closure(path, self._after)

    @staticmethod
    def _closure(path: str, edges: dict[str, set[str]]) -> set[str]:
        """All that can be reached along the edges, without ``path`` itself."""
        found: set[str] = set()
        todo = [path]
        while todo:
            for neighbour in edges.get(todo.pop(), set()) - found:
                found.add(neighbour)
                todo.append(neighbour)
        return found - {path}

    def is_output(self, wiring: Wiring) -> bool:
        """Whether this activation makes the model's output, so that the loss follows it at once."""
        if self._after.get(wiring.site.path):
            return False
        if self._run.loss_operations:
            return wiring.operation in self._run.loss_operations
        return bool(self._run.layers) and self._run.layers[-1].path == wiring.site.path

    def is_cut(self, path: str) -> bool:
        """Whether every way from the model's input to its last activations leads through ``path``."""
        known = set(self.wirings)
        sinks = {p for p in known if not self._after.get(p)} - {path}
        sources = {p for p in known if not self._before[p] & known} - {path}
        if any(self._reaches(source, sinks, without=path) for source in sources):
            return False
        # what skips around it from a place that is no activation (the model's input) is a way too
        skips = {site.path for p in self.after(path) for use in self.wirings.get(p, ()) for site in use.skips}
        return skips <= known

    def _reaches(self, source: str, sinks: set[str], without: str) -> bool:
        """Whether a sink can be reached around one path."""
        edges = {p: after - {without} for p, after in self._after.items() if p != without}
        return bool(({source} | self._closure(source, edges)) & sinks)
