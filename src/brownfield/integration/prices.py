"""A price book: what a site pays for machines and work, so that advice never rests on invented prices.

In: a YAML file of the site. Out: a frozen :class:`PriceBook`. Refused: whatever a declaration would be refused for.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, field

from brownfield.errors import DeclarationError
from brownfield.integration.kinds import Line, Slug
from brownfield.integration.reader import Reader, Spec
from brownfield.integration.registry import DEFAULT
from brownfield.integration.strict_yaml import MAX_BYTES, load_document

__all__ = ["MachinePrice", "Price", "PriceBook", "load_prices"]

_Money = Annotated[float, Meta(ge=0, le=1_000_000_000_000)]


class Price(Spec, frozen=True, kw_only=True):
    """What one way out costs; all amounts in the book's currency."""

    purchase: Annotated[_Money, Meta(description="Paid once.")] = 0
    run_per_month: Annotated[_Money, Meta(description="Paid each month.")] = 0
    effort_days: Annotated[float, Meta(ge=0, le=10_000, description="Days of work until it runs.")] = 0
    lead_time_days: Annotated[int, Meta(ge=0, le=3650, description="Days until it can be used.")] | None = None
    risk: Annotated[Line, Meta(description="What may go wrong, in one sentence.")] | None = None


class MachinePrice(Price, frozen=True, kw_only=True):
    """A machine that could take the place of the present one."""

    cores: Annotated[int, Meta(ge=1, le=1024, description="Cores that the model may use on it.")]
    memory_mib: Annotated[int, Meta(ge=16, description="Memory that the model may use on it.")]
    speed: Annotated[
        float, Meta(gt=0, le=100, description="Speed of one of its cores, as a multiple of a core where fit measured.")
    ] = 1
    instructions: Annotated[
        tuple[str, ...],
        Meta(description="Instruction sets that matter, by the kernel's names, such as avx512_vnni."),
    ] = ()


class PriceBook(Spec, frozen=True, kw_only=True):
    """The file that ``fit.prices`` names."""

    currency: Annotated[str, Meta(pattern=r"^[A-Z]{3}$", extra={"words": "three capital letters, such as EUR"})]
    day_rate: Annotated[_Money, Meta(description="Price of a day of work.")] = 0
    months: Annotated[int, Meta(ge=1, le=240, description="Months over which purchases and work are spread.")] = 36
    kind: Annotated[
        Literal["own", "example"], Meta(description="An example's prices are marked as such wherever they are shown.")
    ] = "own"
    rule: Annotated[Price, Meta(description="A rule in place of the model.")] | None = None
    batch: Annotated[Price, Meta(description="Scoring in batches ahead of the requests.")] | None = None
    cache: Annotated[Price, Meta(description="Answering repeated requests from memory.")] | None = None
    smaller_model: Annotated[Price, Meta(description="A smaller or distilled model.")] | None = None
    machines: Annotated[Mapping[Slug, MachinePrice], Meta(max_length=64, description="Machines to choose from.")] = (
        field(default_factory=dict)
    )
    node: Annotated[Price, Meta(description="One more machine like the present one.")] | None = None
    gpu: Annotated[Price, Meta(description="A machine with an accelerator.")] | None = None

    def monthly(self, price: Price) -> float:
        """Cost of a month: purchase and work spread over the months, and what is paid each month.

        Examples
        --------
        >>> PriceBook(currency="EUR", day_rate=600).monthly(Price(purchase=3600, run_per_month=10, effort_days=3))
        160.0
        """
        return (price.purchase + price.effort_days * self.day_rate) / self.months + price.run_per_month


def load_prices(file: Path) -> PriceBook:
    """Read a price book.

    Raises
    ------
    DeclarationError
        With everything that is wrong in it.
    """
    if not file.is_file():
        raise DeclarationError(where=str(file), path="fit.prices", expected="a price book", got="no such file")
    if file.stat().st_size > MAX_BYTES:
        raise DeclarationError(where=file.name, expected=f"at most {MAX_BYTES} bytes", got="more")
    return Reader(load_document(file.read_bytes(), file.name), DEFAULT).read(PriceBook)
