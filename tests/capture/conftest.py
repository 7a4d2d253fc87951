"""Tests of capture train small networks under watch."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from memory import Memory


@pytest.fixture
def sink() -> Memory:
    return Memory()
