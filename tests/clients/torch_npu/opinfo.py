"""PyTorch's own table of operators (`op_db`) with its sample inputs, each called on the NPU and on the CPU.

    opinfo.py [--dtype float32,float16,...] [--samples 8] [--gradients] [--update] [operator ...]

Operators run in a worker process, which is replaced when it dies or hangs. `opinfo.tsv` lists those that are known to differ,
with the reason; the sweep fails where an operator differs that the list does not name, and says which lines are not needed
any more. Random operators are compared by shape and dtype only."""

import argparse
import collections
import os
import pathlib
import select
import subprocess
import sys

LIST = pathlib.Path(__file__).with_name("opinfo.tsv")
DTYPES = ["float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "float64", "complex64"]
SECONDS = 300
# A new worker loads PyTorch first.
LOADING = 600


class Worker:
    """A process that runs operators named on its standard input."""

    def __init__(self, options):
        self.command = [sys.executable, __file__, "--worker", *options]
        self.process = None
        self.patience = SECONDS

    def ask(self, line):
        """The answers to one line: `(verdict, text)`."""
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            self.patience = SECONDS + LOADING
        self.process.stdin.write((line + "\n").encode())
        self.process.stdin.flush()
        ready, _, _ = select.select([self.process.stdout], [], [], self.patience)
        self.patience, waited = SECONDS, self.patience
        answer = self.process.stdout.readline().decode().rstrip("\n") if ready else ""
        if answer:
            verdict, _, text = answer.partition("\t")
            if "inner error" in text.lower() or "aclnn" not in text and verdict == "refused":
                self.close()  # the client's queue is dead after a failure there, and answers nonsense
            return verdict, text
        code = self.close()
        return ("died", f"process ended with {code}") if ready else ("hangs", f"no answer in {waited} s")

    def close(self):
        self.process.kill()
        return self.process.wait()


def known():
    """Lines of the list: operator, dtypes separated by commas (or `*`), reason."""
    table = {}
    for line in LIST.read_text().splitlines() if LIST.exists() else []:
        if line and not line.startswith("#"):
            name, dtypes, reason = line.split("\t")
            for dtype in dtypes.split(","):
                table[name, dtype] = reason
    return table


def sweep(arguments):
    table, needed, counts, unexpected = known(), set(), collections.Counter(), []
    options = ["--samples", str(arguments.samples)] + (["--gradients"] if arguments.gradients else [])
    worker = Worker(options)
    names = arguments.operators or worker.ask("names")[1].split(" ")
    for dtype in arguments.dtype.split(","):
        for name in names:
            verdict, text = worker.ask(f"{name} {dtype}")
            key = next((key for key in [(name, dtype), (name, "*")] if key in table), None)
            if verdict in ("ok", "host", "none"):
                counts[dtype, verdict] += 1
                if verdict == "host" and arguments.verbose:
                    print(f"host    {dtype} {name}: {text}", flush=True)
                continue
            needed.add(key)
            counts[dtype, "known" if key else "differs"] += 1
            if not key:
                unexpected.append((name, dtype, verdict, text))
            if not key or arguments.verbose:
                print(f"{verdict:7} {dtype} {name}: {text}", flush=True)
        part = {what: count for (of, what), count in sorted(counts.items()) if of == dtype}
        print(f"{dtype}: {part}", flush=True)
    if not arguments.operators:
        for name, dtype in table:
            if (name, dtype) not in needed and dtype in arguments.dtype.split(","):
                print(f"not needed: {name} {dtype}")
    print(f"{len(unexpected)} operators differ that the list does not name")
    sys.exit(1 if unexpected else 0)


# What follows runs in the worker.

RANDOM = set(
    "bernoulli cauchy dropout exponential geometric log_normal multinomial normal rand rand_like randint randint_like randn "
    "randn_like uniform empty empty_like empty_permuted empty_strided new_empty new_empty_strided resize_ resize_as_ "
    "nn.functional.alpha_dropout nn.functional.dropout nn.functional.dropout2d nn.functional.dropout3d "
    "nn.functional.feature_alpha_dropout nn.functional.fractional_max_pool2d nn.functional.fractional_max_pool3d nn.functional.rrelu "
    "nn.functional.multi_head_attention_forward svd_lowrank pca_lowrank".split()
)
# The client takes no other memory format, whatever CANN can do.
CLIENT_REFUSES = "Only contiguous_format or preserve_format is supported"
HOST_REASON = "on the CPU, by the client's own choice"


def run_worker(arguments):
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    import torch
    import torch_npu  # noqa: F401
    from torch.testing._internal.common_methods_invocations import op_db

    torch.npu.conv.allow_hf32 = False
    torch.npu.matmul.allow_hf32 = False
    by_name = collections.defaultdict(list)
    for operator in op_db:
        by_name[operator.full_name if hasattr(operator, "full_name") else operator.name].append(operator)
    for line in sys.stdin:
        words = line.split()
        if words == ["names"]:
            answers.write("names\t" + " ".join(sorted(by_name)) + "\n")
            continue
        name, dtype = words
        results = [examine(operator, getattr(torch, dtype), arguments) for operator in by_name[name]]
        results = results or [("none", "no such operator")]
        verdict, text = next((one for one in results if one[0] not in ("ok", "none", "host")), results[0])
        answers.write(f"{verdict}\t{' '.join(text.split())[:400]}\n")


def examine(operator, dtype, arguments):
    """The verdict over an operator's samples."""
    import warnings

    import torch

    if dtype not in operator.dtypes:
        return "none", "not for this dtype"
    gradients = arguments.gradients and operator.supports_autograd and (dtype.is_floating_point or dtype.is_complex)
    count, verdict = 0, ("ok", "")
    torch.manual_seed(0)
    try:
        samples = list(operator.sample_inputs("cpu", dtype, requires_grad=gradients))
    except Exception as error:
        return "none", f"no samples: {error}"
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        for index, sample in enumerate(pick(samples, arguments.samples)):
            for variant in ["plain", "spread", "in place"]:
                if variant == "spread" and operator.name.startswith("as_strided"):
                    continue  # reads between the elements
                try:
                    done = call_both(operator, sample, variant, gradients)
                    count += done
                    torch.npu.synchronize()
                except Differs as difference:
                    return "differs", f"{variant}, sample {index}: {difference}"
                except Exception as error:
                    if CLIENT_REFUSES in str(error):
                        continue
                    return "refused", f"{variant}, sample {index}: {describe(error)}"
    if any("fall back to run on the CPU" in str(note.message) for note in notes):
        verdict = ("host", HOST_REASON)
    return verdict if count else ("none", "no sample runs on the CPU")


def pick(samples, limit):
    """Some of the samples, spread over all."""
    if len(samples) <= limit:
        return samples
    return [samples[index * len(samples) // limit] for index in range(limit)]


def describe(error):
    text = str(error)
    mark = text.find("EZ")
    return f"{type(error).__name__}: {text[mark:] if mark >= 0 else text}"


class Differs(Exception):
    pass


def call_both(operator, sample, variant, gradients):
    """One call on both devices; 0 where the CPU does not take it."""
    import copy

    import torch

    function = operator.op
    if variant == "spread":
        sample = sample.noncontiguous()
    if variant == "in place":
        function = operator.inplace_variant
        if function is None or sample.broadcasts_input or gradients:
            return 0

    def moved(value, device):
        if isinstance(value, torch.Tensor):
            copied = value.detach().clone(memory_format=torch.preserve_format)
            if variant == "spread" and not value.is_contiguous():
                copied = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype)
                copied.copy_(value.detach()) if all(value.stride()) or not value.numel() else None
                if value.numel() and not all(value.stride()):
                    copied = value.detach().clone()
                copied = spread_on(copied, device)
            else:
                copied = copied.to(device)
            return copied.requires_grad_(value.requires_grad)
        if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
            return type(value)(moved(one, device) for one in value)
        if isinstance(value, dict):
            return {key: moved(one, device) for key, one in value.items()}
        if isinstance(value, torch.device) or (isinstance(value, str) and value == "cpu"):
            return torch.device(device)
        return copy.copy(value) if isinstance(value, slice) else value

    def call(device, change=lambda value: value):
        parts = change(moved([sample.input, list(sample.args), sample.kwargs], device))
        torch.manual_seed(1)
        result = function(parts[0], *parts[1], **parts[2])
        leaves = [one for one in flatten(parts) if isinstance(one, torch.Tensor)]
        return sample.output_process_fn_grad(result) if not gradients else result, leaves

    try:
        wanted, host = call("cpu")
    except Exception:
        return 0
    got, device = call("npu")
    values = operator.name not in RANDOM and not sample.kwargs.get("dropout_p")
    try:
        compare(got, wanted, "result", values)
    except Differs:
        # The CPU rounds halves at each step: what is right is near to the result in f32.
        if not any(isinstance(one, torch.Tensor) and str(one.dtype).split(".")[1] in HALVES for one in host):
            raise
        exact, _ = call("cpu", widened)
        compare(got, like(exact, wanted), "result", values)
        if variant == "in place":
            return 1
    if variant == "in place" and values:
        compare(device, host, "arguments", True)
    if gradients and values:
        compare(derivatives(got, device), derivatives(wanted, host), "gradient", True, 10)
    return 1


HALVES = ("float16", "bfloat16")


def widened(value):
    """Halves as f32, everything else as it is."""
    import torch

    if isinstance(value, torch.Tensor):
        return value.float() if str(value.dtype).split(".")[1] in HALVES else value
    if isinstance(value, torch.dtype):
        return torch.float32 if str(value).split(".")[1] in HALVES else value
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)(widened(one) for one in value)
    if isinstance(value, dict):
        return {key: widened(one) for key, one in value.items()}
    return value


def like(value, model):
    """Results in the dtypes of others."""
    import torch

    if isinstance(model, torch.Tensor) and isinstance(value, torch.Tensor):
        return value.to(model.dtype)
    if isinstance(model, (list, tuple)) and isinstance(value, (list, tuple)):
        return [like(one, other) for one, other in zip(value, model)]
    return value


def spread_on(value, device):
    import torch

    target = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=device)
    target.copy_(value)
    return target


def flatten(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [leaf for one in value for leaf in flatten(one)]
    return [value]


def derivatives(result, leaves):
    import torch

    outputs = [one for one in flatten(result) if isinstance(one, torch.Tensor) and one.requires_grad]
    inputs = [one for one in leaves if one.requires_grad]
    if not outputs or not inputs:
        return []
    weights = []
    for index, one in enumerate(outputs):
        generator = torch.Generator().manual_seed(index)
        real = torch.rand(one.shape, generator=generator) + 0.5
        weights.append(real.to(one.dtype).to(one.device))
    return list(torch.autograd.grad(outputs, inputs, weights, allow_unused=True))


def compare(got, wanted, what, values, scale=1):
    import torch

    from client import TOLERANCE

    if isinstance(wanted, torch.Tensor):
        if not isinstance(got, torch.Tensor):
            raise Differs(f"{what}: {type(got)}")
        if wanted.is_sparse or wanted.layout != torch.strided:
            return
        if got.shape != wanted.shape or got.dtype != wanted.dtype:
            raise Differs(f"{what}: {got.dtype} {tuple(got.shape)}, wanted {wanted.dtype} {tuple(wanted.shape)}")
        if not values:
            return
        relative, absolute = TOLERANCE.get(wanted.dtype.to_real(), (0, 0)) if wanted.dtype.is_complex else TOLERANCE.get(wanted.dtype, (0, 0))
        host = got.detach().cpu()
        if not torch.allclose(host, wanted.detach(), rtol=relative * scale, atol=absolute * scale, equal_nan=True):
            place = (~torch.isclose(host, wanted.detach(), rtol=relative * scale, atol=absolute * scale, equal_nan=True)).nonzero()[0].tolist()
            at = tuple(place)
            raise Differs(f"{what} {tuple(wanted.shape)} {wanted.dtype}: {host[at].item()} at {place}, wanted {wanted.detach()[at].item()}")
    elif isinstance(wanted, (list, tuple)):
        if len(got) != len(wanted):
            raise Differs(f"{what}: {len(got)} values, wanted {len(wanted)}")
        for index, (one, other) in enumerate(zip(got, wanted)):
            compare(one, other, f"{what}[{index}]", values, scale)
    elif isinstance(wanted, (bool, int, float)) and values and got != wanted and wanted == wanted:
        raise Differs(f"{what}: {got}, wanted {wanted}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--dtype", default=",".join(DTYPES[:3] + ["int64", "int32", "uint8", "bool"]))
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--gradients", action="store_true")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--worker", action="store_true")
    parser.add_argument("operators", nargs="*")
    arguments = parser.parse_args()
    if arguments.worker:
        run_worker(arguments)
    else:
        sweep(arguments)


main()
