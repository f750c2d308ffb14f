"""torch.distributed with backend hccl: collectives between processes, and an MLP trained by data parallelism.

Started without a rank it starts `RANKS` (2) ranks of itself. Ranks with a part of the batch each must give the losses of one
rank with the whole batch, which each rank computes on the CPU."""

import os
import sys

import ranks

if "RANK" not in os.environ:
    sys.exit(max(abs(code) for code in ranks.run(__file__, sys.argv[1:], int(os.environ.get("RANKS", "2")))))

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
import torch.nn as nn  # noqa: E402
import torch_npu  # noqa: E402

from client import assert_close, check, main  # noqa: E402

RANK, RANKS = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
DEVICE = f"npu:{RANK}"


def numbers(rank, count=6, dtype=torch.float32):
    """Another sequence for each rank, whose sum over eight ranks fits into eight bits."""
    values = torch.arange(count) + 10 * rank
    return (values % 13 if dtype == torch.int8 else values).to(dtype)


def total(count=6):
    return sum(numbers(rank, count) for rank in range(RANKS))


@check
def reductions():
    for dtype in [torch.float32, torch.float16, torch.bfloat16, torch.int32, torch.int64, torch.int8]:
        for operation, reduce in [(dist.ReduceOp.SUM, torch.sum), (dist.ReduceOp.MAX, torch.amax), (dist.ReduceOp.MIN, torch.amin)]:
            x = numbers(RANK, dtype=dtype).to(DEVICE)
            dist.all_reduce(x, op=operation)
            all_numbers = torch.stack([numbers(rank, dtype=dtype) for rank in range(RANKS)])
            wanted = reduce(all_numbers.double() if dtype.is_floating_point else all_numbers, 0).to(dtype)
            assert_close(x, wanted, f"{operation} of {dtype}")
    x = (numbers(RANK) / 16 + 1).to(DEVICE)
    dist.all_reduce(x, op=dist.ReduceOp.PRODUCT)
    assert_close(x, torch.stack([numbers(rank) / 16 + 1 for rank in range(RANKS)]).prod(0), "product")
    x = numbers(RANK).to(DEVICE)
    dist.all_reduce(x, op=dist.ReduceOp.AVG)
    assert_close(x, total() / RANKS, "average")
    for target in range(RANKS):
        x = numbers(RANK).to(DEVICE)
        dist.reduce(x, dst=target)
        if RANK == target:
            assert_close(x, total(), f"reduce to {target}")


@check
def scattered_sums():
    part = slice(3 * RANK, 3 * RANK + 3)
    x, y = numbers(RANK, 3 * RANKS).to(DEVICE), torch.empty(3, device=DEVICE)
    dist.reduce_scatter_tensor(y, x)
    assert_close(y, total(3 * RANKS)[part], "reduce_scatter_tensor")
    y.zero_()
    dist.reduce_scatter(y, list(x.chunk(RANKS)), op=dist.ReduceOp.MAX)
    assert_close(y, numbers(RANKS - 1, 3 * RANKS)[part], "reduce_scatter")
    # Rank r has r + 1 of the elements.
    sizes = [rank + 1 for rank in range(RANKS)]
    parts = numbers(RANK, sum(sizes)).split(sizes)
    y = torch.empty(RANK + 1, device=DEVICE)
    dist.reduce_scatter(y, [one.to(DEVICE) for one in parts])
    assert_close(y, total(sum(sizes)).split(sizes)[RANK], "reduce_scatter of unequal parts")
    y.zero_()
    torch_npu.distributed.reduce_scatter_tensor_uneven(y, torch.cat(parts).to(DEVICE), input_split_sizes=sizes)
    assert_close(y, total(sum(sizes)).split(sizes)[RANK], "reduce_scatter_tensor_uneven")


@check
def movements():
    for source in range(RANKS):
        x = numbers(RANK).to(DEVICE)
        dist.broadcast(x, src=source)
        assert_close(x, numbers(source), f"broadcast from {source}")
    everyone = [numbers(rank) for rank in range(RANKS)]
    gathered = [torch.empty(6, device=DEVICE) for _ in range(RANKS)]
    dist.all_gather(gathered, numbers(RANK).to(DEVICE))
    assert_close(gathered, everyone, "all_gather")
    whole = torch.empty(6 * RANKS, device=DEVICE)
    dist.all_gather_into_tensor(whole, numbers(RANK).to(DEVICE))
    assert_close(whole, torch.cat(everyone), "all_gather_into_tensor")
    unequal = [numbers(rank, rank + 1) for rank in range(RANKS)]
    gathered = [torch.empty(rank + 1, device=DEVICE) for rank in range(RANKS)]
    dist.all_gather(gathered, unequal[RANK].to(DEVICE))
    assert_close(gathered, unequal, "all_gather of unequal parts")
    whole = torch.empty(sum(len(one) for one in unequal), device=DEVICE)
    sizes = [len(one) for one in unequal]
    torch_npu.distributed.all_gather_into_tensor_uneven(whole, unequal[RANK].to(DEVICE), output_split_sizes=sizes)
    assert_close(whole, torch.cat(unequal), "all_gather_into_tensor_uneven")
    last = RANKS - 1
    gathered = [torch.empty(6, device=DEVICE) for _ in range(RANKS)] if RANK == last else None
    dist.gather(numbers(RANK).to(DEVICE), gathered, dst=last)
    if RANK == last:
        assert_close(gathered, everyone, "gather")
    y = torch.empty(6, device=DEVICE)
    dist.scatter(y, [numbers(rank).to(DEVICE) for rank in range(RANKS)] if RANK == 0 else None, src=0)
    assert_close(y, numbers(RANK), "scatter")
    flags = torch.tensor([RANK == 0, RANK == 1, True], device=DEVICE)
    dist.broadcast(flags, src=0)
    assert flags.tolist() == [True, False, True]
    objects = [{"rank": RANK, "text": "a" * RANK}]
    dist.broadcast_object_list(objects, src=1)
    assert objects == [{"rank": 1, "text": "a"}], objects
    gathered = [None] * RANKS
    dist.all_gather_object(gathered, RANK * RANK)
    assert gathered == [rank * rank for rank in range(RANKS)], gathered


@check
def exchanges():
    x, y = numbers(RANK, 2 * RANKS).to(DEVICE), torch.empty(2 * RANKS, device=DEVICE)
    dist.all_to_all_single(y, x)
    assert_close(y, torch.cat([numbers(rank, 2 * RANKS)[2 * RANK :][:2] for rank in range(RANKS)]), "all_to_all_single")
    # Rank a sends a + 2 b elements to rank b, none where both are 0.
    sizes = [RANK + 2 * other for other in range(RANKS)]
    taken = [other + 2 * RANK for other in range(RANKS)]
    parts = lambda rank: numbers(rank, sum(rank + 2 * other for other in range(RANKS))).split([rank + 2 * other for other in range(RANKS)])
    y = torch.empty(sum(taken), device=DEVICE)
    dist.all_to_all_single(y, torch.cat(parts(RANK)).to(DEVICE), taken, sizes)
    wanted = [parts(other)[RANK] for other in range(RANKS)]
    assert_close(y, torch.cat(wanted), "all_to_all_single by sizes")
    y = [torch.empty(size, device=DEVICE) for size in taken]
    dist.all_to_all(y, [one.to(DEVICE) for one in parts(RANK)])
    assert_close(y, wanted, "all_to_all")


@check
def messages():
    following, previous = (RANK + 1) % RANKS, (RANK - 1) % RANKS
    y = torch.empty(6, device=DEVICE)
    if RANK == 0:
        dist.send(numbers(0).to(DEVICE), dst=following)
        dist.recv(y, src=previous)
    else:
        dist.recv(y, src=previous)
        dist.send(numbers(RANK).to(DEVICE), dst=following)
    assert_close(y, numbers(previous), "send and recv")
    y = torch.empty(6, device=DEVICE)
    batch = [dist.P2POp(dist.isend, numbers(RANK).to(DEVICE), following), dist.P2POp(dist.irecv, y, previous)]
    for work in dist.batch_isend_irecv(batch):
        work.wait()
    assert_close(y, numbers(previous), "batch_isend_irecv")
    dist.barrier()


@check
def groups_of_some_ranks():
    """Each pair of neighbours, and the odd and even ranks, have groups of their own."""
    pairs = [[rank, rank + 1] for rank in range(0, RANKS - 1, 2)]
    halves = [list(range(0, RANKS, 2)), list(range(1, RANKS, 2))]
    for members in pairs + halves:
        group = dist.new_group(members)
        if RANK in members:
            x = numbers(RANK).to(DEVICE)
            dist.all_reduce(x, group=group)
            assert_close(x, sum(numbers(rank) for rank in members), f"sum over {members}")
            x = numbers(RANK).to(DEVICE)
            dist.broadcast(x, src=members[-1], group=group)
            assert_close(x, numbers(members[-1]), f"broadcast within {members}")
            dist.destroy_process_group(group)
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


@check
def groups_are_made_again():
    """All groups are destroyed and made anew in the same processes, three times, each time at a place of their own."""
    for turn in range(3):
        place = [ranks.free_port()]
        dist.broadcast_object_list(place, src=0)
        dist.destroy_process_group()
        dist.init_process_group("hccl", init_method=f"tcp://127.0.0.1:{place[0]}", rank=RANK, world_size=RANKS)
        x = numbers(RANK).to(DEVICE)
        dist.all_reduce(x)
        assert_close(x, total(), f"sum in turn {turn}")


if __name__ == "__main__":
    torch.npu.set_device(RANK)
    dist.init_process_group("hccl", rank=RANK, world_size=RANKS)
    try:
        main()
    finally:
        dist.destroy_process_group()
