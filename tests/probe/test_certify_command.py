"""`defib certify` on the command line, and that it leaves everything as it was."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_untouched import bits, fingerprint, noisy, norms
from torch import nn

import defib
from defib.core.certificate import UnitVerdict
from defib.core.errors import UsageError

NETS = """
import torch
from torch import nn
from defib.proofs import Ellipsoid


def sick():
    model = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))
    with torch.no_grad():
        model[0].bias -= torch.tensor([0.0, 0.0, 9.0, 9.0, 9.0, 0.0])
    return model


def good():
    return nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))


def batch():
    return torch.rand(40, 8), torch.arange(40) % 3


def region():
    return Ellipsoid(center=0.5, axes=0.1)
"""


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / "mine.py").write_text(NETS, encoding="utf-8")
    environ = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "80"}
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "defib", "certify", *words],
        cwd=folder, env=environ, text=True, capture_output=True,
    )  # fmt: skip


def test_dead_units_are_named_in_80_columns_and_fail_a_gate(tmp_path: Path) -> None:
    done = run(tmp_path, "mine:sick", "--batch", "mine:batch", "--domain", "0:1", "--fail-on-dead")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("defib: 3 of 6 units proved never to fire, 0 always linear.\n")
    assert "never     layer 0: 3 of 6 units: 2-4 (by interval)" in done.stdout
    assert "rank      says nothing here: rank " in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_the_answer_as_data_has_every_unit_with_its_bounds(tmp_path: Path) -> None:
    done = run(
        tmp_path, "mine:sick", "--batch", "mine:batch", "--domain", "mine:region", "--json", "--exact", "2"
    )
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    assert answer["schema"] == "defib.certificate/1"
    units = answer["layers"][0]["units"]
    assert [u["unit"] for u in units] == list(range(6))
    assert [u["verdict"] for u in units][2:5] == ["never-fires"] * 3
    assert all(u["low"] < u["high"] for u in units)


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (("--domain", "1:0"), 64, "defib: the box is empty: low 1 > high 0"),
        (("--domain", "mine:nothing"), 66, "defib: mine has no nothing"),
        (
            ("--domain", "mine:batch"),
            64,
            "defib: a domain is a Box, an Ellipsoid, or text like '0:1', not a tuple",
        ),
        (("--seconds", "soon"), 64, "defib: --seconds is a number from 0 on, not 'soon'"),
        (("--exact", "-1"), 64, "defib: --exact takes a whole number from 0, not '-1'"),
    ],
)
def test_every_mistake_is_one_line(tmp_path: Path, words: tuple[str, ...], code: int, line: str) -> None:
    done = run(tmp_path, "mine:good", "--batch", "mine:batch", *words)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", line + "\n")


@pytest.mark.parametrize("mode", [True, False])
def test_a_model_is_left_bit_for_bit_as_it_was(mode: bool) -> None:
    data = torch.randn(16, 64), torch.randint(10, (16,))
    for build in (noisy, norms):
        model = build()
        model(data[0])
        model.train(mode)
        for parameter in list(model.parameters())[2:4]:
            parameter.grad = torch.full_like(parameter, float("nan"))
        before, batch = fingerprint(model), (bits(data[0]), bits(data[1]))
        fast = torch.backends.mha.get_fastpath_enabled()
        found = defib.certify(model, "data", data, exact=2)
        assert found.layers  # something was proved about: not an empty run
        assert fingerprint(model) == before
        assert (bits(data[0]), bits(data[1])) == batch
        assert torch.is_grad_enabled()
        assert torch.backends.mha.get_fastpath_enabled() == fast


def test_a_model_that_cannot_be_traced_is_left_as_it_was_too() -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(64)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            torch.rand(1)
            raise KeyError("no such thing")

    model, batch = Broken(), torch.randn(4, 64)
    before = fingerprint(model)
    with pytest.raises(UsageError, match=r"^the model cannot be traced: KeyError: 'no such thing'"):
        defib.certify(model, "data", batch)
    assert fingerprint(model) == before


def test_a_sample_that_contradicts_a_proof_is_a_loud_fault() -> None:
    from defib.core.errors import DefibError
    from defib.probe.certificates import rounding, steps  # noqa: F401 - named so that a move is noticed
    from defib.probe.certificates.bounds import Bounds
    from defib.probe.certificates.verdicts import Looked, Unit, layer_certificate

    sys.path.insert(0, str(Path(__file__).parent))
    from bounded_nets import Attack

    from defib.core.domain import Box
    from defib.probe.certificates.bends import Activated

    linear = nn.Linear(1, 1)
    nn.init.constant_(linear.weight, 1.0)
    nn.init.constant_(linear.bias, -5.0)
    bounds: Bounds = Attack(
        nn.Sequential(linear, nn.ReLU()), torch.zeros(1, 1), Box(low=0.0, high=1.0)
    ).bounds
    node, step = next((n, s) for n, s in bounds.steps.items() if isinstance(s, Activated))
    unit = Unit(node=node, step=step, layer="fc", call=0, axis=1)
    fine = layer_certificate(unit, bounds, None, Looked(samples=3, witness=torch.tensor([-1])))
    assert fine.units[0].verdict is UnitVerdict.NEVER_FIRES
    with pytest.raises(DefibError, match="sample 2 fires unit 0 of fc, which was proved never to fire"):
        layer_certificate(unit, bounds, None, Looked(samples=3, witness=torch.tensor([2])))
