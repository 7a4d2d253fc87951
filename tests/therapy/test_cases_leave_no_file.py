"""What a treatment's own cases write into the temp folder goes away with the state it was written for."""

import gc
import tempfile
from pathlib import Path

import pytest

from defib.therapy.treatments.escape_saddle import EscapeSaddle

WRITING = [case for case in EscapeSaddle.CASES if "file" in case.dose]


@pytest.mark.parametrize("case", WRITING, ids=lambda case: case.name)
def test_the_file_of_a_case_is_there_as_long_as_its_state(case, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    state = case.build()
    file = Path(str(case.dose["file"]))
    assert file.is_file()
    assert file.is_relative_to(tmp_path)
    del state
    gc.collect()
    assert list(tmp_path.glob("defib*")) == []  # torch makes a folder of its own
