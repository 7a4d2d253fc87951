"""kill -9 at any moment: the record is readable and at most one flush is lost."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from record_samples import ACTIVATION, FC1, killed

from defib.record.reader import read

CHILDREN = Path(__file__).with_name("kill_children.py")


def kills(folder, number, longest, ack):
    command = [sys.executable, str(CHILDREN), str(folder), str(number), str(longest), "1", str(int(ack))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_fifty_kills_at_random_moments_lose_nothing_that_was_acknowledged(tmp_path):
    results = kills(tmp_path, 50, 0.25, ack=True)
    assert len(results) == 50
    assert sum(result["acked"] >= 0 for result in results) > 40, (
        "the kills came before there was anything to lose"
    )
    for result in results:
        run = read(result["path"])
        assert run.facts["status"] == "interrupted"
        assert run.unseen == ()
        last = int(run.loss.steps[-1]) if len(run.loss) else -1
        assert result["acked"] <= last <= result["said"] + 1
        assert run.loss.steps.tolist() == list(range(last + 1))
        assert run.loss.values.tolist() == run.loss.steps.tolist()
        assert [r.first for r in run.at(FC1, ACTIVATION)] == list(range(0, last + 1, 5))[: len(run.readings)]
        assert len(run.readings) >= result["acked"] // 5 + (result["acked"] >= 0)
        assert {e.step for e in run.of_kind("mark")} >= set(range(0, result["acked"] + 1, 11))


def test_without_being_asked_at_most_one_second_is_lost(tmp_path):
    results = kills(tmp_path, 4, 4.0, ack=False)
    assert any(result["old"] > 100 for result in results)
    for result in results:
        run = read(result["path"])
        assert (int(run.loss.steps[-1]) if len(run.loss) else -1) >= result["old"]


def test_a_killed_run_is_interrupted_and_read_from_its_log(tmp_path):
    path = killed(tmp_path / "x.rec")
    assert (path / "rank-00000.db-wal").stat().st_size > 10_000
    run = read(path)
    assert run.facts["status"] == "interrupted"
    assert run.steps == 40
    assert run.unseen == ()


@pytest.mark.parametrize("lost", ["rank-00000.db-shm", "rank-00000.db-wal"])
def test_a_killed_run_without_its_side_files_is_still_readable(tmp_path, lost):
    path = killed(tmp_path / "x.rec")
    (path / lost).unlink()
    run = read(path)
    assert run.facts["status"] == "interrupted"
    assert run.steps == (40 if lost.endswith("shm") else 0)
