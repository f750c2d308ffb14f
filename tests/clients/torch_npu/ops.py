"""Operators one by one: the same call on the NPU and on the CPU gives the same values, in f32, f16, bf16 and integers, on
contiguous and on transposed inputs, and the same gradients."""

import copy

import torch
import torch.nn.functional as F

from client import assert_close, check, main

FLOATS = [torch.float32, torch.float16, torch.bfloat16]


def data(*shape, dtype=torch.float32, low=-2.0, high=2.0, seed=0):
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return (torch.rand(shape, generator=generator) * (high - low) + low).to(dtype)


def to_npu(value):
    if isinstance(value, torch.Tensor):
        return value.npu()
    if isinstance(value, (list, tuple)):
        return type(value)(to_npu(one) for one in value)
    return value


def compare(name, function, *inputs, gradients=False, scale=1):
    """One call on both devices, then its gradients if they are asked for."""
    host, device = list(inputs), [to_npu(one) for one in inputs]
    if gradients:
        for side in (host, device):
            for index, one in enumerate(side):
                if isinstance(one, torch.Tensor) and one.is_floating_point():
                    side[index] = one.detach().requires_grad_()
    wanted, got = function(*host), function(*device)
    assert_close(got, wanted, name, scale)
    if gradients:
        weight = data(*wanted.shape, seed=7).to(wanted.dtype)
        (wanted * weight).sum().backward()
        (got * weight.npu()).sum().backward()
        for index, (one, other) in enumerate(zip(device, host)):
            if isinstance(other, torch.Tensor) and other.grad is not None:
                assert_close(one.grad, other.grad, f"{name}: gradient {index}", 4 * scale)


@check
def arithmetic():
    for dtype in FLOATS:
        x, y = data(3, 4, dtype=dtype), data(3, 4, dtype=dtype, low=0.5, seed=1)
        for name in ["add", "sub", "mul", "div", "maximum", "minimum", "pow", "atan2", "fmod", "remainder"]:
            base = y if name == "pow" else x
            compare(f"{name} {dtype}", getattr(torch, name), base, y)
        compare(f"transposed {dtype}", lambda a, b: a.t() + b.t(), x, y)
        compare(f"broadcast {dtype}", lambda a, b: a * b[:, :1] - b[:1], x, y)
        compare(f"scalars {dtype}", lambda a: (a + 1) * 2.5 - 3 / (a + 10), x)
        compare(f"addcmul {dtype}", lambda a, b: torch.addcmul(a, a, b, value=0.5), x, y)
        compare(f"addcdiv {dtype}", lambda a, b: torch.addcdiv(a, a, b, value=0.5), x, y)
        compare(f"lerp {dtype}", lambda a, b: torch.lerp(a, b, 0.25), x, y)
        compare(f"where {dtype}", lambda a, b: torch.where(a > b, a, b), x, y)
    for dtype in [torch.int32, torch.int64]:
        x, y = data(3, 4, high=9, dtype=dtype), data(3, 4, low=1, high=5, dtype=dtype, seed=1)
        for name in ["add", "sub", "mul", "div", "floor_divide", "remainder", "maximum"]:
            compare(f"{name} {dtype}", getattr(torch, name), x, y)
        compare(f"bits {dtype}", lambda a, b: (a & b) | (a ^ 3), x, y)


@check
def unary_functions():
    names = "abs neg exp log sqrt rsqrt reciprocal sin cos tan tanh sigmoid erf floor ceil round trunc sign square log1p expm1"
    for dtype in FLOATS:
        x = data(4, 5, low=0.1, dtype=dtype)
        for name in names.split():
            compare(f"{name} {dtype}", getattr(torch, name), x)
        compare(f"clamp {dtype}", lambda a: a.clamp(-0.5, 1.0), data(4, 5, dtype=dtype))
        compare(f"isnan {dtype}", lambda a: torch.isnan(a / (a - a)) | torch.isfinite(a), x)
    compare("erfc", torch.erfc, data(4, 5))
    x = data(4, 5, low=0.2)
    for name in "exp log sqrt rsqrt tanh sigmoid sin cos erf abs square reciprocal".split():
        compare(name, getattr(torch, name), x, gradients=True)


@check
def comparisons_and_casts():
    x, y = data(3, 4), data(3, 4, seed=3)
    for name in ["eq", "ne", "lt", "le", "gt", "ge"]:
        compare(name, getattr(torch, name), x, y)
        compare(f"{name} scalar", lambda a, name=name: getattr(torch, name)(a, 0.25), x)
    compare("logical", lambda a, b: (a > 0).logical_and(b > 0).logical_or((a < -1).logical_not()), x, y)
    for target in [torch.float16, torch.bfloat16, torch.int32, torch.int64, torch.bool, torch.int8, torch.uint8]:
        compare(f"to {target}", lambda a, target=target: a.abs().to(target), x)
        compare(f"from {target}", lambda a, target=target: a.abs().to(target).float(), x)


@check
def reductions():
    for dtype in FLOATS:
        x = data(3, 4, 5, dtype=dtype)
        for name in ["sum", "mean", "amax", "amin", "prod"]:
            compare(f"{name} {dtype}", lambda a, name=name: getattr(a, name)(1), x, scale=2)
        compare(f"sum of all {dtype}", lambda a: a.sum(), x, scale=2)
        compare(f"var {dtype}", lambda a: a.var(1), x, scale=2)
        compare(f"std {dtype}", lambda a: a.std(-1, keepdim=True), x, scale=2)
        compare(f"norm {dtype}", lambda a: torch.linalg.vector_norm(a, dim=1), x, scale=2)
        compare(f"max {dtype}", lambda a: a.max(1), x)
        compare(f"min {dtype}", lambda a: a.min(1), x)
        compare(f"argmax {dtype}", lambda a: a.argmax(1), x)
        compare(f"cumsum {dtype}", lambda a: a.cumsum(1), x, scale=2)
        compare(f"logsumexp {dtype}", lambda a: a.logsumexp(1), x, scale=2)
    x = data(3, 4, 5)
    for name in ["sum", "mean", "amax", "prod"]:
        compare(name, lambda a, name=name: getattr(a, name)(1), x, gradients=True)
    for order in [1, 2, 3, float("inf")]:
        compare(f"norm {order}", lambda a, order=order: torch.linalg.vector_norm(a, order, dim=-1), x)
    compare("normalize", lambda a: F.normalize(a, dim=1), x, gradients=True)
    compare("any all", lambda a: ((a > 1).any(1), (a > -1).all(0), (a > 1).any()), x)
    compare("integers", lambda a: (a.sum(1), a.amax(0)), data(3, 4, high=9, dtype=torch.int64))
    compare("empty", lambda a: a[:0].sum(0), x)


@check
def products():
    for dtype in FLOATS:
        a, b, c = data(4, 6, dtype=dtype), data(6, 5, dtype=dtype), data(5, dtype=dtype)
        compare(f"matmul {dtype}", torch.matmul, a, b, scale=2)
        compare(f"transposed {dtype}", lambda a, b: a.t() @ b.t(), data(6, 4, dtype=dtype), data(5, 6, dtype=dtype), scale=2)
        compare(f"linear {dtype}", lambda a, b, c: F.linear(a, b.t(), c), a, b, c, scale=2)
        compare(f"addmm {dtype}", lambda c, a, b: torch.addmm(c, a, b, beta=0.5, alpha=2), c, a, b, scale=2)
        x, y = data(3, 4, 6, dtype=dtype), data(3, 6, 2, dtype=dtype)
        compare(f"bmm {dtype}", torch.bmm, x, y, scale=2)
        compare(f"batches {dtype}", torch.matmul, data(2, 3, 4, 6, dtype=dtype), y, scale=2)
        compare(f"mv {dtype}", torch.mv, a, data(6, dtype=dtype), scale=2)
        compare(f"einsum {dtype}", lambda x, y: torch.einsum("bij,bjk->bki", x, y), x, y, scale=2)
    compare("linear", lambda a, b, c: F.linear(a, b, c), data(4, 6), data(5, 6), data(5), gradients=True)
    compare("bmm", torch.bmm, data(3, 4, 6), data(3, 6, 2), gradients=True)


@check
def shapes():
    x = data(2, 3, 4)
    compare("views", lambda a: a.permute(2, 0, 1).contiguous().reshape(4, 6).t().clone(), x)
    compare("cat", lambda a, b: torch.cat([a, b, a], 1), x, data(2, 5, 4))
    compare("stack", lambda a: torch.stack([a, a + 1], 2), x)
    compare("split", lambda a: (*a.split(2, 1), *a.chunk(2, 2), *a.unbind(0)), x)
    compare("expand", lambda a: a[:, :1].expand(2, 3, 4) + a, x)
    compare("repeat", lambda a: a.repeat(2, 1, 3), x)
    compare("repeat_interleave", lambda a: a.repeat_interleave(2, 1), x)
    compare("flip roll", lambda a: (a.flip(1), a.roll(1, 2)), x)
    compare("pad", lambda a: (F.pad(a, (1, 2)), F.pad(a, (1, 1), mode="reflect"), F.pad(a, (1, 1), mode="replicate")), x)
    compare("triangles", lambda a: (a[0].tril(), a[0].triu(1), torch.diag(a[0, 0])), x)
    compare("unfold", lambda a: F.unfold(a[:, None], 2, padding=1), x)
    compare("squeeze", lambda a: a[:, :1].squeeze(1).unsqueeze(-1), x)
    compare("pad", lambda a: F.pad(a, (1, 2, 0, 1)), x, gradients=True)
    compare("cat", lambda a, b: torch.cat([a, b], 1), x, data(2, 5, 4), gradients=True)


@check
def indices():
    x, rows = data(5, 4), torch.tensor([3, 0, 3])
    compare("slice", lambda a: a[1:4, ::2], x)
    compare("list", lambda a: (a[[0, 2]], a[:, [1, 3]], a[[0, 1], [2, 3]]), x)
    compare("tensor", lambda a, i: a[i], x, rows)
    compare("mask", lambda a: a[a > 0], x)
    compare("masked_select", lambda a: torch.masked_select(a, a < 0.5), x)
    compare("nonzero", lambda a: torch.nonzero(a > 0), x)
    compare("index_select", lambda a, i: a.index_select(0, i), x, rows)
    compare("gather", lambda a: a.gather(1, (a > 0).long()), x)
    compare("scatter", lambda a, i: torch.zeros_like(a).scatter(0, i[:, None].expand(3, 4), a[:3]), x, torch.tensor([4, 0, 2]))
    compare("scatter_add", lambda a, i: torch.zeros_like(a).scatter_add(0, i[:, None].expand(3, 4), a[:3]), x, rows)
    compare("index_add", lambda a, i: torch.zeros_like(a).index_add(0, i, a[:3]), x, rows)
    compare("masked_fill", lambda a: a.masked_fill(a > 0, -1.0), x)
    compare("one_hot", lambda i: F.one_hot(i, 5), rows)
    compare("embedding", lambda i, w: F.embedding(i, w), rows, x)
    compare("sort", lambda a: (a.sort(1), a.argsort(0, descending=True)), x)
    compare("topk", lambda a: a.topk(2, 1), x)
    compare("unique", lambda i: torch.unique(i, return_inverse=True, return_counts=True), rows)
    compare("bincount", torch.bincount, rows)
    compare("tensor", lambda a: a[[0, 2, 0]], x, gradients=True)
    compare("gather", lambda a: a.gather(1, (a > 0).long()), x, gradients=True)

    def assign(a):
        a = a.clone()
        a[1:3] = 7
        a[:, 0] = a[:, 1]
        a[a < 0] = 0
        a[[0, 4]] += 1
        return a

    compare("assignment", assign, x)


@check
def activations():
    names = "relu leaky_relu elu celu selu silu mish softplus softsign hardtanh hardswish hardsigmoid relu6 logsigmoid tanhshrink"
    x = data(3, 7, low=-4, high=4)
    for name in names.split():
        compare(name, getattr(F, name), x, gradients=True)
    # CANN's aclnnGelu, which the client calls for the exact form too, is documented as the form with tanh.
    compare("gelu", lambda a: F.gelu(a, approximate="tanh"), x, gradients=True)
    for name in ["softmax", "log_softmax"]:
        for dtype in FLOATS:
            compare(f"{name} {dtype}", lambda a, name=name: getattr(F, name)(a, 1), x.to(dtype), gradients=dtype == FLOATS[0])
    compare("glu", lambda a: F.glu(a, 1), data(3, 8), gradients=True)
    compare("prelu", lambda a, w: F.prelu(a, w), x, data(7), gradients=True)


@check
def norms():
    x = data(4, 6, 5, 5)
    compare("layer_norm", lambda a, w, b: F.layer_norm(a, (5,), w, b), x, data(5), data(5, seed=1), gradients=True)
    compare("group_norm", lambda a, w, b: F.group_norm(a, 3, w, b), x, data(6), data(6, seed=1), gradients=True)
    compare("batch_norm", lambda a, w, b: F.batch_norm(a, None, None, w, b, True), x, data(6), data(6, seed=1), gradients=True)
    compare("in use", lambda a, m, v: F.batch_norm(a, m, v), x, data(6), data(6, low=0.5))
    compare("instance_norm", F.instance_norm, x, scale=2)
    for dtype in FLOATS[1:]:
        compare(f"layer_norm {dtype}", lambda a: F.layer_norm(a, (5,)), x.to(dtype))


@check
def convolutions_and_pools():
    # The client allows 11 bits of mantissa in convolutions unless it is told otherwise.
    torch.npu.conv.allow_hf32 = False
    x, w, b = data(2, 4, 7, 8), data(6, 4, 3, 3), data(6)
    compare("conv2d", lambda x, w, b: F.conv2d(x, w, b, padding=1), x, w, b, gradients=True)
    compare("strides", lambda x, w: F.conv2d(x, w, stride=2, dilation=(1, 2)), x, w, gradients=True)
    compare("groups", lambda x, w: F.conv2d(x, w, groups=2), x, data(6, 2, 3, 3), gradients=True)
    compare("conv1d", lambda x, w, b: F.conv1d(x, w, b), data(2, 4, 9), data(6, 4, 3), b, gradients=True)
    compare("conv3d", lambda x, w: F.conv3d(x, w), data(1, 2, 4, 4, 4), data(3, 2, 2, 2, 2), scale=2)
    compare("transposed", lambda x, w: F.conv_transpose2d(x, w, stride=2), data(2, 4, 3, 3), data(4, 5, 3, 3), gradients=True)
    compare("max_pool2d", lambda x: F.max_pool2d(x, 3, 2, 1), x, gradients=True)
    compare("avg_pool2d", lambda x: F.avg_pool2d(x, 3, 2, 1), x, gradients=True)
    compare("adaptive", lambda x: F.adaptive_avg_pool2d(x, (3, 2)), x, gradients=True)
    compare("nearest", lambda x: F.interpolate(x, scale_factor=2.0), x, gradients=True)
    compare("bilinear", lambda x: F.interpolate(x, (9, 11), mode="bilinear", align_corners=False), x)


@check
def losses():
    x, labels = data(6, 5), torch.tensor([0, 4, 2, 2, 1, 3])
    compare("cross_entropy", lambda a, t: F.cross_entropy(a, t), x, labels, gradients=True)
    compare("smoothing", lambda a, t: F.cross_entropy(a, t, label_smoothing=0.1), x, labels, gradients=True)
    compare("weights", lambda a, t, w: F.cross_entropy(a, t, w, reduction="sum"), x, labels, data(5, low=0.1))
    compare("nll", lambda a, t: F.nll_loss(F.log_softmax(a, 1), t, reduction="none"), x, labels)
    for name in ["mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"]:
        compare(name, getattr(F, name), x, data(6, 5, seed=4), gradients=name != "huber_loss")
    target = data(6, 5, low=0.1, high=0.9, seed=4)
    compare("bce", lambda a, t: F.binary_cross_entropy(torch.sigmoid(a), t), x, target)
    compare("bce with logits", lambda a: F.binary_cross_entropy_with_logits(a, target.to(a.device)), x, gradients=True)
    compare("kl_div", lambda a: F.kl_div(F.log_softmax(a, 1), target.to(a.device), reduction="batchmean"), x, gradients=True)
    compare("cosine_similarity", F.cosine_similarity, x, data(6, 5, seed=4))


@check
def attention():
    q, k, v = data(2, 3, 16, 8), data(2, 3, 16, 8, seed=1), data(2, 3, 16, 8, seed=2)
    attend = F.scaled_dot_product_attention
    compare("plain", attend, q, k, v, gradients=True)
    compare("causal", lambda q, k, v: attend(q, k, v, is_causal=True), q, k, v, gradients=True)
    mask = torch.ones(16, 16, dtype=torch.bool).tril()
    compare("mask", lambda q, k, v: attend(q, k, v, attn_mask=mask.to(q.device)), q, k, v)
    for dtype in FLOATS[1:]:
        halves = [one.to(dtype) for one in (q, k, v)]
        compare(f"causal {dtype}", lambda q, k, v: attend(q, k, v, is_causal=True), *halves)


@check
def recurrent():
    for directions, layers, batch_first in [(1, 1, False), (2, 2, True)]:
        torch.manual_seed(3)
        host = torch.nn.LSTM(5, 7, layers, bidirectional=directions == 2, batch_first=batch_first)
        device = copy.deepcopy(host).npu()
        state = [data(layers * directions, 4 if batch_first else 3, 7, seed=seed) for seed in (1, 2)]

        def run(network, x, h, c):
            y, (h, c) = network(x, (h, c))
            return torch.cat([y.flatten(), h.flatten(), 2 * c.flatten()])

        inputs = [data(4, 3, 5), *state]
        compare("lstm", lambda *a: run(device if a[0].is_npu else host, *a), *inputs, gradients=True)
        for one, other in zip(device.parameters(), host.parameters()):
            assert_close(one.grad, other.grad, "gradient of a parameter", 4)
    x, targets = data(6, 2, 5).log_softmax(2), torch.tensor([[1, 2, 2], [3, 1, 0]])
    compare("ctc_loss", lambda x, t: F.ctc_loss(x, t, (6, 5), (3, 2)), x, targets, gradients=True)


@check
def the_older_interface():
    """What the client has no aclnn path for: the single operators of `aclopCompileAndExecute`."""
    for options in [{}, {"batch_first": True}, {"bidirectional": True, "num_layers": 2}, {"bias": False}]:
        host = torch.nn.GRU(5, 6, **options)
        device = copy.deepcopy(host).npu()
        run = lambda module, x: torch.cat([part.flatten() for part in module(x)])
        compare("gru", lambda x: run(device if x.is_npu else host, x), data(4, 3, 5), gradients=True)
        for one, other in zip(device.parameters(), host.parameters()):
            assert_close(one.grad, other.grad, "gradient of a parameter", 4)
    x = data(3, 4)
    for order in [0.5, 1.5, 3, -1, 2.5]:
        compare(f"norm {order}", lambda x, order=order: torch.linalg.vector_norm(x, order, dim=1), x)
        compare(f"norm of all {order}", lambda x, order=order: torch.linalg.vector_norm(x, order), x)
    compare("dist", lambda x: torch.dist(x, 2 * x, 3), x)


@check
def lists_of_tensors():
    many = [data(3), data(2, 2, seed=1)]
    compare("add", lambda *a: torch._foreach_add(list(a), 1.5), *many)
    compare("mul", lambda *a: torch._foreach_mul(list(a), list(a)), *many)
    compare("addcdiv", lambda *a: torch._foreach_addcdiv(list(a), list(a), [one + 5 for one in a], 0.5), *many)
    compare("sqrt", lambda *a: torch._foreach_sqrt([one.abs() for one in a]), *many)

    def clip(*tensors):
        leaves = [one.detach().clone().requires_grad_() for one in tensors]
        sum((one * one).sum() for one in leaves).backward()
        total = torch.nn.utils.clip_grad_norm_(leaves, 1.0)
        return [total, *[one.grad for one in leaves]]

    compare("clip_grad_norm_", clip, *many)


@check
def creation():
    for make in [
        lambda device: torch.arange(2, 11, 3, device=device),
        lambda device: torch.arange(0, 1, 0.25, device=device),
        lambda device: torch.linspace(0, 1, 5, device=device),
        lambda device: torch.full((2, 3), 2.5, device=device),
        lambda device: torch.zeros(3, dtype=torch.int32, device=device) + torch.ones(3, dtype=torch.int32, device=device),
        lambda device: torch.eye(3, 4, device=device),
    ]:
        assert_close(make("npu"), make("cpu"))
    x = torch.rand(20000, device="npu").cpu()
    assert 0 <= x.min() and x.max() < 1 and abs(x.mean() - 0.5) < 0.02
    x = torch.randn(20000, device="npu").cpu()
    assert abs(x.mean()) < 0.05 and abs(x.std() - 1) < 0.05
    assert torch.equal(torch.randperm(50, device="npu").cpu().sort().values, torch.arange(50))
    x = torch.randint(3, 9, (2000,), device="npu").cpu()
    assert x.min() == 3 and x.max() == 8
    torch.npu.manual_seed(5)
    first = torch.rand(8, device="npu")
    torch.npu.manual_seed(5)
    assert torch.equal(first.cpu(), torch.rand(8, device="npu").cpu())
    kept = F.dropout(torch.ones(20000, device="npu"), 0.25).cpu()
    assert set(kept.unique().tolist()) <= {0.0, float(torch.tensor(1 / 0.75))} and abs((kept == 0).float().mean() - 0.25) < 0.02


main()
