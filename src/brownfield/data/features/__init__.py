"""Features: request columns to tensors and back, learned once and frozen, the same code at fit and at serving."""

from brownfield.data.features.features import Features, identity
from brownfield.data.features.inputs import TEXT_DTYPE, RawInput
from brownfield.data.features.learn import learn
from brownfield.data.features.outputs import Argmax, TopK
from brownfield.data.features.spec import FeaturesSpec, parse_features, tensor_dtype
from brownfield.data.features.vocabulary import Vocabulary

__all__ = [
    "TEXT_DTYPE",
    "Argmax",
    "Features",
    "FeaturesSpec",
    "RawInput",
    "TopK",
    "Vocabulary",
    "identity",
    "learn",
    "parse_features",
    "tensor_dtype",
]
