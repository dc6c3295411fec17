"""The retail example's model trained anew, on a toy and on a sample of the real stores."""

import numpy as np
import pytest

from brownfield.integration import load_workspace
from brownfield.model import open_bundle

SAMPLE_STORES = 30

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def contract(example):
    """The contract of the integration."""
    return load_workspace(example).integrations["store-recommendations"].contract


@pytest.fixture(scope="module")
def toy(baskets):
    """Baskets in which the types come in three fixed groups of six, from two stores."""
    random = np.random.default_rng(0)
    groups = [[f"type {group}{letter}" for letter in "abcdef"] for group in range(3)]
    items = [sorted(random.choice(groups[number % 3], 4, replace=False).tolist()) for number in range(600)]
    return baskets.Baskets(np.arange(600), np.repeat([1, 2], 300), items)


def test_the_model_learns_what_goes_together(train, contract, toy):
    """After a few passes the rest of a group is suggested before anything else; the loss falls on the way."""
    losses = []
    features = train.learn_features(contract, toy)
    model = train.train(features, toy, epochs=60, progress=lambda _done, _total, loss: losses.append(loss))
    requests = [{"store_id": 1, "items": [f"type {group}a", f"type {group}b"]} for group in range(3)]
    answers = train.suggest(features, train.torch_scorer(model), requests)
    assert [set(answer[:4]) for answer in answers] == [
        {f"type {group}{letter}" for letter in "cdef"} for group in range(3)
    ]
    assert losses[-1] < losses[0]
    assert len(losses) == 60


def test_the_same_seed_gives_the_same_model(train, contract, toy):
    """Two trainings with one seed export to the same bytes, another seed to others."""
    features = train.learn_features(contract, toy)
    graphs = [train.to_onnx(train.train(features, toy, epochs=1, seed=seed)) for seed in (1, 1, 2)]
    assert graphs[0] == graphs[1] != graphs[2]


@pytest.mark.parametrize("rows", [1, 5])
def test_the_exported_graph_equals_pytorch(train, contract, toy, rows):
    """For any number of rows, an empty basket and an unknown store included, both give the same shares."""
    features = train.learn_features(contract, toy)
    model = train.train(features, toy, epochs=1)
    columns = {"items": [[], *toy.items[: rows - 1]], "store_id": [99_999] + [1] * (rows - 1)}
    inputs = features.encode(columns, rows)
    exported = train.onnx_scorer(train.to_onnx(model))(inputs)["scores"]
    np.testing.assert_allclose(exported, train.torch_scorer(model)(inputs)["scores"], rtol=1e-5)


def test_retraining_on_a_sample_agrees_with_the_bundle(train, baskets, contract, unified_table):
    """On the busiest stores a model trained anew scores within the interval of the committed one, above popularity."""
    everything = baskets.read_baskets(unified_table, last_week=baskets.LAST_TRAINING_WEEK)
    stores, sizes = np.unique(everything.store_id, return_counts=True)
    sample = sorted(stores[np.argsort(-sizes, kind="stable")[:SAMPLE_STORES]].tolist())
    training = baskets.read_baskets(unified_table, last_week=baskets.LAST_TRAINING_WEEK, stores=sample)
    requests = baskets.held_out_requests(unified_table, sample)
    features = train.learn_features(contract, training)
    model = train.train(features, training, epochs=train.EPOCHS, seed=1)
    anew = train.evaluate(
        train.suggest(features, train.torch_scorer(model), requests), requests, train.Popularity(training)
    )
    committed = open_bundle(train.BUNDLE)
    scorer = train.onnx_scorer(committed.model_path.read_bytes())
    before = train.evaluate(
        train.suggest(committed.features, scorer, requests), requests, train.Popularity(training)
    ).metrics
    assert before["recall_at_10_low"] <= anew.metrics["recall_at_10"] <= before["recall_at_10_high"]
    assert anew.metrics["gain_over_popularity"] >= train.GAIN_WANTED


def test_the_committed_figures_are_those_of_the_data(train, baskets, unified_table):
    """Evaluated on the unified table as the pipeline makes it, the committed bundle has the figures it brings along."""
    committed = open_bundle(train.BUNDLE)
    requests = baskets.held_out_requests(unified_table)
    scorer = train.onnx_scorer(committed.model_path.read_bytes())
    popular = train.Popularity(baskets.read_baskets(unified_table, last_week=baskets.LAST_TRAINING_WEEK))
    figures = train.evaluate(train.suggest(committed.features, scorer, requests), requests, popular).metrics
    assert figures == pytest.approx(dict(committed.metrics), abs=1e-3)
