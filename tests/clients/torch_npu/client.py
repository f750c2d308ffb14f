"""What the scripts share: a runner of checks, and the comparison of the NPU's results with the CPU's.

The tolerances are those of the conformance contract: relative and absolute by dtype, infinities and NaN exactly, integers and
bools equal."""

import sys
import traceback

import torch
import torch_npu  # noqa: F401  (registers the device)

TOLERANCE = {
    torch.float64: (1e-9, 1e-12),
    torch.float32: (1e-4, 1e-5),
    torch.float16: (4e-3, 4e-3),
    torch.bfloat16: (2e-2, 2e-2),
}

CHECKS = []


def check(function):
    """Registers a check; it fails by raising."""
    CHECKS.append(function)
    return function


def assert_close(got, wanted, what="", scale=1):
    """Compares a result, or a list of results, of the NPU with that of the CPU."""
    if isinstance(wanted, (list, tuple)):
        assert len(got) == len(wanted), f"{what}: {len(got)} results, wanted {len(wanted)}"
        for index, (one, other) in enumerate(zip(got, wanted)):
            assert_close(one, other, f"{what}[{index}]", scale)
        return
    if not isinstance(wanted, torch.Tensor):
        assert got == wanted, f"{what}: {got}, wanted {wanted}"
        return
    got = got.detach().cpu()
    assert got.dtype == wanted.dtype, f"{what}: {got.dtype}, wanted {wanted.dtype}"
    assert got.shape == wanted.shape, f"{what}: {tuple(got.shape)}, wanted {tuple(wanted.shape)}"
    relative, absolute = TOLERANCE.get(wanted.dtype, (0, 0))
    torch.testing.assert_close(
        got, wanted.detach(), rtol=relative * scale, atol=absolute * scale, equal_nan=True, msg=lambda text: f"{what}: {text}"
    )


def main():
    """Runs the checks that the arguments name, or all, and leaves with the number of those that failed."""
    named = sys.argv[1:]
    failed = []
    chosen = [function for function in CHECKS if not named or function.__name__ in named]
    for function in chosen:
        try:
            function()
            torch.npu.synchronize()
            print(f"ok      {function.__name__}", flush=True)
        except Exception:  # each kind of failure is reported, and the next check runs
            failed.append(function.__name__)
            print(f"FAILED  {function.__name__}\n{traceback.format_exc()}", flush=True)
    print(f"{len(chosen) - len(failed)} of {len(chosen)} checks of {sys.argv[0].rsplit('/', 1)[-1]} passed", flush=True)
    sys.exit(1 if failed or not chosen else 0)
