"""Treatment of live runs: by hand, on an unmodified script, on all ranks or on none."""

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

import defib
from defib import care
from defib.core.errors import NotFound, Refused, UsageError
from defib.core.prescription import Prescription, Safety
from defib.orders import check_order
from defib.therapy.agreement import agree
from defib.therapy.engine import treatments
from defib.therapy.gather import gather
from defib.therapy.treatment import Treatment

SCRIPT = """
import torch
from torch import nn
torch.manual_seed(0)
x = torch.randn(64, 8)
y = x[:, :1].clone()
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for step in range(60):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(x), y)
    loss.backward()
    optimizer.step()
print("lr", optimizer.param_groups[0]["lr"])
"""


def trained() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    step(model, optimizer)
    return model, optimizer


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(torch.ones(2, 4)).square().mean().backward()
    optimizer.step()


def test_a_live_run_is_treated_and_the_record_says_so(tmp_path: Path) -> None:
    model, optimizer = trained()
    with defib.watch(model, optimizer, output=tmp_path / "r.rec", every=1) as run:
        step(model, optimizer)
        receipt = run.treat("scale-lr", factor=0.5)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05)
        step(model, optimizer)
        receipt.undo()
        assert optimizer.param_groups[0]["lr"] == 0.1
        assert run.faults == 0
    events = [e.data["stage"] for e in defib.open_run(tmp_path / "r.rec").view.of_kind("treatment")]
    assert events == ["planned", "done"]


def test_a_refused_treatment_is_told_and_changes_nothing(tmp_path: Path) -> None:
    model, optimizer = trained()
    with defib.watch(model, optimizer, output=tmp_path / "r.rec", every=1) as run:
        step(model, optimizer)
        with pytest.raises(Refused, match="positive factor"):
            run.treat("scale-lr", factor=-1)
        stages = [e.data["stage"] for e in run.view.of_kind("treatment")]
    assert stages == ["planned", "refused"]
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_a_script_is_treated_before_its_first_step(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    command = [
        sys.executable,
        "-m",
        "defib",
        "run",
        "-o",
        "r.rec",
        "--treat",
        "scale-lr:factor=0.5",
        "train.py",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "lr 0.025"
    view = defib.open_run(tmp_path / "r.rec").view
    assert [(e.step, e.data["stage"]) for e in view.of_kind("treatment")] == [(0, "planned"), (0, "done")]
    assert view.optimizers[0].lr.values[0] == pytest.approx(0.025)


def test_treat_at_waits_for_its_step(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "defib", "run", "-o", "r.rec", "--treat", "scale-lr:factor=0.5"]
    command += ["--treat-at", "30", "train.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    lr = defib.open_run(tmp_path / "r.rec").view.optimizers[0].lr
    assert lr.values[29] == pytest.approx(0.05)
    assert lr.values[30] == pytest.approx(0.025)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["no-such-treatment"], NotFound),
        (["scale-lr:factor"], UsageError),
        (["@missing.json"], UsageError),
    ],
)
def test_an_order_that_cannot_be_understood_is_one_clear_line(
    words: list[str], error: type[Exception]
) -> None:
    with pytest.raises(error) as caught:
        care.parse_order(words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("scale-lr:fctor=3", "did you mean factor?"),
        ("scale-lr:factor=3,xx=1", "it takes factor, lr"),
        ("zero-grad:units=[1]", "it takes no dose"),
    ],
)
def test_a_mistyped_dose_is_refused_before_the_script_starts(tmp_path: Path, word: str, hint: str) -> None:
    (tmp_path / "train.py").write_text("print('started')")
    for command in (["run", "--treat", word], ["trial", "--arms", word]):
        words = [sys.executable, "-m", "defib", *command, "train.py"]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
        assert (done.returncode, done.stdout) == (64, "")
        assert done.stderr.count("\n") == 1
        assert hint in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["train.py"]


def test_an_order_is_checked_without_importing_torch() -> None:
    code = (
        "import sys; from defib.orders import check_order; check_order(['scale-lr:factor=3', 'auto'])\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("cls", treatments(), ids=lambda cls: cls.slug)
def test_every_dose_that_defib_gives_has_the_names_of_the_treatments_page(cls: type[Treatment]) -> None:
    if cls.safety is Safety.SOURCE:
        return
    doses = [case.dose for case in cls.CASES]
    doses += [cls().drawn(Random(seed), ("a", "b")) for seed in range(20)]
    for dose in doses:
        check_order([f"{cls.slug}:{','.join(f'{name}=1' for name in dose)}"])


def test_an_order_from_a_file_keeps_lists(tmp_path: Path) -> None:
    entries = [{"treatment": "scale-lr", "dose": {"factor": 0.5, "units": [1, 2]}}]
    (tmp_path / "o.json").write_text(json.dumps(entries))
    order = care.parse_order([f"@{tmp_path / 'o.json'}", "scale-lr:units=[3,4],factor=2"])
    assert order is not None
    assert [dict(p.dose) for p in order.given] == [
        {"factor": 0.5, "units": (1, 2)},
        {"units": (3, 4), "factor": 2},
    ]


def test_many_live_optimizers_are_looked_through() -> None:
    model, optimizer = trained()
    others = [torch.optim.SGD([torch.zeros(1)], lr=1) for _ in range(100)]
    (state,) = gather(models=[model])
    assert state.optimizers == (optimizer,)
    assert len(others) == 100


def test_nothing_that_trains_is_refused() -> None:
    with pytest.raises(Refused):
        gather(models=[nn.Linear(1, 1)], optimizers=[torch.optim.SGD([torch.zeros(1)], lr=1)])


def _halved(factor: float = 0.5) -> Prescription:
    return care.named("scale-lr", {"factor": factor})


def _rank(rank: int, where: str, asks: tuple[float | None, float | None], results: "mp.SimpleQueue") -> None:
    dist.init_process_group("gloo", init_method=f"file://{where}", rank=rank, world_size=2)
    answer = "did not ask"
    wanted = asks[rank]
    if wanted is not None:
        try:
            agree(_halved(wanted), timedelta(seconds=20 if None not in asks else 2))
            answer = "agreed"
        except Refused:
            answer = "refused"
    dist.barrier()
    try:  # whoever came in vain the first time meets the others the next time
        agree(_halved(), timedelta(seconds=20), meeting="later")
        again = "agreed"
    except Refused:
        again = "refused"
    results.put((rank, answer, again))
    dist.barrier()


@pytest.mark.parametrize(
    ("asks", "expected"),
    [
        ((0.5, 0.5), {0: "agreed", 1: "agreed"}),
        ((0.5, 0.25), {0: "refused", 1: "refused"}),
        ((0.5, None), {0: "refused", 1: "did not ask"}),
    ],
)
def test_ranks_do_the_same_or_nothing(
    tmp_path: Path, asks: tuple[float | None, float | None], expected: dict[int, str]
) -> None:
    context = mp.get_context("spawn")
    results = context.SimpleQueue()
    workers = [
        context.Process(target=_rank, args=(r, str(tmp_path / "store"), asks, results)) for r in range(2)
    ]
    for worker in workers:
        worker.start()
    answers = [results.get() for _ in workers]
    for worker in workers:
        worker.join(60)
    assert {rank: first for rank, first, _ in answers} == expected
    assert [again for _, _, again in answers] == ["agreed", "agreed"]
