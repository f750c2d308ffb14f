"""torch.distributed with backend hccl when a rank is missing: the others get an error in time, and the next run is not disturbed.

Started without a rank it runs each scenario with `RANKS` (4) ranks. A rank that behaves as the scenario wants ends with 7."""

import os
import pathlib
import signal
import sys
import tempfile
import time

import ranks

GOOD = 7
COUNT = int(os.environ.get("RANKS", "4"))
# Seconds that the emulator lets ranks wait; CANN's own variables do not go below two minutes.
PATIENCE = {"ASCEND_EMULATOR_HCCL_CONNECT_TIMEOUT": "6", "ASCEND_EMULATOR_HCCL_EXEC_TIMEOUT": "4"}


def start_all():
    failed = []
    for name, wanted in SCENARIOS.items():
        with tempfile.TemporaryDirectory() as notes:
            started = time.monotonic()
            codes = ranks.run(__file__, [name], COUNT, NOTES=notes, HCCL_ASYNC_ERROR_HANDLING="0", **PATIENCE)
            texts = {path.name: path.read_text() for path in sorted(pathlib.Path(notes).iterdir())}
        problem = judge(name, wanted, codes, texts)
        if problem:
            failed.append(name)
        print(f"{'FAILED ' if problem else 'ok     '} {name} in {time.monotonic() - started:.0f} s {problem}", flush=True)
        if problem:
            print("\n".join(f"rank {rank}: {text}" for rank, text in texts.items()), flush=True)
    print(f"{len(SCENARIOS) - len(failed)} of {len(SCENARIOS)} checks of distributed_faults.py passed", flush=True)
    sys.exit(1 if failed else 0)


def judge(name, wanted, codes, texts):
    """What is wrong with the outcome, or nothing."""
    if codes != wanted:
        return f"exit codes are {codes}, wanted {wanted}"
    silent = [rank for rank, code in enumerate(codes) if code == GOOD and name != "after_the_faults" and "1" not in texts.get(str(rank), "")]
    return f"ranks {silent} do not name rank 1" if silent else ""


def outcome(wanted_of_rank_1):
    return [wanted_of_rank_1 if rank == 1 else GOOD for rank in range(COUNT)]


SCENARIOS = {
    "killed_before_a_collective": outcome(-signal.SIGKILL),
    "late_for_a_collective": outcome(GOOD),
    "never_comes": outcome(0),
    "after_the_faults": [GOOD] * COUNT,
}


def fails(action):
    """Notes the error of an action, and ends well if there was one."""
    try:
        action()
    except RuntimeError as error:
        pathlib.Path(os.environ["NOTES"], os.environ["RANK"]).write_text(str(error))
        os._exit(GOOD)
    print(f"rank {os.environ['RANK']}: no error", flush=True)
    os._exit(1)


def run_rank(name):
    import torch
    import torch.distributed as dist
    import torch_npu  # noqa: F401

    rank = int(os.environ["RANK"])
    torch.npu.set_device(rank)
    dist.init_process_group("hccl", rank=rank, world_size=COUNT)
    x = torch.full((1000,), float(rank), device=f"npu:{rank}")

    def collective():
        dist.all_reduce(x)
        torch.npu.synchronize()

    if name == "never_comes":
        if rank == 1:
            os._exit(0)
        fails(collective)
    collective()
    assert x[0].item() == sum(range(COUNT)), x[0].item()
    if name == "after_the_faults":
        dist.destroy_process_group()
        os._exit(GOOD)
    if rank == 1 and name == "killed_before_a_collective":
        os.kill(os.getpid(), signal.SIGKILL)
    if rank == 1:
        time.sleep(8)
    fails(collective)


if "RANK" in os.environ:
    run_rank(sys.argv[1])
else:
    start_all()
