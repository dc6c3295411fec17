"""The features file as declared: checked against the contract, not yet learned.

In: the YAML document, and the request and response schemas. Out: a FeaturesSpec.
Refused, with file and line: unknown fields, kinds and keys, scales of zero, bounds that are not finite,
a response field that is filled twice or not at all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from brownfield.data.features.inputs import (
    TEXT_DTYPE,
    Category,
    InputFeature,
    MultiHot,
    Numeric,
    RawInput,
    SequenceInput,
)
from brownfield.data.features.outputs import Argmax, OutputFeature, RawOutput, Scalar, Threshold, TopK
from brownfield.data.features.reading import Place, Reader, Where, nearest
from brownfield.data.features.vocabulary import Label, Vocabulary

if TYPE_CHECKING:
    from brownfield.contract import Field, Schema

__all__ = ["FeaturesSpec", "InputSpec", "OutputSpec", "ScalingSpec", "VocabularySpec", "parse_features", "tensor_dtype"]

INPUT_KINDS: Mapping[str, tuple[type[Any], tuple[str, ...]]] = {
    "numeric": (Numeric, ("number", "integer", "boolean")),
    "category": (Category, ("string", "integer", "boolean")),
    "multi_hot": (MultiHot, ("list",)),
    "sequence": (SequenceInput, ("list",)),
    "raw": (RawInput, ("number", "integer", "boolean", "string", "tensor")),
}
OUTPUT_KINDS: Mapping[str, tuple[type[Any], tuple[str, ...]]] = {
    "top_k": (TopK, ("list",)),
    "argmax": (Argmax, ("string", "integer", "boolean")),
    "scalar": (Scalar, ("number", "integer")),
    "threshold": (Threshold, ("string", "integer", "boolean")),
    "raw": (RawOutput, ("number", "integer", "boolean", "string", "tensor")),
}
LABEL_KINDS: Mapping[str, type[Any]] = {"string": str, "integer": int, "boolean": bool}
NUMBERS = ("float16", "float32", "float64")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


@dataclass(frozen=True, slots=True)
class VocabularySpec:
    """A vocabulary to be learned: the ``top`` most frequent values that occur ``min_count`` times or more."""

    top: int | None
    min_count: int


@dataclass(frozen=True, slots=True)
class ScalingSpec:
    """What a numeric feature still has to learn; ``center`` and ``scale`` are given where they were declared."""

    kind: Literal["none", "standard", "min_max", "log1p"]
    center: float | None
    scale: float | None
    fill: float | Literal["mean", "min", "max"] | None

    @property
    def known(self) -> bool:
        """Whether nothing is left to be learned."""
        return self.scale is not None and not isinstance(self.fill, str)


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One declared input feature: its kind, what is known of it, and what is to be learned."""

    kind: type[InputFeature]
    options: Mapping[str, Any]
    place: Place
    vocabulary: VocabularySpec | None = None
    scaling: ScalingSpec | None = None

    @property
    def field(self) -> str:
        """The request field it reads."""
        return str(self.options["field"])

    @property
    def lists(self) -> bool:
        """Whether that field holds lists."""
        return self.kind in (MultiHot, SequenceInput)


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """One declared output feature; ``labels_from`` names the input feature whose vocabulary labels its columns."""

    kind: type[OutputFeature]
    options: Mapping[str, Any]
    place: Place
    labels_from: str | None = None


@dataclass(frozen=True, slots=True)
class FeaturesSpec:
    """A features file that agrees with its contract; :func:`~brownfield.data.features.learn` makes it Features."""

    inputs: tuple[InputSpec, ...]
    outputs: tuple[OutputSpec, ...]
    batched: bool


def parse_features(
    document: Mapping[str, Any], request: "Schema", response: "Schema", where: Where | None = None
) -> FeaturesSpec:
    """Check a features file against the contract.

    Parameters
    ----------
    document
        Plain data of the YAML file: lists under ``inputs`` and ``outputs``.
    request, response
        The two sides of the contract.
    where
        Gives ``file:line`` of a path in the document, for errors.

    Returns
    -------
    FeaturesSpec
        What :func:`~brownfield.data.features.learn` takes.

    Raises
    ------
    DeclarationError
        When the file says something it must not say.
    """
    top = Reader(document, Place((), where))
    inputs = tuple(
        _input(entry, top.place.under("inputs", position), request)
        for position, entry in enumerate(top.items("inputs"))
    )
    _check_tensors(inputs)
    vocabularies = {spec.field: spec for spec in inputs if spec.vocabulary or spec.options.get("vocabulary")}
    outputs = tuple(
        _output(entry, top.place.under("outputs", position), request, response, vocabularies)
        for position, entry in enumerate(top.items("outputs"))
    )
    top.finish()
    _check_filled(outputs, response, top.place.under("outputs"))
    return FeaturesSpec(inputs, outputs, request.batched)


def tensor_dtype(field: "Field") -> str:
    """Return the dtype of a tensor that holds a field as it stands (``object`` for texts).

    Parameters
    ----------
    field
        Of the contract; its own ``dtype`` wins where it has one.
    """
    return field.dtype or ("bool" if field.kind == "boolean" else TEXT_DTYPE)


def _field(reader: Reader, key: str, schema: "Schema", side: str, kinds: Sequence[str] = ()) -> "Field":
    """Return the field that a key names; of one of the ``kinds``, unless there are none."""
    name = reader.text(key)
    fields = {field.name: field for field in schema.fields}
    if name not in fields:
        raise reader.place.under(key).error(
            expected=f"a field of the {side}", got=repr(name), next_step=nearest(name, fields)
        )
    field = fields[name]
    if kinds and field.kind not in kinds:
        raise reader.place.under(key).error(
            expected=f"a field of type {' or '.join(kinds)}", got=f"{name!r} of type {field.kind}"
        )
    return field


def _optional_field(reader: Reader, key: str, schema: "Schema", side: str, kinds: Sequence[str]) -> str | None:
    if reader.value(key, None) is None:
        return None
    return _field(reader, key, schema, side, kinds).name


def _input(data: Any, place: Place, request: "Schema") -> InputSpec:
    reader = Reader(data, place)
    kind = reader.choice("kind", tuple(INPUT_KINDS))
    made, takes = INPUT_KINDS[kind]
    field = _field(reader, "field", request, "request", takes)
    if field.kind == "list" and (field.item is None or field.item.kind not in LABEL_KINDS):
        raise place.under("field").error(expected="a list of texts, integers or booleans")
    common = {"field": field.name, "tensor": reader.text("tensor")}
    read = {
        "numeric": _numeric,
        "category": _category,
        "multi_hot": _multi_hot,
        "sequence": _sequence,
        "raw": _raw,
    }[kind]
    options, vocabulary, scaling = read(reader, field)
    reader.finish()
    return InputSpec(made, {**common, **options}, place, vocabulary, scaling)


_Read = tuple[dict[str, Any], VocabularySpec | None, ScalingSpec | None]


def _numeric(reader: Reader, field: "Field") -> _Read:
    kind = reader.choice("scaling", ("none", "standard", "min_max", "log1p"), "none")
    center, scale = _declared_scale(reader, kind)
    fill = reader.value("fill", None)
    fill = reader.choice("fill", ("mean", "min", "max")) if isinstance(fill, str) else reader.number("fill", None)
    if fill is None and _may_be_missing(field):
        raise reader.place.error(
            f"the contract lets {field.name!r} be missing",
            expected="the key 'fill'",
            next_step="Say what stands in for it: a number, mean, min or max.",
        )
    if kind == "log1p" and not _above_minus_one(field):
        raise reader.place.under("scaling").error(
            "the logarithm of 1 + value needs values above -1",
            next_step=f"Declare a minimum for {field.name!r} in the contract.",
        )
    options = {
        "dtype": reader.choice("dtype", NUMBERS, "float32"),
        "shape": _flat(reader),
        "mask": reader.flag("mask", False),
        "log1p": kind == "log1p",
    }
    return options, None, ScalingSpec(kind, center, scale, fill)


def _declared_scale(reader: Reader, kind: str) -> tuple[float | None, float | None]:
    if kind in ("none", "log1p"):
        return 0.0, 1.0
    names = ("mean", "std") if kind == "standard" else ("min", "max")
    given = [name for name in names if name in reader]
    if not given:
        for name in names:
            reader.value(name, None)
        return None, None
    first, second = (float(reader.number(name)) for name in names)
    scale = second if kind == "standard" else second - first
    if not 0 < scale < float("inf"):
        raise reader.place.under(names[1]).error(
            "the scale would not be a positive, finite number",
            expected="a std above 0" if kind == "standard" else "a max above the min",
            got=repr(second),
        )
    return first, scale


def _category(reader: Reader, field: "Field") -> _Read:
    encoding = reader.choice("encoding", ("index", "one_hot"), "index")
    unknowns = ("first", "last", "refuse") if encoding == "index" else ("first", "last", "ignore", "refuse")
    known, learned = _vocabulary(reader, field)
    options = {"encoding": encoding, "unknown": reader.choice("unknown", unknowns, "last")}
    if encoding == "index":
        options |= {"shape": _flat(reader), "dtype": reader.choice("dtype", INTEGERS, "int64")}
    else:
        options["dtype"] = reader.choice("dtype", (*NUMBERS, *INTEGERS), "float32")
    return options | known, learned, None


def _multi_hot(reader: Reader, field: "Field") -> _Read:
    known, learned = _vocabulary(reader, field)
    options = {
        "unknown": reader.choice("unknown", ("ignore", "count", "refuse"), "ignore"),
        "dtype": reader.choice("dtype", (*NUMBERS, *INTEGERS), "float32"),
    }
    return options | known, learned, None


def _sequence(reader: Reader, field: "Field") -> _Read:
    options = {
        "dtype": reader.choice("dtype", INTEGERS, "int64"),
        "length": reader.integer("length", None, minimum=1),
    }
    if "vocabulary" not in reader and field.item is not None and field.item.kind == "integer":
        reader.value("vocabulary", None)
        return options | {"pad": reader.integer("pad", 0)}, None, None
    known, learned = _vocabulary(reader, field)
    options["unknown"] = reader.choice("unknown", ("ignore", "last", "refuse"), "last")
    return options | known, learned, None


def _raw(reader: Reader, field: "Field") -> _Read:
    shape = tuple(field.shape) if field.kind == "tensor" and field.shape is not None else ()
    dtype = tensor_dtype(field)
    if _may_be_missing(field):
        raise reader.place.error(
            f"the contract lets {field.name!r} be missing, and a raw feature has nothing to stand in for it",
            next_step="Make it required in the contract, or impute it there.",
        )
    if "dtype" in reader and dtype != TEXT_DTYPE:
        dtype = reader.choice("dtype", (*NUMBERS, *INTEGERS, "bool"))
    return {"dtype": dtype, "shape": shape}, None, None


def _flat(reader: Reader) -> tuple[int, ...] | None:
    """``shape: []`` asks for a tensor of one dimension, ``[rows]``; without it, it is ``[rows, width]``."""
    shape = reader.value("shape", None)
    if shape is None:
        return None
    if shape != []:
        raise reader.place.under("shape").error(expected="[] (one value a row, without a second dimension)")
    return ()


def _vocabulary(reader: Reader, field: "Field") -> tuple[dict[str, Vocabulary], VocabularySpec | None]:
    value = reader.value("vocabulary")
    place = reader.place.under("vocabulary")
    if isinstance(value, list):
        return {"vocabulary": _labels(value, field.item or field, place)}, None
    inner = Reader(value, place)
    spec = VocabularySpec(inner.integer("top", None, minimum=1), inner.integer("min_count", 1, minimum=1))
    inner.finish()
    return {}, spec


def _labels(values: Sequence[Label], field: "Field", place: Place) -> Vocabulary:
    wanted = LABEL_KINDS.get(field.kind)
    for position, value in enumerate(values):
        if wanted is None or type(value) is not wanted:
            raise place.under(position).error(expected=f"a label of type {field.kind}, as {field.name!r} has")
    try:
        return Vocabulary(tuple(values))
    except ValueError as error:
        raise place.error(str(error)) from error


def _may_be_missing(field: "Field") -> bool:
    return field.null_policy == "pass"


def _above_minus_one(field: "Field") -> bool:
    if field.minimum is None:
        return False
    return bool(field.minimum >= -1 if field.exclusive_minimum else field.minimum > -1)


def _check_tensors(inputs: Sequence[InputSpec]) -> None:
    first: dict[str, InputSpec] = {}
    for spec in inputs:
        other = first.setdefault(spec.options["tensor"], spec)
        if other is spec:
            continue
        tensor = spec.options["tensor"]
        if spec.kind.alone or other.kind.alone or () in (spec.options.get("shape"), other.options.get("shape")):
            raise spec.place.under("tensor").error(f"a feature of tensor {tensor!r} fills the whole of it")
        if spec.options["dtype"] != other.options["dtype"]:
            raise spec.place.error(
                f"the features of tensor {tensor!r} differ in dtype",
                expected=other.options["dtype"],
                got=spec.options["dtype"],
                next_step="Give each the same 'dtype'.",
            )


def _output(
    data: Any, place: Place, request: "Schema", response: "Schema", vocabularies: Mapping[str, InputSpec]
) -> OutputSpec:
    reader = Reader(data, place)
    kind = reader.choice("kind", tuple(OUTPUT_KINDS))
    made, takes = OUTPUT_KINDS[kind]
    field = _field(reader, "field", response, "response", takes)
    options: dict[str, Any] = {"field": field.name, "tensor": reader.text("tensor")}
    labels_from = None
    if kind in ("top_k", "argmax"):
        options["labels"], labels_from = _output_labels(reader, field.item or field, request, vocabularies)
    if kind == "argmax":
        options["score"] = _optional_field(reader, "score", response, "response", ("number",))
    if kind == "top_k":
        options["k"] = reader.integer("k", minimum=1)
        options["scores"] = _optional_field(reader, "scores", response, "response", ("list",))
        options["exclude"] = _optional_field(reader, "exclude", request, "request", ("list",))
    if kind in ("scalar", "threshold"):
        options["column"] = reader.integer("column", 0, minimum=0)
    if kind == "threshold":
        options["threshold"] = float(reader.number("threshold"))
        options["labels"] = _two_labels(reader, field)
    reader.finish()
    return OutputSpec(made, options, place, labels_from)


def _output_labels(
    reader: Reader, field: "Field", request: "Schema", vocabularies: Mapping[str, InputSpec]
) -> tuple[Vocabulary | None, str | None]:
    value = reader.value("labels")
    place = reader.place.under("labels")
    if isinstance(value, list):
        return _labels(value, field, place), None
    if not isinstance(value, str) or value not in vocabularies:
        raise place.error(
            expected="a list of labels, or the field of an input feature with a vocabulary",
            got=repr(value),
            next_step=nearest(value, vocabularies),
        )
    source = request.field(value)
    if (source.item or source).kind != field.kind:
        raise place.error(expected=f"labels of type {field.kind}", got=f"those of {value!r}")
    return None, value


def _two_labels(reader: Reader, field: "Field") -> tuple[Label, ...] | None:
    values = reader.items("labels", None)
    if values is None:
        if field.kind != "boolean":
            raise reader.place.error(expected="two 'labels', since the field is no boolean")
        return None
    if len(values) != 2:  # noqa: PLR2004 (below, and at or above)
        raise reader.place.under("labels").error(expected="two labels: below, and at or above the threshold")
    return _labels(values, field, reader.place.under("labels")).labels


def _check_filled(outputs: Sequence[OutputSpec], response: "Schema", place: Place) -> None:
    filled: set[str] = set()
    for spec in outputs:
        for key in ("field", "scores", "score"):
            name = spec.options.get(key)
            if name is not None and name in filled:
                raise spec.place.under(key).error(f"the response field {name!r} is filled twice")
            filled.add(str(name))
    for field in response.fields:
        if field.required and field.name not in filled:
            raise place.error(
                f"nothing fills the required response field {field.name!r}", next_step="Add an output feature for it."
            )
