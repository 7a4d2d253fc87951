"""Tests of capture train small networks under watch."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from memory import Memory

# One thread: the networks are tiny, and threads that wait for each other are most of the time.
torch.set_num_threads(1)


@pytest.fixture
def sink() -> Memory:
    return Memory()
