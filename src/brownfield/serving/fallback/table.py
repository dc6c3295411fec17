"""A declared table of answers: a CSV file, looked up in memory by fields of the request.

Columns named like response fields hold the answer; every other column is a key, named like a request field of text,
whole numbers or true/false. List values are separated by ``|``; an empty cell is a missing value (or an empty list).
Refused at load: unknown columns, no key, no answer, cells of another type, a key twice, an answer out of contract.
"""

import csv
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brownfield.errors import DeclarationError, InputRefused

if TYPE_CHECKING:
    from brownfield.contract import Field, Schema
    from brownfield.types import Columns

__all__ = ["Table"]

_KEY_KINDS = frozenset({"string", "integer", "boolean"})
_BOOLEANS = {"true": True, "false": False}
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)


class Table:
    """Answers from a table in memory, when it has every key that is asked for.

    Parameters
    ----------
    keys
        Request fields that make the key, in order.
    answers
        Response values by field, under the tuple of key values.

    Examples
    --------
    >>> table = Table(("store_id",), {(7,): {"items": ["MILK"]}})
    >>> table.answer({"store_id": [7, 7]}, 2)
    {'items': [['MILK'], ['MILK']]}
    >>> table.answer({"store_id": [7, 8]}, 2) is None
    True
    """

    source = "table"
    ready = True

    def __init__(self, keys: tuple[str, ...], answers: Mapping[tuple[Any, ...], Mapping[str, Any]]) -> None:
        self._keys = keys
        self._answers = answers

    @classmethod
    def from_csv(cls, path: Path, request: "Schema", response: "Schema") -> "Table":
        """Load and check a table.

        Raises
        ------
        DeclarationError
            With ``file:line``, when the file cannot be read or says something it must not say.
        """
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                rows = list(csv.reader(file, strict=True))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DeclarationError(
                "the fallback table cannot be read",
                where=path.name,
                next_step="Give a CSV file in UTF-8 with a header line.",
            ) from error
        header = rows[0] if rows else []
        keys, values = _split_header(path.name, header, request, response)
        answers: dict[tuple[Any, ...], dict[str, Any]] = {}
        for line, row in enumerate(rows[1:], start=2):
            where = f"{path.name}:{line}"
            if len(row) != len(header):
                raise DeclarationError(where=where, expected=f"{len(header)} cells", got=str(len(row)))
            cells = dict(zip(header, row, strict=True))
            key = tuple(_cell(cells[name], field, where) for name, field in keys.items())
            if key in answers:
                raise DeclarationError("the key stands in the table twice", where=where)
            answers[key] = {name: _cell(cells[name], field, where) for name, field in values.items()}
            _check_answer(answers[key], response, where)
        return cls(tuple(keys), answers)

    def answer(self, columns: "Columns", rows: int) -> "Columns | None":
        """Look every record up; None unless the table has all of them."""
        try:
            keys = zip(*(columns[name] for name in self._keys), strict=True)
            found = [self._answers.get(key) for key in keys]
        except KeyError:
            return None
        if len(found) != rows or None in found:
            return None
        answers = [answer for answer in found if answer is not None]
        return {name: [answer[name] for answer in answers] for name in answers[0]}


def _split_header(
    file: str, header: list[str], request: "Schema", response: "Schema"
) -> "tuple[dict[str, Field], dict[str, Field]]":
    keys: dict[str, Field] = {}
    values: dict[str, Field] = {}
    for name in header:
        if name in keys or name in values:
            raise DeclarationError(where=f"{file}:1", path=name, expected="every column once", got="it twice")
        if name in response.names:
            values[name] = response.field(name)
        elif name in request.names and request.field(name).kind in _KEY_KINDS:
            keys[name] = request.field(name)
        else:
            raise DeclarationError(
                where=f"{file}:1",
                path=name,
                expected="a response field, or a request field of text, whole numbers or true/false",
                got="another name or type",
                next_step=f"Known: {', '.join((*request.names, *response.names))}.",
            )
    if not keys or not values:
        missing = "key" if not keys else "answer"
        raise DeclarationError(
            where=f"{file}:1", expected="columns for the key and for the answer", got=f"no {missing}"
        )
    return keys, values


def _cell(text: str, field: "Field", where: str) -> Any:
    if field.kind == "list" and field.item is not None:
        return [_cell(part, field.item, where) for part in text.split("|")] if text else []
    if not text:
        return None
    try:
        return _parsed(text, field)
    except (ValueError, KeyError):
        raise DeclarationError(where=where, path=field.name, expected=f"a cell of type {field.kind}") from None


def _parsed(text: str, field: "Field") -> Any:
    if field.kind == "integer":
        if not text.removeprefix("-").isascii() or not text.removeprefix("-").isdigit():
            raise ValueError(text)
        return int(text)
    if field.kind == "number":
        if not _NUMBER.fullmatch(text):
            raise ValueError(text)
        return float(text)
    if field.kind == "boolean":
        return _BOOLEANS[text]
    if field.kind == "tensor":
        raise ValueError(text)
    return text


def _check_answer(answer: Mapping[str, Any], response: "Schema", where: str) -> None:
    try:
        response.rows.check([answer])
    except InputRefused as refused:
        raise DeclarationError(
            f"this answer breaks the response contract: {refused}", where=where, next_step="Mend the table."
        ) from refused
