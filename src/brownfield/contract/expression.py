"""The small language of record rules: text in, a type-checked tree out.

Nothing is ever evaluated as Python. Refused: unknown fields (the nearest is named), operands that do not go together,
rules longer than 2,000 characters or deeper than 32 levels.
The tree is evaluated by ``conditions_rows.py`` (plain columns) and ``conditions_arrow.py`` (Arrow columns).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NoReturn

from brownfield.contract.fields import Field
from brownfield.contract.instants import parse_date, parse_timestamp
from brownfield.contract.reading import nearest
from brownfield.errors import ContractError

if TYPE_CHECKING:
    from datetime import date, datetime

__all__ = [
    "Arithmetic",
    "Compare",
    "Constant",
    "Expression",
    "IsNull",
    "Junction",
    "Length",
    "Membership",
    "Negation",
    "Node",
    "Reference",
    "parse_expression",
]

MAX_CHARACTERS = 2000
MAX_DEPTH = 32

Type = Literal["string", "integer", "number", "boolean", "date", "timestamp", "list", "tensor"]


@dataclass(frozen=True, slots=True)
class Reference:
    """The value of a field; ``widened`` reads an integer as 64-bit floating point."""

    name: str
    type: Type
    widened: bool = False


@dataclass(frozen=True, slots=True)
class Constant:
    """A literal."""

    value: Any
    type: Type


@dataclass(frozen=True, slots=True)
class Length:
    """Code points of a text, or items of a list."""

    of: Reference
    type: Type = "integer"


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """``left + right`` and so on in 64-bit floating point; a result that is not finite is missing."""

    operator: str
    left: "Node"
    right: "Node"
    type: Type = "number"


@dataclass(frozen=True, slots=True)
class Compare:
    """``left < right`` and so on; whole numbers exactly, an integer and a number as 64-bit floating point."""

    operator: str
    left: "Node"
    right: "Node"
    type: Type = "boolean"


@dataclass(frozen=True, slots=True)
class Membership:
    """``of in (values)``."""

    of: "Node"
    values: tuple[Any, ...]
    type: Type = "boolean"


@dataclass(frozen=True, slots=True)
class IsNull:
    """``of is null``: never missing itself."""

    of: Reference
    type: Type = "boolean"


@dataclass(frozen=True, slots=True)
class Negation:
    """``not of``."""

    of: "Node"
    type: Type = "boolean"


@dataclass(frozen=True, slots=True)
class Junction:
    """``a and b and ...`` or ``a or b or ...`` in three-valued logic."""

    operator: Literal["and", "or"]
    terms: "tuple[Node, ...]"
    type: Type = "boolean"


Node = Reference | Constant | Length | Arithmetic | Compare | Membership | IsNull | Negation | Junction


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed rule.

    Parameters
    ----------
    text
        As declared.
    root
        The tree, of boolean type.
    fields
        Names of the fields that it reads.
    """

    text: str
    root: Node
    fields: frozenset[str]


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


_TOKEN = re.compile(
    r"(?P<space>[ \t\n]+)"
    r"|(?P<number>[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<text>'(?:[^'\\]|\\['\\])*'|\"(?:[^\"\\]|\\[\"\\])*\")"
    r"|(?P<quoted>`[^`]+`)"
    r"|(?P<word>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<sign>==|!=|<>|<=|>=|[=<>+*/(),-])"
)
_WORDS = frozenset({"and", "or", "not", "in", "is", "null", "true", "false"})
_COMPARISONS = {"=": "==", "==": "==", "!=": "!=", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_NUMERIC = ("integer", "number")
_INT64 = 2**63


def parse_expression(text: str, fields: Sequence[Field]) -> Expression:
    """Parse and type-check a record rule.

    Parameters
    ----------
    text
        The rule, such as ``quantity > 0 and department != 'FUEL'``.
    fields
        Fields of the record.

    Raises
    ------
    ContractError
        When the rule is no rule of this language over these fields.

    Examples
    --------
    >>> rule = parse_expression("quantity > 0", [Field(name="quantity", kind="integer", dtype="int64")])
    >>> rule.root.operator, sorted(rule.fields)
    ('>', ['quantity'])
    >>> parse_expression("quantty > 0", [Field(name="quantity", kind="integer", dtype="int64")])
    Traceback (most recent call last):
    brownfield.errors.ContractError: expected a field of the record, got 'quantty' at character 1. \
Did you mean 'quantity'?
    """
    if len(text) > MAX_CHARACTERS:
        raise ContractError(expected=f"a rule of at most {MAX_CHARACTERS} characters", got=str(len(text)))
    parser = _Parser(list(_tokens(text)), {field.name: field for field in fields})
    root = parser.disjunction()
    parser.end()
    if root.type != "boolean":
        raise ContractError(expected="a condition, which is true or false", got=f"a value of type {root.type}")
    return Expression(text, root, frozenset(parser.read))


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise ContractError(
                expected="a rule",
                got=f"{text[at]!r} at character {at + 1}",
                next_step="See the grammar of record rules.",
            )
        kind = str(found.lastgroup)
        if kind == "word" and found[0].lower() in _WORDS:
            kind = found[0].lower()
        if kind != "space":
            yield _Token(kind, found[0], at + 1)
        at = found.end()
    yield _Token("end", "the end of the rule", at + 1)


class _Parser:
    """Recursive descent, lowest precedence first: or, and, not, comparison, sum, product, minus, operand."""

    def __init__(self, tokens: list[_Token], fields: dict[str, Field]) -> None:
        self.tokens = tokens
        self.fields = fields
        self.at = 0
        self.depth = 0
        self.read: set[str] = set()

    def disjunction(self) -> Node:
        self.enter()
        node = self.junction("or", lambda: self.junction("and", self.inversion))
        self.depth -= 1
        return node

    def junction(self, word: Literal["and", "or"], operand: Any) -> Node:
        terms = [operand()]
        start = self.peek()
        while self.accept(word):
            terms.append(operand())
        if len(terms) == 1:
            return terms[0]  # type: ignore[no-any-return]  # operands are nodes
        for term in terms:
            self.want_boolean(term, start)
        return Junction(word, tuple(terms))

    def inversion(self) -> Node:
        start = self.peek()
        if not self.accept("not"):
            return self.comparison()
        self.enter()
        node = self.inversion()
        self.depth -= 1
        self.want_boolean(node, start)
        return Negation(node)

    def comparison(self) -> Node:
        left = self.sum()
        token = self.peek()
        if token.kind == "sign" and token.text in _COMPARISONS:
            self.at += 1
            node = self.compare(_COMPARISONS[token.text], left, self.sum(), token)
            following = self.peek()
            if following.kind == "sign" and following.text in _COMPARISONS:
                self.fail("one comparison at a time (join two with and)", following)
            return node
        if self.accept("is"):
            negated = self.accept("not")
            self.expect("null")
            if not isinstance(left, Reference):
                self.fail("a field before is null", token)
            return Negation(IsNull(left)) if negated else IsNull(left)
        if token.kind == "not" and self.tokens[self.at + 1].kind == "in":
            self.at += 1
            return Negation(self.membership(left))
        return self.membership(left) if token.kind == "in" else left

    def membership(self, left: Node) -> Membership:
        token = self.expect("in")
        self.expect_sign("(")
        values = []
        while True:
            pair = self.compare("==", left, self.sum(), token)
            if not isinstance(pair.right, Constant):
                self.fail("literals between the parentheses", token)
            values.append(float(pair.right.value) if left.type == "number" else pair.right.value)
            if not self.accept_sign(","):
                break
        self.expect_sign(")")
        if left.type == "integer" and any(isinstance(value, float) for value in values):
            self.fail("whole numbers between the parentheses", token)
        return Membership(left, tuple(values))

    def compare(self, operator: str, left: Node, right: Node, token: _Token) -> Compare:
        left, right = self.as_time(left, right, token), self.as_time(right, left, token)
        numeric = left.type in _NUMERIC and right.type in _NUMERIC
        if not numeric and left.type != right.type:
            self.fail("two operands of one type", token, got=f"{left.type} and {right.type}")
        if left.type in ("list", "tensor") or (left.type == "boolean" and operator not in ("==", "!=")):
            self.fail("operands that can be compared so", token, got=f"{left.type}")
        return Compare(operator, left, right)

    def as_time(self, node: Node, other: Node, token: _Token) -> Node:
        if not isinstance(node, Constant) or node.type != "string" or other.type not in ("date", "timestamp"):
            return node
        try:
            value: date | datetime = (
                parse_date(node.value) if other.type == "date" else parse_timestamp(node.value, self.zone(other))
            )
        except ValueError:
            self.fail(f"a {other.type} in ISO form with a zone" if other.type == "timestamp" else "YYYY-MM-DD", token)
        return Constant(value, other.type)

    def zone(self, node: Node) -> Any:
        return self.fields[node.name].zone if isinstance(node, Reference) else None

    def sum(self) -> Node:
        return self.chain(("+", "-"), lambda: self.chain(("*", "/"), self.signed))

    def chain(self, operators: tuple[str, ...], operand: Any) -> Node:
        node: Node = operand()
        links = 0
        while self.peek().kind == "sign" and self.peek().text in operators:
            token = self.take()
            right: Node = operand()
            links += 1
            if node.type not in _NUMERIC or right.type not in _NUMERIC:
                self.fail("numbers", token, got=f"{node.type} and {right.type}")
            if links + self.depth > MAX_DEPTH:
                self.fail(f"a rule of at most {MAX_DEPTH} levels", token)
            node = Arithmetic(token.text, node, right)
        return node

    def signed(self) -> Node:
        token = self.peek()
        if not self.accept_sign("-"):
            return self.operand()
        self.enter()
        node = self.signed()
        self.depth -= 1
        if node.type not in _NUMERIC:
            self.fail("a number after the minus", token, got=node.type)
        if isinstance(node, Constant):
            return Constant(-node.value, node.type)
        return Arithmetic("-", Constant(0, "integer"), node)

    def operand(self) -> Node:  # noqa: PLR0911 (one per kind of operand)
        token = self.take()
        if token.kind == "number":
            return self.number(token)
        if token.kind == "text":
            return Constant(re.sub(r"\\(.)", r"\1", token.text[1:-1]), "string")
        if token.kind in ("true", "false"):
            return Constant(token.kind == "true", "boolean")
        if token.kind == "sign" and token.text == "(":
            node = self.disjunction()
            self.expect_sign(")")
            return node
        if token.kind == "word" and token.text == "length" and self.peek().text == "(":
            return self.length()
        if token.kind in ("word", "quoted"):
            return self.reference(token)
        return self.fail("a field, a literal or a parenthesis", token)

    def number(self, token: _Token) -> Constant:
        if token.text.isdigit():
            value = int(token.text) if len(token.text) < 20 else _INT64  # noqa: PLR2004 (digits of 2^63)
            if value >= _INT64:
                self.fail("a whole number below 2^63", token)
            return Constant(value, "integer")
        if float(token.text) == float("inf"):
            self.fail("a finite number", token)
        return Constant(float(token.text), "number")

    def length(self) -> Length:
        self.expect_sign("(")
        token = self.take()
        if token.kind not in ("word", "quoted"):
            self.fail("a field", token)
        field = self.reference(token)
        if field.type not in ("string", "list"):
            self.fail("a text or a list in length()", token, got=field.type)
        self.expect_sign(")")
        return Length(field)

    def reference(self, token: _Token) -> Reference:
        name = token.text.strip("`")
        if name not in self.fields:
            self.fail("a field of the record", token, next_step=nearest(name, self.fields))
        field = self.fields[name]
        if field.kind == "tensor":
            self.fail("a field that is no tensor", token)
        self.read.add(name)
        # The widest integers do not fit Arrow's signed comparisons: they are compared as floating point.
        if field.kind == "integer" and field.dtype == "uint64":
            return Reference(name, "number", widened=True)
        return Reference(name, field.kind)

    def enter(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail(f"a rule of at most {MAX_DEPTH} levels", self.peek())

    def want_boolean(self, node: Node, token: _Token) -> None:
        if node.type != "boolean":
            self.fail("a condition, which is true or false", token, got=f"a value of type {node.type}")

    def peek(self) -> _Token:
        return self.tokens[self.at]

    def take(self) -> _Token:
        token = self.tokens[self.at]
        if token.kind != "end":
            self.at += 1
        return token

    def accept(self, kind: str) -> bool:
        if self.peek().kind == kind:
            self.at += 1
            return True
        return False

    def accept_sign(self, text: str) -> bool:
        if self.peek().kind == "sign" and self.peek().text == text:
            self.at += 1
            return True
        return False

    def expect(self, kind: str) -> _Token:
        token = self.take()
        if token.kind != kind:
            self.fail(kind, token)
        return token

    def expect_sign(self, text: str) -> None:
        if not self.accept_sign(text):
            self.fail(repr(text), self.peek())

    def end(self) -> None:
        if self.peek().kind != "end":
            self.fail("the end of the rule, or and / or", self.peek())

    def fail(self, expected: str, token: _Token, *, got: str | None = None, next_step: str | None = None) -> NoReturn:
        shown = repr(token.text.strip("`")) if token.kind != "end" else token.text
        place = f"{shown if got is None else got} at character {token.at}"
        raise ContractError(expected=expected, got=place, next_step=next_step)
