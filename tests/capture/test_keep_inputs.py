"""With keep_inputs off no sample of the data is in the record, and the prognosis says why it cannot tell."""

import sqlite3
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import defib
from defib.core.config import load_settings
from defib.core.prognosis import Outlook

MARK = 4096.0  # every entry of the data is this large, whatever else is in the network


def dead_run(path: Path, **options: object) -> None:
    """Trains a net whose first layer is dead, on data that can be recognised; a skip brings it further up."""
    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(4, 8), nn.Linear(12, 6)
            self.head = nn.Linear(6, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = torch.relu(self.fc1(x))
            return self.head(torch.relu(self.fc2(torch.cat([h, x], 1))))

    net = Net()
    with torch.no_grad():
        for layer in (net.fc1, net.fc2):
            layer.weight.mul_(0.001)
            layer.bias.fill_(-1000.0)
    opt = torch.optim.SGD(net.parameters(), lr=1e-6, momentum=0.9)
    with defib.watch(net, opt, output=path, every=2, **options):
        for _ in range(300):
            opt.zero_grad()
            x = MARK + torch.rand(16, 4)
            net(x).square().mean().backward()
            opt.step()


def kept(path: Path) -> list[np.ndarray]:
    """Every array of the record's exhibits that holds a row of the data."""
    view = defib.open_run(path).view
    arrays = [a for e in view.exhibits for a in e.arrays.values() if a.dtype.kind == "f" and a.size]
    return [a for a in arrays if (np.abs(np.asarray(a, np.float64) - MARK) <= 1).any()]


def test_by_default_samples_are_there_or_this_file_shows_nothing(tmp_path):
    dead_run(tmp_path / "r.rec")
    assert kept(tmp_path / "r.rec")


@pytest.mark.parametrize("how", ["argument", "environment", "file"])
def test_no_sample_is_in_the_record_and_the_prognosis_names_the_setting(tmp_path, monkeypatch, how):
    options = {}
    if how == "argument":
        options = {"keep_inputs": False}
    elif how == "environment":
        monkeypatch.setenv("DEFIB_KEEP_INPUTS", "false")
    else:
        (tmp_path / "pyproject.toml").write_text("[tool.defib]\nkeep_inputs = false\n", encoding="utf-8")
        monkeypatch.chdir(tmp_path)
    dead_run(tmp_path / "r.rec", **options)
    assert not kept(tmp_path / "r.rec")
    assert not [e for e in defib.open_run(tmp_path / "r.rec").view.exhibits if "features" in e.arrays]
    forecast = defib.prognose(tmp_path / "r.rec")
    assert forecast.prognoses
    assert {p.outlook for p in forecast.prognoses} == {Outlook.UNKNOWN}
    assert all("keep_inputs" in p.reason for p in forecast.prognoses)


def test_an_argument_wins_over_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("DEFIB_KEEP_INPUTS", "false")
    dead_run(tmp_path / "r.rec", keep_inputs=True)
    assert kept(tmp_path / "r.rec")


def rows_in(path: Path, rows: list[bytes]) -> int:
    """How many of those rows stand in the files, as they are or packed."""
    cells = []
    for file in path.glob("rank-*.db"):
        base = sqlite3.connect(file)
        names = [row[0] for row in base.execute("select name from sqlite_master where type = 'table'")]
        cells += [cell for name in names for row in base.execute(f"select * from {name}") for cell in row]
        base.close()
    plain = b"".join(unpacked(cell) for cell in cells if isinstance(cell, bytes))
    return sum(row in plain for row in rows)


def unpacked(blob: bytes) -> bytes:
    for start in (0, 1, 4, 8):
        with suppress(zlib.error):
            return zlib.decompress(blob[start:])
    return blob


def test_no_row_of_the_data_stands_in_the_files(tmp_path):
    """Looked at as bytes, unpacked: not only in exhibits."""
    dead_run(tmp_path / "with.rec")
    dead_run(tmp_path / "without.rec", keep_inputs=False)
    features = [a for a in kept(tmp_path / "with.rec") if a.shape[1:] == (4,)]
    rows = [row.astype(np.float32).tobytes() for each in features for row in each]
    assert len(rows) > 100
    assert rows_in(tmp_path / "with.rec", rows) > 0, "or this test cannot find any"
    assert rows_in(tmp_path / "without.rec", rows) == 0


@pytest.mark.parametrize(("text", "value"), [("false", False), ("0", False), ("yes", True)])
def test_the_setting_is_read_from_the_environment(tmp_path, text, value):
    assert load_settings(tmp_path, {"DEFIB_KEEP_INPUTS": text}).keep_inputs is value
