#!/usr/bin/env python3
"""Makes muon.safetensors beside it: steps of torch.optim.Muon on given gradients, for tests/muon.rs.

    pip install "torch>=2.9" safetensors numpy     # then: python muon.py

PyTorch's Newton-Schulz steps run in bfloat16; the cases named `.f32` are the same code with that dtype replaced.
"""

import pathlib
from unittest import mock

import torch
from safetensors.torch import save_file

STEPS = 4
CASES = {
    "usual": {"lr": 0.05},
    "plain_momentum": {"lr": 0.05, "nesterov": False, "momentum": 0.8, "weight_decay": 0.0},
    "adamw_rms": {"lr": 0.02, "adjust_lr_fn": "match_rms_adamw", "weight_decay": 0.3},
    "spectral": {"lr": 0.03, "adjust_lr_fn": "spectral_unclamped", "ns_steps": 3},
    "coefficients": {"lr": 0.04, "ns_coefficients": (2.0, -1.5, 0.5), "ns_steps": 8, "eps": 1e-3},
}
SHAPES = {"tall": (9, 4), "wide": (3, 8), "square": (6, 6), "row": (1, 5), "stack.0": (5, 7), "stack.1": (5, 7)}

torch.manual_seed(3)
found = {}
starts = {name: torch.randn(shape) for name, shape in SHAPES.items()}
gradients = {name: torch.randn(STEPS, *shape) * 10.0 ** torch.linspace(-3, 1, STEPS).reshape(-1, 1, 1)
             for name, shape in SHAPES.items()}
for name in SHAPES:
    found[f"{name}.start"], found[f"{name}.gradients"] = starts[name], gradients[name]
for precision in ("bf16", "f32"):
    for case, options in CASES.items():
        parameters = {name: start.clone().requires_grad_() for name, start in starts.items()}
        optimizer = torch.optim.Muon(parameters.values(), **options)
        for step in range(STEPS):
            for name, own in parameters.items():
                own.grad = gradients[name][step].clone()
            if precision == "f32":
                with mock.patch.object(torch, "bfloat16", torch.float32):
                    optimizer.step()
            else:
                optimizer.step()
        for name, own in parameters.items():
            found[f"{case}.{precision}.{name}"] = own.detach().clone().contiguous()
save_file(found, pathlib.Path(__file__).with_name("muon.safetensors"))
print(torch.__version__, len(found), "tensors")
