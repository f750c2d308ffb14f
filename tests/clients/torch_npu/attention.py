"""The client's own attention functions: samples packed one after another with gradients, prompts, single queries, pages of keys
and values; each against attention written out on the CPU."""

import torch
import torch_npu

from client import assert_close, check, main

HEADS, GROUPS, WIDTH = 4, 2, 16
SCALE = WIDTH**-0.5


def data(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def attend(q, k, v, causal=False):
    """`[rows, heads, width]` of one sample; heads of keys are shared. Causal is counted from the last row."""
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    scores = torch.einsum("qnd,knd->nqk", q.float(), k.float()) * SCALE
    if causal:
        rows, columns = scores.shape[1:]
        hidden = torch.ones(rows, columns, dtype=torch.bool).triu(columns - rows + 1)
        scores = scores.masked_fill(hidden, float("-inf"))
    return torch.einsum("nqk,knd->qnd", scores.softmax(-1), v.float()).to(q.dtype)


def triangle(dtype=torch.bool):
    return torch.ones(2048, 2048, dtype=torch.bool).triu(1).to(dtype).npu()


@check
def packed_samples_and_their_gradients():
    ends_q, ends_k = [3, 8, 9], [5, 10, 14]
    for causal in (False, True):
        inputs = [data(9, HEADS, WIDTH), data(14, GROUPS, WIDTH, seed=1), data(14, GROUPS, WIDTH, seed=2)]
        host = [one.clone().requires_grad_() for one in inputs]
        device = [one.npu().requires_grad_() for one in inputs]
        parts = []
        for index in range(3):
            rows = slice(ends_q[index - 1] if index else 0, ends_q[index])
            keys = slice(ends_k[index - 1] if index else 0, ends_k[index])
            parts.append(attend(host[0][rows], host[1][keys], host[2][keys], causal))
        wanted = torch.cat(parts)
        masks = dict(atten_mask=triangle(), sparse_mode=3) if causal else {}
        got = torch_npu.npu_fusion_attention(
            *device, HEADS, "TND", scale=SCALE, actual_seq_qlen=ends_q, actual_seq_kvlen=ends_k, **masks
        )[0]
        assert_close(got, wanted, f"causal {causal}")
        weight = data(9, HEADS, WIDTH, seed=3)
        (wanted * weight).sum().backward()
        (got * weight.npu()).sum().backward()
        for one, other, name in zip(device, host, "qkv"):
            assert_close(one.grad, other.grad, f"causal {causal}: gradient of {name}", 4)


@check
def prompts():
    q, k, v = (data(2, rows, heads, WIDTH, seed=seed, dtype=torch.float16) for rows, heads, seed in [(6, HEADS, 0), (6, GROUPS, 1), (6, GROUPS, 2)])
    wanted = torch.stack([attend(*one, causal=True) for one in zip(q, k, v)])
    got = torch_npu.npu_prompt_flash_attention(
        q.npu(), k.npu(), v.npu(), num_heads=HEADS, num_key_value_heads=GROUPS, input_layout="BSND", scale_value=SCALE,
        atten_mask=triangle(), sparse_mode=3,
    )
    assert_close(got, wanted)


@check
def single_queries():
    q, k, v = (data(2, rows, heads, WIDTH, seed=seed, dtype=torch.float16) for rows, heads, seed in [(1, HEADS, 0), (7, GROUPS, 1), (7, GROUPS, 2)])
    lengths = [4, 7]
    wanted = torch.stack([attend(q[at], k[at, :length], v[at, :length]) for at, length in enumerate(lengths)])
    flat = [one.flatten(2).npu() for one in (q, k, v)]
    got = torch_npu.npu_incre_flash_attention(
        *flat, num_heads=HEADS, num_key_value_heads=GROUPS, input_layout="BSH", scale_value=SCALE, actual_seq_lengths=lengths
    )
    assert_close(got, wanted.flatten(2))


@check
def inference_over_pages():
    page, lengths = 16, [20, 33]
    table = torch.tensor([[4, 1, 0], [2, 5, 3]], dtype=torch.int32)
    k, v = (data(6, page, GROUPS, WIDTH, seed=seed, dtype=torch.float16) for seed in (1, 2))
    q = data(2, 1, HEADS, WIDTH, dtype=torch.float16)
    parts = []
    for at, length in enumerate(lengths):
        keys, values = (one[table[at].long()].flatten(0, 1)[:length] for one in (k, v))
        parts.append(attend(q[at], keys, values))
    got, _ = torch_npu.npu_fused_infer_attention_score(
        q.flatten(2).npu(), k.flatten(2).npu(), v.flatten(2).npu(), num_heads=HEADS, num_key_value_heads=GROUPS, input_layout="BSH",
        scale=SCALE, actual_seq_lengths_kv=lengths, block_table=table.npu(), block_size=page,
    )
    assert_close(got, torch.stack(parts).flatten(2))


@check
def inference_by_layouts():
    q, k, v = (data(2, heads, rows, WIDTH, seed=seed, dtype=torch.bfloat16) for rows, heads, seed in [(5, HEADS, 0), (8, GROUPS, 1), (8, GROUPS, 2)])
    wanted = torch.stack([attend(*(part.transpose(0, 1) for part in one)) for one in zip(q, k, v)])
    for layout, moved in [("BNSD", lambda x: x), ("BSND", lambda x: x.transpose(1, 2)), ("BSH", lambda x: x.transpose(1, 2).flatten(2))]:
        got, sums = torch_npu.npu_fused_infer_attention_score(
            *(moved(one).contiguous().npu() for one in (q, k, v)), num_heads=HEADS, num_key_value_heads=GROUPS, input_layout=layout,
            scale=SCALE, softmax_lse_flag=True,
        )
        assert_close(got, moved(wanted.transpose(1, 2)), layout)
        assert sums.shape == (2, HEADS, 5, 1), sums.shape


main()
