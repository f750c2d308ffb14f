#!/usr/bin/env python3
"""Makes the folders beside it: tiny random DeepSeek-V3 models, batches, and what `transformers` computes with them.

    pip install torch transformers==5.24.0 safetensors     # then: python make.py [folder ..]

Each folder holds config.json, the weights (model.safetensors, or shards with an index), batches.safetensors (`tokens`: i64
[steps, batch, length + 1]), train.json (AdamW's settings), logits.safetensors (`logits` of the first batch, before training) and
losses.jsonl (one line per training step: the loss before the step's update, and the norm of the gradients before clipping);
`base` and `plain` also losses.bf16.jsonl, the same under `torch.autocast` in bf16. The folder `predictor` has a multi-token
prediction layer (transformers' MtpLayer over DeepseekV3DecoderLayer), whose loss counts with the factor `further`.
The reference is DeepseekV3ForCausalLM in f32 on the CPU; only the folder `softmax` replaces its router's scoring, which that
class fixes to the sigmoid, by the softmax of DeepSeek's own published inference code.
"""

import json
import pathlib
import shutil
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import DeepseekV3Config, DeepseekV3ForCausalLM
from transformers.modeling_layers import MtpLayer
from transformers.models.deepseek_v3 import modeling_deepseek_v3 as theirs

HERE = pathlib.Path(__file__).parent
COMMON = dict(
    vocab_size=61, hidden_size=32, intermediate_size=48, moe_intermediate_size=16, num_hidden_layers=3,
    num_attention_heads=4, num_key_value_heads=4, n_shared_experts=1, n_routed_experts=8, num_experts_per_tok=2,
    routed_scaling_factor=2.5, kv_lora_rank=12, q_lora_rank=10, qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=6,
    n_group=4, topk_group=2, first_k_dense_replace=1, norm_topk_prob=True, max_position_embeddings=128,
    initializer_range=0.15, rms_norm_eps=1e-6, num_mtp_layers=0, use_cache=False, bos_token_id=0, eos_token_id=1,
)
CASES = {
    "base": dict(),
    "plain": dict(
        q_lora_rank=None, n_group=1, topk_group=1, tie_word_embeddings=True, attention_bias=True, rope_interleave=False,
        pad_token_id=3, n_shared_experts=2, first_k_dense_replace=0, norm_topk_prob=False, routed_scaling_factor=1.0,
        rms_norm_eps=1e-4, v_head_dim=12, num_hidden_layers=2,
    ),
    "yarn": dict(
        rope_parameters=dict(
            rope_type="yarn", rope_theta=5000.0, factor=4.0, original_max_position_embeddings=8, beta_fast=4, beta_slow=1,
            mscale=0.7, mscale_all_dim=1.0,
        ),
        num_experts_per_tok=3, n_group=2, topk_group=1,
    ),
    "softmax": dict(n_group=1, topk_group=1, num_hidden_layers=2, routed_scaling_factor=1.0),
}


def softmax_router(self, hidden):
    """DeepSeek's scoring_func "softmax": as the class's own router without groups, with another score."""
    hidden = hidden.view(-1, self.hidden_dim)
    logits = F.linear(hidden.float(), self.weight.float())
    scores = logits.softmax(-1)
    index = (scores + self.e_score_correction_bias).topk(self.top_k, dim=-1)[1]
    weights = scores.gather(1, index)
    if self.norm_topk_prob:
        weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
    return logits, weights * self.routed_scaling_factor, index


def build(config, seed):
    torch.manual_seed(seed)
    model = DeepseekV3ForCausalLM(config).float()
    with torch.no_grad():
        for name, own in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith("norm.weight"):
                own.add_(0.2 * torch.randn_like(own))
            elif name.endswith("bias"):
                own.add_(0.1 * torch.randn_like(own))
    return model


def cross_entropy(logits, targets):
    return F.cross_entropy(logits.float().reshape(-1, logits.shape[-1]), targets.reshape(-1))


def next_token(model, batch):
    return cross_entropy(model(input_ids=batch[:, :-1]).logits, batch[:, 1:])


def train(model, tokens, settings, loss_of=next_token, lowered=False):
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings["lr"], betas=settings["betas"], eps=settings["eps"],
        weight_decay=settings["weight_decay"],
    )
    model.train()
    for step, batch in enumerate(tokens):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=lowered):
            loss = loss_of(model, batch)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), settings["grad_clip"])
        optimizer.step()
        yield json.dumps({"step": step, "loss": loss.item(), "grad_norm": norm.item()})


def quantize(weight):
    """F8_E4M3 with one scale per 128 x 128 block, as DeepSeek-V3 is published; and what it stands for."""
    rows, columns = weight.shape
    scale = torch.empty((rows + 127) // 128, (columns + 127) // 128)
    stored = torch.empty(rows, columns, dtype=torch.float8_e4m3fn)
    meant = torch.empty_like(weight)
    for i in range(scale.shape[0]):
        for j in range(scale.shape[1]):
            block = (slice(128 * i, 128 * (i + 1)), slice(128 * j, 128 * (j + 1)))
            scale[i, j] = weight[block].abs().max() / 448
            stored[block] = (weight[block] / scale[i, j]).to(torch.float8_e4m3fn)
            meant[block] = stored[block].float() * scale[i, j]
    return stored, scale, meant


def fp8(folder):
    """Two layers wide enough for several blocks; the quantized matrices stand for the reference's weights."""
    config = DeepseekV3Config(**{
        **COMMON, "hidden_size": 160, "intermediate_size": 136, "moe_intermediate_size": 16, "num_hidden_layers": 2,
        "n_routed_experts": 4, "n_group": 2, "topk_group": 1, "initializer_range": 0.08,
    })
    model = build(config, 5)
    model.save_pretrained(folder)
    saved = load_file(folder / "model.safetensors")
    quantized = {}
    for name, own in list(saved.items()):
        inner = ".layers." in name and own.dim() == 2 and ".gate.weight" not in name
        if inner:
            saved[name], scale, quantized[name] = quantize(own.float())
            saved[name + "_scale_inv"] = scale
        elif own.dim() == 2 and ".gate." not in name:
            saved[name] = own.bfloat16()
            quantized[name] = saved[name].float()
    meant = {name: quantized.get(name, own) for name, own in saved.items() if not name.endswith("_scale_inv")}
    save_file(meant, folder / "model.safetensors", metadata={"format": "pt"})
    model = DeepseekV3ForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for own in model.parameters():  # they may be views of the file, which is written anew
        own.data = own.data.clone()
    save_file(saved, folder / "model.safetensors", metadata={"format": "pt"})
    text = json.loads((folder / "config.json").read_text())
    text["quantization_config"] = {
        "quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128],
    }
    (folder / "config.json").write_text(json.dumps(text, indent=2) + "\n")
    return model


class Predicting(torch.nn.Module):
    """A model with one multi-token prediction layer; embedding and head are the model's."""

    def __init__(self, main):
        super().__init__()
        self.main = main
        self.layer = MtpLayer(
            main.config, theirs.DeepseekV3DecoderLayer, theirs.DeepseekV3RMSNorm, main.config.num_hidden_layers,
        )

    def predict(self, batch):
        """The logits of the next token, and of the one after it."""
        inputs = batch[:, :-1]
        hidden = self.main.model(input_ids=inputs).last_hidden_state
        further = self.main.model.embed_tokens(inputs[:, 1:])
        positions = torch.arange(1, inputs.shape[1])[None]
        after = self.layer(
            further, hidden[:, :-1], self.main.model.rotary_emb(further, positions), None, positions, None,
        )
        return self.main.lm_head(hidden), self.main.lm_head(after)


def predictor(folder, settings):
    """As transformers has no class for training with such layers, the sum of the two losses is written out here."""
    config = DeepseekV3Config(**{**COMMON, "num_mtp_layers": 1, "num_hidden_layers": 2})
    torch.manual_seed(9)
    model = Predicting(build(config, 9))
    with torch.no_grad():
        for name, own in [*model.layer.named_parameters(), *model.layer.named_buffers()]:
            if name.endswith("norm.weight"):
                own.add_(0.2 * torch.randn_like(own))
            elif name.endswith("bias"):
                own.add_(0.1 * torch.randn_like(own))
            else:
                own.normal_(0, config.initializer_range)
    model.main.save_pretrained(folder)
    saved = load_file(folder / "model.safetensors")
    for name, own in model.layer.state_dict().items():
        name = name.replace("post_norm", "shared_head.norm") if name.startswith("post_norm") else name
        saved[f"model.layers.{config.num_hidden_layers}.{name.removeprefix('mtp_block.')}"] = own.clone()
    save_file(saved, folder / "model.safetensors", metadata={"format": "pt"})

    def both(model, batch):
        first, second = model.predict(batch)
        return cross_entropy(first, batch[:, 1:]) + settings["further"] * cross_entropy(second, batch[:, 2:])

    return model, both


def lower(settings):
    """The losses under autocast in bf16 of folders that are there."""
    for name in ["base", "plain"]:
        folder = HERE / name
        model = DeepseekV3ForCausalLM.from_pretrained(
            folder, dtype=torch.float32, experts_implementation="eager",
        )
        tokens = load_file(folder / "batches.safetensors")["tokens"]
        lines = train(model, tokens, settings, lowered=True)
        (folder / "losses.bf16.jsonl").write_text("".join(line + "\n" for line in lines))


def main():
    settings = dict(lr=3e-3, betas=[0.9, 0.95], eps=1e-8, weight_decay=0.1, grad_clip=1.0, steps=20)
    for seed, name in enumerate([*CASES, "fp8", "predictor"]):
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        loss_of, shown = next_token, settings
        folder = HERE / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        if name == "fp8":
            model = fp8(folder)
        elif name == "predictor":
            shown = {**settings, "further": 0.3}
            model, loss_of = predictor(folder, shown)
        else:
            config = DeepseekV3Config(**{**COMMON, **CASES[name]})
            model = build(config, seed)
            if name == "yarn":
                model = model.bfloat16()
                model.save_pretrained(folder, max_shard_size="40KB")
                model = DeepseekV3ForCausalLM.from_pretrained(folder, dtype=torch.float32)
            else:
                model.save_pretrained(folder)
            if name == "softmax":
                theirs.DeepseekV3TopkRouter.forward = softmax_router
                text = json.loads((folder / "config.json").read_text())
                text["scoring_func"] = "softmax"
                (folder / "config.json").write_text(json.dumps(text, indent=2) + "\n")
        generation = folder / "generation_config.json"
        generation.unlink(missing_ok=True)
        steps = 2 if name == "fp8" else settings["steps"]
        tokens = torch.randint(0, COMMON["vocab_size"], (steps, 3, 14), generator=torch.Generator().manual_seed(seed))
        save_file({"tokens": tokens}, folder / "batches.safetensors")
        (folder / "train.json").write_text(json.dumps({**shown, "steps": steps}) + "\n")
        with torch.no_grad():
            model.eval()
            logits = model.predict(tokens[0])[0] if name == "predictor" else model(input_ids=tokens[0][:, :-1]).logits
        save_file({"logits": logits.contiguous()}, folder / "logits.safetensors")
        (folder / "losses.jsonl").write_text("".join(line + "\n" for line in train(model, tokens, settings, loss_of)))
        print(name, (folder / "losses.jsonl").read_text().splitlines()[-1])
    if not sys.argv[1:] or "bf16" in sys.argv[1:]:
        lower(settings)


main()
