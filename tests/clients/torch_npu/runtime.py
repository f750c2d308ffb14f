"""The device around the operators: tensors to and from it, streams, events, memory, files, printing, errors."""

import io
import os
import subprocess
import sys
import tempfile

import torch
import torch.nn as nn

from client import assert_close, check, main


@check
def tensors_travel():
    for dtype in [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int8, torch.uint8, torch.bool]:
        x = (torch.arange(12).reshape(3, 4) % 2 if dtype == torch.bool else torch.arange(12).reshape(3, 4)).to(dtype)
        assert torch.equal(x.npu().cpu(), x), dtype
        assert torch.equal(x.t().npu().cpu(), x.t()), dtype
        assert torch.equal(x.to("npu:0")[1:, ::2].cpu(), x[1:, ::2]), dtype
    pinned = torch.arange(1000.0).pin_memory()
    device = pinned.to("npu", non_blocking=True)
    back = torch.empty_like(pinned).pin_memory()
    back.copy_(device, non_blocking=True)
    torch.npu.synchronize()
    assert torch.equal(back, pinned)
    assert torch.zeros(0, 3, device="npu").cpu().shape == (0, 3)
    assert torch.tensor(2.5, device="npu").item() == 2.5
    assert torch.arange(4, device="npu").tolist() == [0, 1, 2, 3]
    assert torch.ones(3, device="npu").cpu().numpy().sum() == 3


@check
def devices():
    assert torch.npu.is_available() and torch.npu.device_count() >= 1 and torch.npu.current_device() == 0
    assert torch.npu.get_device_name(0).startswith("Ascend")
    assert torch.npu.get_device_properties(0).total_memory > 0
    with torch.npu.device(0):
        assert torch.empty(1, device="npu").device == torch.device("npu:0")


@check
def streams_and_events():
    x = torch.randn(256, 256, device="npu")
    torch.npu.synchronize()
    side = torch.npu.Stream()
    start, end = torch.npu.Event(enable_timing=True), torch.npu.Event(enable_timing=True)
    start.record()
    with torch.npu.stream(side):
        y = x @ x
        done = side.record_event()
    torch.npu.current_stream().wait_event(done)
    z = y + 1
    end.record()
    end.synchronize()
    assert start.elapsed_time(end) >= 0 and end.query() and done.query()
    assert_close(z, x.cpu() @ x.cpu() + 1, scale=10)
    side.synchronize()
    assert side.query() and side != torch.npu.default_stream()
    z.record_stream(side)
    side.wait_stream(torch.npu.current_stream())


@check
def memory_statistics():
    torch.npu.empty_cache()
    before = torch.npu.memory_allocated()
    x = torch.empty(1 << 20, device="npu")
    assert torch.npu.memory_allocated() - before >= 4 << 20
    assert torch.npu.memory_reserved() >= torch.npu.memory_allocated()
    assert torch.npu.max_memory_allocated() >= torch.npu.memory_allocated()
    del x
    assert torch.npu.memory_allocated() == before
    torch.npu.empty_cache()
    free, total = torch.npu.mem_get_info()
    assert 0 < free <= total
    torch.npu.reset_peak_memory_stats()
    assert "allocated_bytes.all.current" in torch.npu.memory_stats()
    try:
        torch.empty(1 << 40, device="npu")
        raise AssertionError("four terabytes were given")
    except RuntimeError as error:
        assert "out of memory" in str(error), error
    assert torch.ones(2, device="npu").sum().item() == 2


@check
def files():
    network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).npu()
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.randn(5, 4, device="npu")).sum().backward()
    optimizer.step()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "state.pt")
        torch.save({"network": network.state_dict(), "optimizer": optimizer.state_dict()}, path)
        for place in ["npu", "cpu"]:
            state = torch.load(path, map_location=place)
            assert state["network"]["0.weight"].device.type == place
            for name, value in network.state_dict().items():
                assert torch.equal(state["network"][name].cpu(), value.cpu()), name
        twin = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).npu()
        twin.load_state_dict(torch.load(path)["network"])
        x = torch.randn(5, 4, device="npu")
        network.eval(), twin.eval()
        assert torch.equal(network(x).cpu(), twin(x).cpu())
    buffer = io.BytesIO()
    torch.save(torch.arange(3, device="npu"), buffer)
    buffer.seek(0)
    assert torch.load(buffer).tolist() == [0, 1, 2]


@check
def printing():
    x = torch.tensor([[1.5, -2.0], [0.0, 1e5]], device="npu")
    assert "npu:0" in repr(x) and "1.5000e+00" in repr(x), repr(x)
    for value in [torch.arange(3), torch.tensor([True, False]), torch.tensor(2.5), torch.zeros(0), torch.ones(3).half()]:
        text = repr(value.npu()).replace(", device='npu:0'", "").replace("device='npu:0', ", "")
        assert text == repr(value), f"{text}, wanted {value!r}"
    assert "tensor" in repr(torch.randn(2000, device="npu"))


def refused(function, *words):
    try:
        function()
        torch.npu.synchronize()
    except RuntimeError as error:
        for word in words:
            assert word in str(error), f"no {word!r} in {error}"
        return
    raise AssertionError("nothing was refused")


@check
def errors_of_shapes():
    x = torch.ones(2, 3, device="npu")
    refused(lambda: x @ x, "aclnnMatmul", "161002")
    refused(lambda: x + torch.ones(4, device="npu"))
    refused(lambda: torch.cat([x, torch.ones(3, 4, device="npu")]))
    refused(lambda: nn.functional.conv2d(torch.ones(1, 3, 4, 4, device="npu"), torch.ones(2, 2, 3, 3, device="npu")))
    refused(lambda: nn.functional.layer_norm(x, (4,)))
    refused(lambda: x.view(7))
    # After an error the device goes on.
    assert (x + 1).sum().item() == 12


@check
def errors_on_the_queue_thread():
    """Both phases on the queue's thread: the client names the operator, prints CANN's text, and refuses all that follows."""
    script = "import torch\nx = torch.ones(2, 3, device='npu')\nx @ x\ntorch.npu.synchronize()"
    environment = dict(os.environ, TASK_QUEUE_ENABLE="2")
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode != 0 and "RuntimeError" in done.stderr and "aclnnMatmul" in done.stderr, done


@check
def generators():
    state = torch.npu.get_rng_state()
    first = torch.rand(4, device="npu").cpu()
    torch.npu.set_rng_state(state)
    assert torch.equal(torch.rand(4, device="npu").cpu(), first)
    generator = torch.Generator(device="npu").manual_seed(7)
    one = torch.randn(4, device="npu", generator=generator).cpu()
    generator.manual_seed(7)
    assert torch.equal(torch.randn(4, device="npu", generator=generator).cpu(), one)


@check
def higher_gradients():
    x = torch.tensor([1.0, 2.0], device="npu", requires_grad=True)
    (first,) = torch.autograd.grad((x**3).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    assert_close(second, torch.tensor([6.0, 12.0]))
    with torch.no_grad():
        x += 1
    assert_close(x, torch.tensor([2.0, 3.0]))


main()
