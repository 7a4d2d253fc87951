"""DistributedDataParallel: treated on both ranks the replicas stay equal; on one alone it is refused."""

import hashlib
import json
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import defib
from defib.core.errors import Refused
from defib.therapy import agreement


def bits(model: nn.Module) -> str:
    total = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        total.update(name.encode() + tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def work(rank: int, folder: str, treated: tuple[bool, bool], slug: str) -> None:
    torch.set_num_threads(1)
    agreement.PATIENCE = timedelta(seconds=60 if all(treated) else 3)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    with torch.no_grad():
        plain[0].bias[[1, 2]] = -50.0
    model = DistributedDataParallel(plain)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    data = torch.Generator().manual_seed(rank)  # each rank its own batches

    def step() -> None:
        optimizer.zero_grad()
        model(torch.randn(8, 4, generator=data)).square().sum().backward()
        optimizer.step()

    said = "not asked"
    with defib.watch(model, optimizer, output=f"{folder}/{rank}.rec", every=1) as run:
        for _ in range(3):
            step()
        before = bits(model)
        if treated[rank]:
            dose = {"layer": "0", "units": (1, 2)} if slug == "recycle-dead-units" else {}
            try:
                run.treat(slug, **dose)
                said = "treated"
            except Refused as refused:
                said = "refused: " + str(refused)
        after = bits(model)
        for _ in range(3):
            step()
        answer = [rank, said, before != after, bits(model), run.faults]
        Path(folder, f"{rank}.json").write_text(json.dumps(answer))
    dist.barrier()
    dist.destroy_process_group()


def ranks(folder: Path, treated: tuple[bool, bool], slug: str) -> list[tuple[int, str, bool, str, int]]:
    context = mp.get_context("spawn")
    workers = [context.Process(target=work, args=(r, str(folder), treated, slug)) for r in (0, 1)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        worker.kill()  # ranks that wait for each other in vain would wait for half an hour
    assert [w.exitcode for w in workers] == [0, 0]
    return [tuple(json.loads((folder / f"{rank}.json").read_text())) for rank in (0, 1)]


@pytest.mark.parametrize("slug", ["recycle-dead-units", "he-init"])
def test_ranks_that_are_treated_alike_end_with_equal_parameters(tmp_path: Path, slug: str) -> None:
    (_, a, changed, mine, faults), (_, b, _, other, _) = ranks(tmp_path, (True, True), slug)
    assert (a, b) == ("treated", "treated")
    assert changed
    assert mine == other
    assert faults == 0


def test_a_treatment_that_one_rank_alone_asks_for_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    (_, a, changed, mine, _), (_, b, _, other, _) = ranks(tmp_path, (True, False), "he-init")
    assert a.startswith("refused: he-init: not every rank asked for it")
    assert b == "not asked"
    assert not changed
    assert mine == other


def test_new_parameters_are_refused_in_a_job_of_several_ranks(tmp_path: Path) -> None:
    (_, a, changed, mine, _), (_, _, _, other, _) = ranks(tmp_path, (True, True), "batch-norm")
    assert a.startswith("refused: ")
    assert not changed
    assert mine == other
