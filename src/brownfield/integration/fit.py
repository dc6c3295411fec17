"""``fit``: what ``brownfield fit`` makes a model of, and what it judges it by."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from msgspec import Meta, field

from brownfield.integration.kinds import FieldName, Identifier, RelativePath
from brownfield.integration.reader import Contradiction, Spec
from brownfield.integration.words import KeyPath

__all__ = ["FitRowsSpec", "FitSourceSpec", "FitSpec"]


class FitSourceSpec(Spec, frozen=True, kw_only=True):
    """Where the model comes from, when it does not come as the bundle's own file; one of three."""

    module: Annotated[RelativePath, Meta(description="Python file whose build() gives a PyTorch module.")] | None = None
    weights: (
        Annotated[
            RelativePath,
            Meta(description="Its weights: .safetensors, or a state dictionary without objects."),
        ]
        | None
    ) = None
    torchscript: Annotated[RelativePath, Meta(description="File that torch.jit.save wrote.")] | None = None
    train: (
        Annotated[RelativePath, Meta(description="Python file whose train(rows, labels) gives a module or ONNX bytes.")]
        | None
    ) = None
    exporter: Annotated[
        Literal["auto", "dynamo", "classic"], Meta(description="How PyTorch writes ONNX; auto takes what agrees.")
    ] = "auto"

    def contradictions(self) -> Iterator[Contradiction]:
        """Refuse none and several sources, and weights of nothing."""
        named = [name for name in ("module", "torchscript", "train") if getattr(self, name) is not None]
        if len(named) != 1:
            yield Contradiction((), "one of module, torchscript and train", " and ".join(named) or "none")
        if self.weights is not None and self.module is None:
            yield Contradiction(("weights",), "weights beside module alone", "others")


class FitRowsSpec(Spec, frozen=True, kw_only=True):
    """Real requests: a file, or a table of the pipeline."""

    file: Annotated[RelativePath, Meta(description="A .npz or .parquet file.")] | None = None
    table: Annotated[Identifier, Meta(description="A table of the pipeline, by its name.")] | None = None
    labels: Annotated[FieldName, Meta(description="Column of the truth.")] | None = None

    def contradictions(self) -> Iterator[Contradiction]:
        """Refuse both and neither."""
        if (self.file is None) == (self.table is None):
            yield Contradiction((), "either file or table", "neither" if self.file is None else "both")


class FitSpec(Spec, frozen=True, kw_only=True):
    """All that a search takes beside bundle and constraints; the command line's options come before it."""

    source: Annotated[FitSourceSpec, Meta(description="A PyTorch model, or a program that trains one.")] | None = None
    rows: Annotated[FitRowsSpec, Meta(description="Real requests to calibrate, search and judge by.")] | None = None
    candidates: Annotated[
        Mapping[Identifier, RelativePath],
        Meta(max_length=16, description="Further ONNX files by name, such as a distilled student."),
    ] = field(default_factory=dict)
    prices: Annotated[RelativePath, Meta(description="The site's price book, for advice.")] | None = None

    def files(self) -> Iterator[tuple[str, KeyPath]]:
        """Name the declared files, with the keys that name them."""
        for key in ("module", "weights", "torchscript", "train"):
            relative = getattr(self.source, key, None)
            if relative is not None:
                yield relative, ("source", key)
        if self.rows is not None and self.rows.file is not None:
            yield self.rows.file, ("rows", "file")
        for name, relative in self.candidates.items():
            yield relative, ("candidates", name)
        if self.prices is not None:
            yield self.prices, ("prices",)
