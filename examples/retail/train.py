"""Train the basket recommender and write its bundle: in, the unified table; out, ``bundles/store-recommender``.

A small network reads the basket (one column per product type) and the store, and learns to name the items that were
hidden from it. Weeks up to 46 teach, weeks 47 to 53 test: recall@10 of the hidden items, beside global popularity and
popularity by store. Needs PyTorch (``pip install 'brownfield[torch]'``).
"""

import argparse
import hashlib
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from brownfield.contract import Contract
from brownfield.data.features import Features, learn, parse_features
from brownfield.integration import load_workspace
from brownfield.model import write_bundle

HERE = Path(__file__).parent
sys.path.append(str(HERE))
from baskets import (  # noqa: E402 (modules beside the script)
    LAST_TRAINING_WEEK,
    Baskets,
    bootstrap_interval,
    held_out_requests,
    read_baskets,
    recalls_at_10,
)
from popularity import Popularity  # noqa: E402

__all__ = ["Recommender", "evaluate", "export_onnx", "main", "train"]

INTEGRATION = "store-recommendations"
BUNDLE = HERE / "integrations" / INTEGRATION / "bundles" / "store-recommender"
HIDDEN_UNITS, STORE_UNITS = 96, 16
BATCH_BASKETS = 512
LEARNING_RATE = 8e-3
SHOWN_SHARE = (0.3, 0.8)
UNKNOWN_STORE_SHARE = 0.05
GOLDEN_RECORDS = 24
GAIN_WANTED = 1.2

Progress = Callable[[int, int, float], None]
"""Called after every epoch with epochs done, epochs in all and the mean loss."""


class Recommender(torch.nn.Module):
    """Scores of all product types for a basket in a store.

    Parameters
    ----------
    items
        Product types in the vocabulary.
    stores
        Stores in the vocabulary; one more stands for every other store.
    """

    def __init__(self, items: int, stores: int) -> None:
        super().__init__()
        self.store = torch.nn.Embedding(stores + 1, STORE_UNITS)
        self.basket = torch.nn.Linear(items, HIDDEN_UNITS)
        self.place = torch.nn.Linear(STORE_UNITS, HIDDEN_UNITS, bias=False)
        self.hidden = torch.nn.Linear(HIDDEN_UNITS, HIDDEN_UNITS)
        self.scores = torch.nn.Linear(HIDDEN_UNITS, items)
        torch.nn.init.normal_(self.store.weight, std=0.1)

    def forward(self, items: torch.Tensor, store: torch.Tensor) -> torch.Tensor:
        """Return shares that add up to 1 over the product types.

        Parameters
        ----------
        items
            1 where the basket holds the product type, shape ``(rows, items)``.
        store
            Index of the store, shape ``(rows,)``.
        """
        return torch.softmax(self.logits(items, store), dim=1)

    def logits(self, items: torch.Tensor, store: torch.Tensor) -> torch.Tensor:
        """Return the scores before the softmax, shape ``(rows, items)``."""
        sized = items / items.sum(dim=1, keepdim=True).clamp(min=1).sqrt()
        first = torch.relu(self.basket(sized) + self.place(self.store(store)))
        scores: torch.Tensor = self.scores(first + torch.relu(self.hidden(first)))
        return scores


@dataclass(frozen=True, slots=True)
class _TrainingSet:
    """Baskets as indices, one after the other: basket ``i`` is ``items[start[i] : start[i] + size[i]]``."""

    items: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    size: npt.NDArray[np.int64]
    store: npt.NDArray[np.int64]


def train(
    features: Features, baskets: Baskets, *, epochs: int = 10, seed: int = 0, progress: Progress | None = None
) -> Recommender:
    """Train on baskets of which a random part is hidden, anew in every epoch.

    Parameters
    ----------
    features
        Learned from the same baskets.
    baskets
        Of the training weeks.
    epochs, seed
        The same seed gives the same model on the same machine and number of threads.
    progress
        Called after every epoch.
    """
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    data = _indices(features, baskets)
    model = Recommender(len(features.inputs[0].vocabulary), len(features.inputs[1].vocabulary))
    counts = np.bincount(data.items, minlength=model.scores.out_features) + 1.0
    with torch.no_grad():
        model.scores.bias.copy_(torch.from_numpy(np.log(counts / counts.sum())))
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    steps = epochs * -(-len(data.size) // BATCH_BASKETS)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.15)
    for epoch in range(epochs):
        order = random.permutation(len(data.size))
        total = 0.0
        for first in range(0, len(order), BATCH_BASKETS):
            members = order[first : first + BATCH_BASKETS]
            loss = _loss(model, *_hide(data, members, random))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(members)
        if progress:
            progress(epoch + 1, epochs, total / len(order))
    return model.eval()


def _indices(features: Features, baskets: Baskets) -> _TrainingSet:
    items, stores = (feature.vocabulary for feature in features.inputs)
    known = [found[found >= 0] for found in map(items.indices, baskets.items)]
    store = stores.indices(baskets.store_id.tolist())
    store[store < 0] = len(stores)
    size = np.array([len(found) for found in known], dtype=np.int64)
    kept = size > 1  # of a single item nothing can be hidden and shown
    size = size[kept]
    return _TrainingSet(
        np.concatenate([found for found in known if len(found) > 1]), np.cumsum(size) - size, size, store[kept]
    )


def _hide(
    data: _TrainingSet, members: npt.NDArray[np.int64], random: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Shown and hidden items of some baskets, one column per item, and their stores (now and then unknown)."""
    size = data.size[members]
    row = np.repeat(np.arange(len(members)), size)
    offset = np.arange(len(row)) - np.repeat(np.cumsum(size) - size, size)
    item = data.items[np.repeat(data.start[members], size) + offset]
    shown = random.random(len(row)) < random.uniform(*SHOWN_SHARE, size=len(members))[row]
    width = int(data.items.max()) + 1
    halves = np.zeros((2, len(members), width), dtype=np.float32)
    halves[np.where(shown, 0, 1), row, item] = 1
    unknown = int(data.store.max(initial=0)) + 1
    store = np.where(random.random(len(members)) < UNKNOWN_STORE_SHARE, unknown, data.store[members])
    return torch.from_numpy(halves[0]), torch.from_numpy(halves[1]), torch.from_numpy(store)


def _loss(model: Recommender, shown: torch.Tensor, hidden: torch.Tensor, store: torch.Tensor) -> torch.Tensor:
    """Cross entropy of the hidden items among those not shown, larger baskets counting by the root of their size."""
    scores = model.logits(shown, store).masked_fill(shown > 0, -1e9)
    per_basket = -(hidden * torch.log_softmax(scores, dim=1)).sum(dim=1)
    return (per_basket / hidden.sum(dim=1).clamp(min=1).sqrt()).mean()
