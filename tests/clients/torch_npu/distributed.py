"""torch.distributed with backend hccl: collectives between processes, and an MLP trained by data parallelism.

Started without a rank it starts two ranks of itself. Two ranks with half a batch each must give the losses of one rank with
the whole batch, which rank 0 computes on the CPU."""

import os
import socket
import subprocess
import sys

RANKS = 2


def start_ranks():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = dict(os.environ, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), WORLD_SIZE=str(RANKS))
    environment.setdefault("ASCEND_EMULATOR_DEVICES", str(RANKS))
    ranks = [
        subprocess.Popen([sys.executable, __file__, *sys.argv[1:]], env=dict(environment, RANK=str(rank)))
        for rank in range(RANKS)
    ]
    sys.exit(max(abs(rank.wait()) for rank in ranks))


if "RANK" not in os.environ:
    start_ranks()

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
import torch.nn as nn  # noqa: E402

from client import assert_close, check, main  # noqa: E402

RANK = int(os.environ["RANK"])
DEVICE = f"npu:{RANK}"


def numbers(rank, count=6, dtype=torch.float32):
    return (torch.arange(count) + 10 * rank).to(dtype)


@check
def reductions():
    for dtype in [torch.float32, torch.float16, torch.bfloat16, torch.int32, torch.int64, torch.int8]:
        for operation, reduce in [(dist.ReduceOp.SUM, torch.sum), (dist.ReduceOp.MAX, torch.amax), (dist.ReduceOp.MIN, torch.amin)]:
            x = numbers(RANK, dtype=dtype).to(DEVICE)
            dist.all_reduce(x, op=operation)
            all_numbers = torch.stack([numbers(rank, dtype=dtype) for rank in range(RANKS)])
            assert_close(x, reduce(all_numbers, 0).to(dtype), f"{operation} of {dtype}")
    x = numbers(RANK).to(DEVICE)
    dist.all_reduce(x, op=dist.ReduceOp.AVG)
    assert_close(x, sum(numbers(rank) for rank in range(RANKS)) / RANKS, "average")
    x, y = numbers(RANK).to(DEVICE), torch.empty(3, device=DEVICE)
    dist.reduce_scatter_tensor(y, x)
    assert_close(y, sum(numbers(rank) for rank in range(RANKS))[3 * RANK :][:3], "reduce_scatter")
    x = numbers(RANK).to(DEVICE)
    dist.reduce(x, dst=1)
    if RANK == 1:
        assert_close(x, sum(numbers(rank) for rank in range(RANKS)), "reduce")


@check
def movements():
    x = numbers(RANK).to(DEVICE)
    dist.broadcast(x, src=1)
    assert_close(x, numbers(1), "broadcast")
    gathered = [torch.empty(6, device=DEVICE) for _ in range(RANKS)]
    dist.all_gather(gathered, numbers(RANK).to(DEVICE))
    assert_close(gathered, [numbers(rank) for rank in range(RANKS)], "all_gather")
    whole = torch.empty(6 * RANKS, device=DEVICE)
    dist.all_gather_into_tensor(whole, numbers(RANK).to(DEVICE))
    assert_close(whole, torch.cat([numbers(rank) for rank in range(RANKS)]), "all_gather_into_tensor")
    x, y = numbers(RANK, 4).to(DEVICE), torch.empty(4, device=DEVICE)
    dist.all_to_all_single(y, x)
    assert_close(y, torch.cat([numbers(rank, 4)[2 * RANK :][:2] for rank in range(RANKS)]), "all_to_all_single")
    sizes = [1, 3] if RANK == 0 else [2, 2]
    taken = [1, 2] if RANK == 0 else [3, 2]
    y = torch.empty(sum(taken), device=DEVICE)
    dist.all_to_all_single(y, numbers(RANK, 4).to(DEVICE), taken, sizes)
    wanted = [torch.cat([numbers(0, 4)[:1], numbers(1, 4)[:2]]), torch.cat([numbers(0, 4)[1:], numbers(1, 4)[2:]])]
    assert_close(y, wanted[RANK], "all_to_all_single by sizes")
    flags = torch.tensor([RANK == 0, RANK == 1, True], device=DEVICE)
    dist.broadcast(flags, src=0)
    assert flags.tolist() == [True, False, True]


@check
def messages():
    peer = 1 - RANK
    y = torch.empty(6, device=DEVICE)
    if RANK == 0:
        dist.send(numbers(0).to(DEVICE), dst=peer)
        dist.recv(y, src=peer)
    else:
        dist.recv(y, src=peer)
        dist.send(numbers(1).to(DEVICE), dst=peer)
    assert_close(y, numbers(peer), "send and recv")
    y = torch.empty(6, device=DEVICE)
    batch = [dist.P2POp(dist.isend, numbers(RANK).to(DEVICE), peer), dist.P2POp(dist.irecv, y, peer)]
    for work in dist.batch_isend_irecv(batch):
        work.wait()
    assert_close(y, numbers(peer), "batch_isend_irecv")
    dist.barrier()


@check
def collectives_wait_for_their_input():
    x = torch.ones(256, 256, device=DEVICE)
    for _ in range(10):
        x = x @ x / 256
    work = dist.all_reduce(x, async_op=True)
    work.wait()
    assert_close(x + 1, torch.full((256, 256), float(RANKS + 1)), "sum of products")


@check
def batch_norm_over_all_ranks():
    torch.manual_seed(8)
    x, weight = torch.randn(4 * RANKS, 3, 5), torch.randn(4 * RANKS, 3, 5)
    host = nn.BatchNorm1d(3)
    device = nn.SyncBatchNorm.convert_sync_batchnorm(nn.BatchNorm1d(3)).to(DEVICE)
    part = slice(4 * RANK, 4 * RANK + 4)
    whole, own = x.clone().requires_grad_(), x[part].to(DEVICE).requires_grad_()
    wanted, got = host(whole), device(own)
    (wanted * weight).sum().backward()
    (got * weight[part].to(DEVICE)).sum().backward()
    assert_close(got, wanted[part], "output")
    assert_close(own.grad, whole.grad[part], "gradient", 4)
    assert_close(device.running_mean, host.running_mean, "running mean")
    assert_close(device.running_var, host.running_var, "running variance")


def network():
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 1))


def data():
    torch.manual_seed(6)
    x = torch.randn(64, 8)
    return x, torch.sin(x.sum(1, keepdim=True))


def losses_of_one(steps):
    """One rank with the whole batch, on the CPU."""
    model, (x, y) = network(), data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def losses_of_all(steps, wrap):
    """Each rank with its part of the batch, on its device; the loss is averaged for the record."""
    model, (x, y) = network().to(DEVICE), data()
    model, average = wrap(model)
    part = slice(RANK * 64 // RANKS, (RANK + 1) * 64 // RANKS)
    x, y = x[part].to(DEVICE), y[part].to(DEVICE)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        average(model)
        optimizer.step()
        record = loss.detach().clone()
        dist.all_reduce(record)
        losses.append(record.item() / RANKS)
    return losses


def compare(losses):
    wanted = losses_of_one(len(losses))
    for step, (got, want) in enumerate(zip(losses, wanted)):
        assert abs(got - want) <= 1e-4 * abs(want) + 1e-6, f"step {step}: {got}, wanted {want}"
    assert losses[-1] < 0.9 * losses[0], f"the loss falls from {losses[0]} to {losses[-1]} only"


def by_hand(model):
    def average(model):
        for parameter in model.parameters():
            dist.all_reduce(parameter.grad)
            parameter.grad /= RANKS

    return model, average


def by_wrapper(model):
    wrapped = nn.parallel.DistributedDataParallel(model, device_ids=[RANK])
    return wrapped, lambda model: None


@check
def mlp_with_gradients_averaged_by_hand():
    compare(losses_of_all(40, by_hand))


@check
def mlp_in_distributed_data_parallel():
    compare(losses_of_all(40, by_wrapper))


if __name__ == "__main__":
    torch.npu.set_device(RANK)
    dist.init_process_group("hccl", rank=RANK, world_size=RANKS)
    try:
        main()
    finally:
        dist.destroy_process_group()
