"""Which reading of redefined bytes a record has: branches of REDEFINES, chosen by values of earlier fields."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from brownfield.data.formats.code_page import CodePage
from brownfield.data.formats.layout import Branch, Item, Layout
from brownfield.data.formats.numbers import Writing, decode_number
from brownfield.data.formats.presence import block_of, enter, place_count
from brownfield.errors import DeclarationError, RejectionCode

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]
    Whole = NDArray[np.int64]
    Mask = NDArray[np.bool_]

__all__ = ["Choice", "Chooser", "Fault"]


class Fault(NamedTuple):
    """Why a record is refused for its structure: the code, the field, and the byte of the record."""

    code: RejectionCode
    field: str
    offset: int


class Choice(NamedTuple):
    """When a branch of a REDEFINES is read.

    Parameters
    ----------
    field
        An earlier field; empty where the branch is always read.
    values
        Its values, all texts or all whole numbers.
    """

    field: str = ""
    values: tuple[str | int, ...] = ()


class Chooser:
    """Chooses the branches of records by declared rules.

    Parameters
    ----------
    layout
        The record.
    characters
        Gives the character set of a field.
    writing
        The machine that wrote the numbers.
    rules
        When a branch is read, by its name.

    Raises
    ------
    DeclarationError
        When a rule does not fit the layout.
    """

    def __init__(
        self, layout: Layout, characters: Callable[[str], CodePage], writing: Writing, rules: Mapping[str, Choice]
    ) -> None:
        self.layout = layout
        self.characters = characters
        self.writing = writing
        self.rules = rules
        self.items = {item.name: item for item in layout.items}
        for name in rules:
            self._check_rule(name)
        for branches in self.areas:
            self._check_area(branches)

    @cached_property
    def areas(self) -> list[list[Branch]]:
        """Branches with a rule, those of the same bytes together, outer bytes first."""
        areas: dict[str, list[Branch]] = {}
        for branch in self.layout.branches:
            if branch.name in self.rules:
                areas.setdefault(branch.area, []).append(branch)
        return sorted(areas.values(), key=lambda branches: len(branches[0].gates))

    def _check_rule(self, name: str) -> None:
        branch = next((each for each in self.layout.branches if each.name == name), None)
        path = f"redefine_rule.{name}"
        if branch is None:
            known = ", ".join(each.name for each in self.layout.branches) or "none"
            raise DeclarationError(path=path, expected=f"a branch of REDEFINES (there are {known})", got="another name")
        rule = self.rules[name]
        outer = [gate for gate in branch.gates if isinstance(gate, str) and gate not in self.rules]
        if outer:
            raise DeclarationError(path=path, expected=f"a rule for {outer[0]} around it as well", got="none")
        if not rule.field:
            return
        item = self.items.get(rule.field)
        before = item is not None and item.offset + item.length <= branch.offset and not item.scale
        if item is None or not before or item.usage == "float" or item.gates != branch.gates[: len(item.gates)]:
            raise DeclarationError(
                path=f"{path}.field",
                expected="a text or whole number that stands before the redefined bytes, in each record or entry",
                got=rule.field,
            )
        kind = str if item.usage == "text" else int
        if not all(isinstance(value, kind) and not isinstance(value, bool) for value in rule.values):
            words = "texts" if kind is str else "whole numbers"
            raise DeclarationError(path=f"{path}.values", expected=f"{words}, like the field", got="others")

    def _check_area(self, branches: Sequence[Branch]) -> None:
        rules = [self.rules[branch.name] for branch in branches]
        values = [value for rule in rules for value in rule.values]
        unclear = len(rules) > 1 and (len({rule.field for rule in rules}) > 1 or not rules[0].field)
        if unclear or len(set(values)) < len(values):
            raise DeclarationError(
                path=f"redefine_rule.{branches[-1].name}",
                expected="branches of the same bytes that are told apart by different values of one field",
                got="rules that may hold together",
            )

    def choose(
        self, matrix: "Bytes", counts: "Mapping[str, Whole]", depths: Mapping[str, int]
    ) -> "tuple[dict[str, Mask], dict[int, Fault]]":
        """Find the branches that are read: for each place that a branch could have, and the records without one."""
        chosen: dict[str, Mask] = {}
        faults: dict[int, Fault] = {}
        for branches in self.areas:
            gates = branches[0].gates
            places = enter(gates, len(matrix), counts, depths, chosen)
            found = np.zeros(len(places.rows), dtype=bool)
            for branch in branches:
                rule = self.rules[branch.name]
                here = self._holds(matrix, rule, places.flats)
                found |= here
                chosen[branch.name] = np.zeros(len(matrix) * place_count(gates), dtype=bool)
                chosen[branch.name][places.flats[-1]] = here
            selector = self.items.get(self.rules[branches[0].name].field)
            if selector is not None:
                strides = [axis.stride for axis in selector.axes]
                for place in np.flatnonzero(~found):
                    offset = selector.offset + _shift(selector, places.flats, int(place), strides)
                    faults.setdefault(
                        int(places.rows[place]), Fault(RejectionCode.DECODE_BRANCH, selector.name, offset)
                    )
        return chosen, faults

    def left_out(self, chosen: "Mapping[str, Mask]", rows: int) -> "Whole":
        """Bytes at the end of each record that its branch does not have."""
        left_out = np.zeros(rows, dtype=np.int64)
        for branches in self.areas:
            ends = [each for each in self.layout.branches if each.area == branches[0].area]
            if branches[0].gates or max(each.offset + each.length for each in ends) < self.layout.record_bytes:
                continue
            for branch in branches:
                left_out[chosen[branch.name]] = self.layout.record_bytes - branch.offset - branch.length
        return left_out

    def _holds(self, matrix: "Bytes", rule: Choice, flats: "Sequence[Whole]") -> "Mask":
        """Tell for each place whether a rule holds there."""
        if not rule.field:
            return np.ones(len(flats[-1]), dtype=bool)
        item = self.items[rule.field]
        block = block_of(matrix, item)[flats[len(item.axes)]]
        if item.usage != "text":
            values, bad = decode_number(block, item, self.writing)
            return np.isin(values, rule.values) & ~bad
        mask = np.zeros(len(block), dtype=bool)
        page = self.characters(item.name)
        for value in rule.values:
            text = page.encode(str(value)).ljust(item.length, bytes([page.space]))
            if len(text) == item.length:
                mask |= (block == np.frombuffer(text, dtype=np.uint8)).all(axis=1)
        return mask


def _shift(item: Item, flats: "Sequence[Whole]", place: int, strides: Sequence[int]) -> int:
    """Bytes from the first place of a field to the one that belongs to a place of a branch."""
    return sum(
        int(flats[depth + 1][place] % axis.count) * stride
        for depth, (axis, stride) in enumerate(zip(item.axes, strides, strict=True))
    )
