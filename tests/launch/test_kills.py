"""A run that is killed leaves a record that is read, and loses one flush at most (R14)."""

import random

import pytest
from killing import kill_once

ONE_FLUSH = 1.0
DELAY = 0.5
"""Seconds that a busy test machine may take to write; bench/kills.py reports what it really is."""


@pytest.mark.slow
@pytest.mark.parametrize("number", range(8))
def test_a_killed_run_can_be_read_but_for_its_last_flush(number, tmp_path):
    after = random.Random(number).uniform(0.0, 3.5)
    killed = kill_once(tmp_path, after)
    assert killed.error == ""
    assert killed.status == "interrupted"
    assert killed.recorded <= killed.done + 1  # one step may have been taken and not yet logged
    assert killed.lost <= ONE_FLUSH + DELAY
    if after > ONE_FLUSH + 1.0:  # torch has to be imported first
        assert killed.recorded > 0
