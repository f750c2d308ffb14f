#!/usr/bin/env python3
"""Makes layers.safetensors beside it: inputs, states and outputs of PyTorch's own layers, for tests/nn.rs.

    pip install torch safetensors     # then: python layers.py
"""

import pathlib

import torch
from safetensors.torch import save_file

torch.manual_seed(0)
found = {}


def keep(name, **tensors):
    for part, tensor in tensors.items():
        found[f"{name}.{part}"] = tensor.detach().clone().contiguous()


def state(name, module):
    keep(name, **{f"state.{key}": value for key, value in module.state_dict().items()})


x = torch.randn(2, 5, 12)
attention = torch.nn.MultiheadAttention(12, 3, batch_first=True)
with torch.no_grad():
    attention.in_proj_bias.normal_()
mask = torch.nn.Transformer.generate_square_subsequent_mask(5)
state("attention", attention)
keep("attention", x=x, causal=attention(x, x, x, attn_mask=mask, is_causal=True)[0], full=attention(x, x, x)[0])

x = torch.randn(4, 6, 3, 3) * 2 + 1
norm = torch.nn.BatchNorm2d(6)
with torch.no_grad():
    norm.weight.normal_()
    norm.bias.normal_()
state("batch_norm", norm)
keep("batch_norm", x=x, trained=norm(x))
keep("batch_norm", mean=norm.running_mean, var=norm.running_var, evaluated=norm.eval()(x))
norm = torch.nn.GroupNorm(2, 6)
keep("group_norm", x=x, y=norm(x))
norm = torch.nn.LayerNorm(3, eps=1e-3)
keep("layer_norm", x=x, y=norm(x))

# Three steps of each optimiser with two groups.
for kind in ("sgd", "adam", "adamw"):
    torch.manual_seed(1)
    a, b = (torch.randn(3, 2, requires_grad=True) for _ in range(2))
    keep(kind, a=a, b=b)
    groups = [{"params": [a]}, {"params": [b], "lr": 0.02, "weight_decay": 0.0}]
    if kind == "sgd":
        optimizer = torch.optim.SGD(groups, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.1)
    else:
        optimizer = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[kind](
            groups, lr=0.05, betas=(0.8, 0.95), weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        loss = ((a @ b.T).sin() * 3).sum()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_([a, b], 2.0)
        optimizer.step()
    keep(kind, a_after=a, b_after=b, norm=norm)

# Convolution layers with every option, and the gradient of their weights.
torch.manual_seed(2)
for name, layer, x in [
    ("conv1d", torch.nn.Conv1d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2), torch.randn(2, 4, 11)),
    ("conv2d", torch.nn.Conv2d(4, 6, (3, 2), stride=(1, 2), padding=(1, 0), groups=2), torch.randn(2, 4, 7, 6)),
    ("conv2d_same", torch.nn.Conv2d(3, 5, 3, padding="same", bias=False), torch.randn(2, 3, 5, 6)),
]:
    y = layer(x)
    y.square().sum().backward()
    state(name, layer)
    keep(name, x=x, y=y, pooled=torch.nn.functional.max_pool2d(y, 2) if y.dim() == 4 else y, gradient=layer.weight.grad)

save_file(found, pathlib.Path(__file__).parent / "layers.safetensors")
