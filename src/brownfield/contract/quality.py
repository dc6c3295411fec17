"""Reads the conditions of an ODCS object that go beyond one value: record rules and set rules."""

from collections.abc import Iterator, Mapping, Sequence

from brownfield.contract.expression import Expression, parse_expression
from brownfield.contract.fields import Field
from brownfield.contract.properties import VENDOR
from brownfield.contract.reading import Node, nearest, path_text, words
from brownfield.contract.rules import RecordRule, ReferenceRule, RowCountRule, SetRule, UniqueRule
from brownfield.errors import ContractError

__all__ = ["record_rules", "set_rules", "unchecked"]

QUALITY_KEYS = words(
    "id authoritativeDefinitions businessImpact customProperties description dimension method name "
    "schedule scheduler severity tags type unit metric rule arguments query engine implementation mustBe "
    "mustNotBe mustBeGreaterThan mustBeGreaterOrEqualTo mustBeLessThan mustBeLessOrEqualTo mustBeBetween "
    "mustNotBeBetween"
)
OPERATORS = tuple(sorted(key for key in QUALITY_KEYS if key.startswith("must")))
_NEXT_STEP = "Write a record rule: type: custom, engine: brownfield, implementation: {rule: ...}."


def record_rules(node: Node, fields: Sequence[Field]) -> tuple[RecordRule, ...]:
    """Record rules of an object, parsed and checked against its fields."""
    rules: list[RecordRule] = []
    for check in _checks(node):
        if not _is_ours(check):
            continue
        implementation = check.at("implementation")
        implementation.known(("rule", "onNull"))
        expression = _expression(implementation.at("rule"), fields)
        on_null = implementation.at("onNull").word(("pass", "refuse")) if "onNull" in implementation else "pass"
        rules.append(RecordRule(_identifier(check), expression, on_null == "pass"))
    return tuple(rules)


def set_rules(schema: str, node: Node, fields: Sequence[Field]) -> tuple[SetRule, ...]:
    """Set rules of an object: keys, unique, references, row count."""
    key = _primary_key(node)
    rules: list[SetRule] = [UniqueRule("primary_key", key)] if key else []
    for entry in node.at("properties").items():
        rules.extend(_property_rules(entry, key))
    rules.extend(_library(check, None) for check in _checks(node) if _metric(check) is not None)
    rules.extend(_reference(relation, _from(relation, schema)) for relation in node.each("relationships"))
    _refuse_odd_keys(node, rules, {field.name: field for field in fields})
    _refuse_twins(node, [rule.id for rule in rules] + [_identifier(each) for each in _checks(node) if _is_ours(each)])
    return tuple(rules)


def _property_rules(entry: Node, key: tuple[str, ...]) -> Iterator[SetRule]:
    name = entry.at("name").text()
    if entry.is_set("unique") and key != (name,):
        yield UniqueRule(f"{name}.unique", (name,))
    for check in _checks(entry):
        if _metric(check) is not None:
            yield _library(check, name)
        elif _is_ours(check):
            raise check.refuse("a record rule under quality of the object", got="one under a property")
    for relation in entry.each("relationships"):
        yield _reference(relation, name)


def _refuse_odd_keys(node: Node, rules: Sequence[SetRule], fields: Mapping[str, Field]) -> None:
    for rule in rules:
        for name in _fields_of(rule):
            if name not in fields:
                raise node.refuse(
                    f"a property of the object in rule {rule.id}", got=repr(name), next_step=nearest(name, fields)
                )
            if fields[name].kind in ("list", "tensor", "number"):
                raise node.refuse(
                    f"a rule {rule.id} over properties that can be keys (no lists, tensors or floating-point numbers)",
                    got=f"{name}, which is a {fields[name].kind}",
                )


def unchecked(node: Node) -> list[str]:
    """Paths of the quality checks of an object that belong to other tools."""
    return [
        path_text(check.path)
        for owner in (node, *node.at("properties").items())
        for check in _checks(owner)
        if _metric(check) is None and not _is_ours(check)
    ]


def _checks(node: Node) -> list[Node]:
    checks = node.each("quality")
    for check in checks:
        check.known(QUALITY_KEYS)
    return checks


def _is_ours(check: Node) -> bool:
    return check.value.get("type") == "custom" and check.at("engine").text() == VENDOR


def _metric(check: Node) -> str | None:
    if check.value.get("type", "library") != "library":
        return None
    return check.at("metric").text()


def _identifier(check: Node) -> str:
    return check.at("id" if "id" in check or "name" not in check else "name").text()


def _expression(node: Node, fields: Sequence[Field]) -> Expression:
    try:
        return parse_expression(node.text(), fields)
    except ContractError as error:
        raise node.refuse(error.expected or "", what=error.what, got=error.got, next_step=error.next_step) from error


def _primary_key(node: Node) -> tuple[str, ...]:
    keyed: list[tuple[int, str]] = []
    for entry in node.at("properties").items():
        if entry.is_set("primaryKey"):
            position = entry.value.get("primaryKeyPosition", -1)
            keyed.append((position if isinstance(position, int) else -1, entry.at("name").text()))
    return tuple(name for _, name in sorted(keyed, key=lambda each: each[0]))


def _library(check: Node, field: str | None) -> SetRule:
    metric = check.at("metric").text()
    operators = [key for key in OPERATORS if key in check]
    if len(operators) != 1:
        raise check.refuse(f"one operator of {', '.join(OPERATORS)}", got=", ".join(operators) or "none")
    operator = operators[0]
    operands = check.at(operator).items() if operator.endswith("Between") else [check.at(operator)]
    numbers = tuple(operand.number() for operand in operands)
    if metric == "rowCount" and field is None:
        if len(numbers) != (2 if operator.endswith("Between") else 1) or numbers[0] > numbers[-1]:
            raise check.at(operator).refuse("two numbers, the smaller first")
        return RowCountRule(_identifier(check), operator, numbers)
    if metric == "duplicateValues":
        if (operator, numbers) != ("mustBe", (0,)):
            raise check.at(operator).refuse("mustBe: 0 for duplicateValues", got=operator, next_step=_NEXT_STEP)
        if field is not None:
            return UniqueRule(_identifier(check) if {"id", "name"} & set(check.value) else f"{field}.unique", (field,))
        properties = check.at("arguments").at("properties").items()
        return UniqueRule(_identifier(check), tuple(each.text() for each in properties))
    raise check.at("metric").refuse(
        "rowCount (of an object) or duplicateValues: other metrics are not computed", next_step=_NEXT_STEP
    )


def _reference(relation: Node, field: str) -> ReferenceRule:
    relation.known(("id", "type", "from", "to", "customProperties"))
    target = relation.at("to")
    if isinstance(target.value, list):
        if len(target.value) != 1:
            raise target.refuse("one property: references of several columns are not checked")
        target = target.items()[0]
    name = target.text()
    if name.count(".") != 1:
        raise target.refuse("object.property", next_step="Write it as products.product_id.")
    return ReferenceRule(f"{field}.reference", field, name)


def _from(relation: Node, schema: str) -> str:
    source = relation.at("from")
    if isinstance(source.value, list):
        if len(source.value) != 1:
            raise source.refuse("one property: references of several columns are not checked")
        source = source.items()[0]
    owner, _, field = source.text().rpartition(".")
    if owner != schema:
        raise source.refuse(f"a property of {schema}, such as {schema}.key")
    return field


def _fields_of(rule: SetRule) -> tuple[str, ...]:
    if isinstance(rule, UniqueRule):
        return rule.fields
    return (rule.field,) if isinstance(rule, ReferenceRule) else ()


def _refuse_twins(node: Node, identifiers: list[str]) -> None:
    for identifier in identifiers:
        if identifiers.count(identifier) > 1:
            raise node.refuse("rules with identifiers of their own", got=f"{identifier!r} more than once")
