"""One of two processes that train tensors sharded over both; rank 0 saves what came out. Arguments: rank, folder."""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.optim import Optimizer

from optim import COCOB, LAMB, SAM

SHAPES = [(5, 3), (4,), (1, 2), (300, 3)]  # of which (5, 3) is split unevenly and (1, 2) is nowhere on rank 1


def make(name: str, params: list[nn.Parameter]) -> Optimizer:
    if name == "SAM":
        return SAM(params, torch.optim.Adam, rho=0.5)
    if name == "ASAM":
        return SAM(params, LAMB, rho=0.5, adaptive=True)
    return {"LAMB": LAMB, "LAMB-fused": LAMB, "COCOB": COCOB}[name](
        params, **{"fused": True} if "fused" in name else {}
    )


def train(name: str, mesh: DeviceMesh | None) -> list[Tensor]:
    """Five steps on (w - 1)^4, whole or sharded."""
    torch.manual_seed(0)
    whole = [torch.randn(shape, dtype=torch.float64) for shape in SHAPES]
    params = [nn.Parameter(w if mesh is None else distribute_tensor(w, mesh, [Shard(0)])) for w in whole]
    optimizer = make(name, params)

    def closure() -> float:
        for p in params:
            p.grad = 4 * (p.detach() - 1) ** 3
        return 0.0

    for _ in range(5):
        optimizer.step(closure)
    return [p.full_tensor().detach() if isinstance(p, DTensor) else p.detach() for p in params]


def fsdp1(name: str, use_orig_params: bool) -> list[Tensor] | str:
    """Five steps of a layer under FSDP1; returns its weights, or what the refusal says."""
    torch.manual_seed(0)
    layer = nn.Linear(3, 5, dtype=torch.float64)
    before = [p.detach().clone() for p in layer.parameters()]
    net = FSDP(layer, use_orig_params=use_orig_params, device_id=torch.device("cpu"))
    try:
        optimizer = make(name, list(net.parameters()))
    except ValueError as error:
        return str(error)
    for _ in range(5):
        optimizer.zero_grad()
        net(torch.eye(3, dtype=torch.float64)).square().sum().backward()
        optimizer.step()
    with FSDP.summon_full_params(net):
        return before + [p.detach().clone() for p in net.parameters()]


def main() -> None:
    rank, folder = int(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    results = {name: train(name, mesh) for name in ("LAMB", "LAMB-fused", "COCOB", "SAM", "ASAM")}
    flat = {f"{name} {kept}": fsdp1(name, kept) for name in ("LAMB", "COCOB", "SAM") for kept in (False, True)}
    if rank == 0:
        torch.save(results, folder / "results.pt")
        torch.save(flat, folder / "fsdp1.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
