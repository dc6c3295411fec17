"""The one error tree, the violations that a refusal carries, and the closed list of rejection codes.

Every error says where, what was expected, what was found and what to do next, and carries the same as attributes
that survive pickling. Core errors know no HTTP status, SOAP fault or exit code: the door or the command line maps them.
A value of a record never stands in a message: records may hold personal data.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

__all__ = [
    "AccessDenied",
    "BrownfieldError",
    "BundleRefused",
    "ContractError",
    "DeadlineExceeded",
    "DeclarationError",
    "DecryptionFailed",
    "Fenced",
    "Forbidden",
    "FormatError",
    "InputRefused",
    "ModelFailed",
    "NotFound",
    "OutputRefused",
    "Overloaded",
    "QuarantineFull",
    "RejectionCode",
    "RunPaused",
    "SinkRefused",
    "SinkUnavailable",
    "SourceChanged",
    "SourceUnavailable",
    "StoreError",
    "StoreTooNew",
    "Unauthenticated",
    "Unavailable",
    "Violation",
    "WorkerUnavailable",
    "there_are",
]

_MOST_NAMED = 20


class RejectionCode(StrEnum):
    """Why a record or a request was refused: a closed list, stable across releases (dashboards rely on it).

    Families: ``JSON`` the body as text, ``FLD`` one field's presence and type, ``RUL`` a declared rule,
    ``TEN`` a V2 tensor, ``DEC`` legacy bytes that do not decode, ``QUA`` a record that waits in quarantine for others,
    ``MAP`` a value that the mapping file does not admit, ``FIL`` a delivered file as a whole, ``MSG`` a queue's message
    as a whole, ``REQ`` the request around the body.
    """

    JSON_EMPTY = "BF-JSON-001"
    JSON_SYNTAX = "BF-JSON-002"
    JSON_ENCODING = "BF-JSON-003"
    JSON_NUL = "BF-JSON-004"
    JSON_DEPTH = "BF-JSON-005"
    JSON_DUPLICATE_KEY = "BF-JSON-006"
    JSON_NUMBER = "BF-JSON-007"
    JSON_TOO_MANY_KEYS = "BF-JSON-008"
    JSON_SHAPE = "BF-JSON-009"

    FIELD_UNKNOWN = "BF-FLD-001"
    FIELD_MISSING = "BF-FLD-002"
    FIELD_NULL = "BF-FLD-003"
    FIELD_TYPE = "BF-FLD-004"
    FIELD_INEXACT = "BF-FLD-005"
    FIELD_ZONE = "BF-FLD-006"

    RULE_RANGE = "BF-RUL-001"
    RULE_ENUM = "BF-RUL-002"
    RULE_PATTERN = "BF-RUL-003"
    RULE_LENGTH = "BF-RUL-004"
    RULE_ITEMS = "BF-RUL-005"
    RULE_RECORD = "BF-RUL-006"
    RULE_UNIQUE = "BF-RUL-007"
    RULE_REFERENCE = "BF-RUL-008"
    RULE_ROW_COUNT = "BF-RUL-009"

    TENSOR_UNKNOWN = "BF-TEN-001"
    TENSOR_MISSING = "BF-TEN-002"
    TENSOR_DATATYPE = "BF-TEN-003"
    TENSOR_SHAPE = "BF-TEN-004"
    TENSOR_DATA = "BF-TEN-005"

    DECODE_SHORT = "BF-DEC-001"
    DECODE_LONG = "BF-DEC-002"
    DECODE_COLUMNS = "BF-DEC-003"
    DECODE_QUOTE = "BF-DEC-004"
    DECODE_TEXT = "BF-DEC-005"
    DECODE_NUMBER = "BF-DEC-006"
    DECODE_DATE = "BF-DEC-007"
    DECODE_COUNT = "BF-DEC-008"
    DECODE_BRANCH = "BF-DEC-009"
    DECODE_DIGIT = "BF-DEC-013"
    DECODE_SIGN = "BF-DEC-014"
    DECODE_ZONE = "BF-DEC-015"

    PARKED = "BF-QUA-001"
    SHADOWED = "BF-QUA-002"

    MAP_CODE = "BF-MAP-001"
    MAP_NUMBER = "BF-MAP-002"
    MAP_BOOLEAN = "BF-MAP-003"
    MAP_DATE = "BF-MAP-004"
    MAP_ZONE = "BF-MAP-005"
    MAP_SPLIT = "BF-MAP-006"

    FILE_EMPTY = "BF-FIL-001"
    FILE_LENGTH = "BF-FIL-002"
    FILE_DIGEST = "BF-FIL-003"
    FILE_COUNT = "BF-FIL-004"
    FILE_TOTAL = "BF-FIL-005"
    FILE_TRAILER = "BF-FIL-006"
    FILE_MARKER = "BF-FIL-007"
    FILE_CHANGED = "BF-FIL-008"
    FILE_FORMAT = "BF-FIL-009"

    MESSAGE_POISON = "BF-MSG-001"
    MESSAGE_TOO_LARGE = "BF-MSG-002"
    MESSAGE_BODY = "BF-MSG-003"
    MESSAGE_NO_ID = "BF-MSG-004"

    REQUEST_TOO_LARGE = "BF-REQ-001"
    REQUEST_TOO_MANY_ROWS = "BF-REQ-002"
    REQUEST_MEDIA_TYPE = "BF-REQ-003"
    REQUEST_PARAMETER = "BF-REQ-004"


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule of one record; never the value.

    Parameters
    ----------
    field
        Path inside the record, such as ``items[3]``; empty for the record as a whole.
    rule
        Identifier of the rule in the contract, such as ``quantity.range`` or a declared rule's name.
    code
        Family of the rule, from the closed list.
    row
        Index of the record in the request or batch, from 0.
    expected
        What the rule asks for, in words; empty where its name says all. Made of what is declared, not of what was sent.
    """

    field: str
    rule: str
    code: RejectionCode
    row: int = 0
    expected: str = ""


class BrownfieldError(Exception):
    """Root of everything Brownfield raises on purpose.

    Parameters
    ----------
    what
        What went wrong, in one clause; when empty, ``expected`` and ``got`` say it.
    where
        ``file:line`` (or a source, table, record) in which it was found.
    path
        Path of the declaration key or record field.
    expected, got
        The two sides of the disagreement, in words. ``got`` never holds a record's value.
    next_step
        What to do about it, as a full sentence.

    Examples
    --------
    >>> print(DeclarationError(where="integration.yaml:31", path="rollout.steps[2].setWeight",
    ...                        expected="a number in (0, 100]", got="250",
    ...                        next_step="Weights are cumulative shares of traffic."))
    integration.yaml:31: rollout.steps[2].setWeight: expected a number in (0, 100], got 250. \
Weights are cumulative shares of traffic.
    """

    code: str = "BF-ERR-000"

    def __init__(
        self,
        what: str = "",
        *,
        where: str | None = None,
        path: str | None = None,
        expected: str | None = None,
        got: str | None = None,
        next_step: str | None = None,
    ) -> None:
        self.what = what
        self.where = where
        self.path = path
        self.expected = expected
        self.got = got
        self.next_step = next_step
        super().__init__(what)

    def __str__(self) -> str:
        clauses = [self.what] if self.what else []
        if self.expected is not None:
            clauses.append(f"expected {self.expected}" + ("" if self.got is None else f", got {self.got}"))
        elif self.got is not None:
            clauses.append(f"got {self.got}")
        message = ": ".join(part for part in (self.where, self.path, "; ".join(clauses)) if part)
        if self.next_step:
            message = f"{message.rstrip('.')}. {self.next_step}"
        return message

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), dict(self.__dict__)))


def _rebuild(kind: type[BrownfieldError], attributes: dict[str, Any]) -> BrownfieldError:
    error = kind.__new__(kind)
    error.__dict__.update(attributes)
    Exception.__init__(error, attributes.get("what", ""))
    return error


class DeclarationError(BrownfieldError):
    """A workspace, integration, features or mapping file says something it must not say."""

    code = "BF-ERR-DECLARATION"


class SourceChanged(DeclarationError):
    """A source's fields are no longer what they were when it was last read."""

    code = "BF-ERR-SOURCE-CHANGED"


class ContractError(DeclarationError):
    """A contract contradicts itself or the open data contract standard."""

    code = "BF-ERR-CONTRACT"


class InputRefused(BrownfieldError):
    """Records or tensors that the contract does not admit; carries every violation found (up to a cap).

    Parameters
    ----------
    violations
        At least one.

    Examples
    --------
    >>> refusal = InputRefused([Violation("quantity", "quantity.range", RejectionCode.RULE_RANGE, 0, "at least 1")])
    >>> str(refusal)
    'record 0: quantity: BF-RUL-001 (rule quantity.range); expected at least 1'
    """

    code = "BF-ERR-INPUT"

    def __init__(self, violations: Iterable[Violation], *, next_step: str | None = None) -> None:
        self.violations = tuple(violations)
        first = self.violations[0]
        more = len(self.violations) - 1
        super().__init__(
            f"{first.code} (rule {first.rule})" + (f" and {more} more" if more else ""),
            where=f"record {first.row}",
            path=first.field or None,
            expected=first.expected or None,
            next_step=next_step,
        )


class FormatError(BrownfieldError):
    """A whole file or layout cannot be read (a single bad record is a rejection instead)."""

    code = "BF-ERR-FORMAT"


class Unavailable(BrownfieldError):
    """A system that is needed is out of reach just now."""

    code = "BF-ERR-UNAVAILABLE"


class SourceUnavailable(Unavailable):
    """A legacy source cannot be reached or read."""

    code = "BF-ERR-SOURCE"


class SinkUnavailable(Unavailable):
    """A sink cannot be reached or written just now; the same effect may be asked for again."""

    code = "BF-ERR-SINK"


class SinkRefused(BrownfieldError):
    """A sink does not admit these records; asking again would not help."""

    code = "BF-ERR-SINK-REFUSED"


class Fenced(BrownfieldError):
    """Another owner has taken over since; what this one does has no effect any more."""

    code = "BF-ERR-FENCED"


class WorkerUnavailable(Unavailable):
    """No model process is there to answer."""

    code = "BF-ERR-WORKER"


class Overloaded(Unavailable):
    """More is offered than can be answered before the deadline."""

    code = "BF-ERR-OVERLOAD"


class DeadlineExceeded(BrownfieldError):
    """The answer would come too late."""

    code = "BF-ERR-DEADLINE"


class ModelFailed(BrownfieldError):
    """The model process answered with an error instead of tensors."""

    code = "BF-ERR-MODEL"


class OutputRefused(BrownfieldError):
    """The model's answer breaks the contract: NaN, a wrong shape, a value out of range."""

    code = "BF-ERR-OUTPUT"


class BundleRefused(BrownfieldError):
    """A bundle or model file is not admitted; ``rule`` says by which check.

    Parameters
    ----------
    what
        What is wrong with it.
    rule
        Stable identifier of the check, such as ``manifest-digest`` or ``onnx-external-data``.
    """

    code = "BF-ERR-BUNDLE"

    def __init__(self, what: str = "", *, rule: str, **details: str | None) -> None:
        self.rule = rule
        super().__init__(what, **details)


class RunPaused(BrownfieldError):
    """A run stopped at a declared guard and kept nothing: too many records refused, or too few there."""

    code = "BF-ERR-PAUSED"


class StoreError(BrownfieldError):
    """The workspace's store cannot do what it was asked."""

    code = "BF-ERR-STORE"


class QuarantineFull(StoreError):
    """The quarantine has no room for what was refused; nothing of the run is kept."""

    code = "BF-ERR-QUARANTINE-FULL"


class DecryptionFailed(StoreError):
    """What was encrypted at rest cannot be opened: its key is not declared, or it was changed."""

    code = "BF-ERR-DECRYPTION"


class StoreTooNew(StoreError):
    """The store was written by a newer Brownfield than this one."""

    code = "BF-ERR-STORE-NEWER"


class AccessDenied(BrownfieldError):
    """Root of the two ways in which access is denied."""

    code = "BF-ERR-ACCESS"


class Unauthenticated(AccessDenied):
    """No valid token came with the request."""

    code = "BF-ERR-UNAUTHENTICATED"


class Forbidden(AccessDenied):
    """Who asks is known, and this is not granted."""

    code = "BF-ERR-FORBIDDEN"


class NotFound(BrownfieldError):
    """There is no integration, model, version or file of that name."""

    code = "BF-ERR-NOT-FOUND"


def there_are(names: Iterable[str], which: str = "There") -> str:
    """Write the next step that names what there is, the first twenty of many.

    Parameters
    ----------
    names
        What there is.
    which
        Begin of the sentence.

    Examples
    --------
    >>> there_are(["shop"]), there_are(["shop", "bank"], "The nearest"), there_are([])
    ('There is shop.', 'The nearest are shop, bank.', 'There is none.')
    """
    known = list(names)
    more = f" and {len(known) - _MOST_NAMED:,} more" if len(known) > _MOST_NAMED else ""
    return f"{which} {'are' if len(known) > 1 else 'is'} {', '.join(known[:_MOST_NAMED]) or 'none'}{more}."
