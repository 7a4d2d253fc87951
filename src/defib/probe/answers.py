"""What a question of the triage gives: a verdict, or only numbers."""

from dataclasses import dataclass

from defib.core.evidence import Evidence
from defib.core.finding import Confidence
from defib.core.triage import Standstill
from defib.probe.descent import Way


@dataclass(frozen=True, kw_only=True)
class Said:
    """A verdict that holds."""

    verdict: Standstill
    confidence: Confidence
    sentence: str
    way: Way | None = None


class Notes(list[Evidence]):
    """The numbers in the order in which they were asked for."""

    def add(self, name: str, value: float | int | str, unit: str = "1") -> None:
        """Notes one."""
        self.append(Evidence(name=name, value=value, unit=unit))
