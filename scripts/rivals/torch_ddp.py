#!/usr/bin/env python3
"""Training speed of the 3D-CVAE under PyTorch's DistributedDataParallel: beside `coreloss bench train`.

    torch_ddp.py --spec spec_compact.json [--ranks 2] [--threads 1] [--batch 8] [--device cpu|cuda] ...

Steps on random spectra, with loss, clipping and Adam. One line of JSON, with medians over the steps of the first rank.
"""

import argparse
import json
import resource
import socket
import statistics
import time

import torch
from network import Cvae
from torch import distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def train(rank: int, given: argparse.Namespace) -> None:
    torch.set_num_threads(given.threads)
    torch.manual_seed(rank)
    torch.backends.cudnn.benchmark = True
    on_gpu = given.device == "cuda"
    own_gpu = on_gpu and given.ranks <= torch.cuda.device_count()
    device = torch.device("cuda", rank % torch.cuda.device_count()) if on_gpu else torch.device("cpu")
    address = f"tcp://127.0.0.1:{given.port}"
    # NCCL wants a GPU for each rank.
    distributed.init_process_group("nccl" if own_gpu else "gloo", address, rank=rank, world_size=given.ranks)

    with open(given.spec, encoding="utf-8") as file:
        spec = json.load(file)
    layout = torch.channels_last_3d if given.channels_last else torch.contiguous_format
    network = Cvae(spec).to(device, memory_format=layout)
    model = DistributedDataParallel(network, device_ids=[device] if on_gpu else None)
    forward = torch.compile(model) if given.compile else model
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    spectra = torch.rand(given.batch, 1, *spec["patch"], spec["energy"], device=device)
    spectra = (spectra / spectra.sum(-1, keepdim=True)).contiguous(memory_format=layout)

    def step() -> torch.Tensor:
        optimiser.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=given.bf16):
            loss = forward(spectra)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 3.5)
        optimiser.step()
        if on_gpu:
            torch.cuda.synchronize()
        return loss

    seconds = []
    for i in range(given.warmup + given.steps):
        distributed.barrier()
        begun = time.perf_counter()
        loss = step()
        if i >= given.warmup:
            seconds.append(time.perf_counter() - begun)
    if rank == 0:
        median = statistics.median(seconds)
        found = {
            "what": "torch_ddp",
            "torch": torch.__version__,
            "device": str(device),
            "ranks": given.ranks,
            "threads": given.threads,
            "batch_per_rank": given.batch,
            "bf16": given.bf16,
            "compile": given.compile,
            "channels_last": given.channels_last,
            "params": sum(parameter.numel() for parameter in network.parameters()),
            "step_ms": 1e3 * median,
            "samples_per_s": given.ranks * given.batch / median,
            "loss": loss.item(),
            "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            "peak_cuda_mib": torch.cuda.max_memory_allocated() // 2**20 if on_gpu else None,
        }
        print(json.dumps(found), flush=True)
    distributed.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spec", required=True, help="JSON with the layers")
    parser.add_argument("--ranks", type=int, default=2, help="processes")
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--batch", type=int, default=8, help="patches of each process and step")
    parser.add_argument("--steps", type=int, default=10, help="to measure")
    parser.add_argument("--warmup", type=int, default=3, help="steps before them")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--port", type=int, help="where the processes meet; a free one by default")
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    parser.add_argument("--compile", action="store_true", help="torch.compile in place of eager mode")
    parser.add_argument("--channels-last", action="store_true", help="torch.channels_last_3d")
    given = parser.parse_args()
    given.port = given.port or free_port()
    multiprocessing.spawn(train, (given,), nprocs=given.ranks)


if __name__ == "__main__":
    main()
