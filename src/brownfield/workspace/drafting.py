"""The text of a drafted integration: declaration, contract and mapping files, with the evidence in comments."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from brownfield.data.formats import contract_from_copybook
from brownfield.workspace.draft import as_text
from brownfield.workspace.matching import Candidate
from brownfield.workspace.profile import Profile
from brownfield.workspace.silos import Silo, identifier

__all__ = ["draft_contract_of", "draft_integration", "draft_mapping"]

_KEY_LIKE = 1.0
_MOST_JOINS = 10

_INTEGRATION = """\
# Drafted from samples: read it, correct it, and say what callers send and get in contract.odcs.yaml.
integration: {name}
contract: contract.odcs.yaml
# Each source is a lookup, found by its key. Records that are to be read once, in order, are a feed: true instead.
sources:
{sources}{joins}fallback: {{deadline_ms: 1000}}
doors: {{http: {{}}}}
"""
_CONTRACT = """\
# Drafted from samples: types, keys and required fields are what the samples show, not what their owner promises.
apiVersion: v3.2.0
kind: DataContract
id: {name}
version: 0.1.0
status: draft
schema:
  - name: request
    logicalType: object
    properties:
      - {{name: record_id, logicalType: string, required: true, logicalTypeOptions: {{maxLength: 64}}}}
  - name: response
    logicalType: object
    properties:
      - {{name: score, logicalType: number, required: true, logicalTypeOptions: {{minimum: 0, maximum: 1}}}}
"""
_MAPPING = """\
# How the columns of {place} become the contract's fields. Nothing runs until a person has read this file
# and set approved to true (or has run brownfield init DIR --accept --name NAME).
approved: false
fields:
"""


def draft_integration(
    name: str, silos: Sequence[Silo], profiles: Mapping[str, Sequence[Profile]], joins: Sequence[Candidate]
) -> str:
    """Draft ``integration.yaml``; joins stand in it as comments, the best first."""
    sources = "".join(_source(silo, profiles[silo.source]) for silo in silos)
    return _INTEGRATION.format(name=as_text(name), sources=sources, joins=_joins(joins))


def _source(silo: Silo, profiles: Sequence[Profile]) -> str:
    keys = _key_of(silo, profiles)
    lookup = _quoted(keys[0]) if len(keys) == 1 else f"[{', '.join(map(_quoted, keys))}]"
    place = {"connection": silo.connection, **silo.place, "mapping": f"mapping/{silo.source}.yaml"}
    options = ", ".join(f"{key}: {_quoted(value)}" for key, value in place.items())
    evidence = "".join(f"  # {line}\n" for line in silo.evidence)
    return f"{evidence}  {silo.source}: {{lookup: {lookup}, {options}}}\n"


def _key_of(silo: Silo, profiles: Sequence[Profile]) -> list[str]:
    """Fields that name a record: the primary key, else the first column whose values each stand once."""
    if silo.primary_key:
        return [identifier(name) for name in silo.primary_key]
    once = [each for each in profiles if each.unique_share == _KEY_LIKE and not each.nulls]
    return [identifier((once or list(profiles))[0].name)]


def _joins(joins: Sequence[Candidate]) -> str:
    if not joins:
        return ""
    lines = ["# Joins that the samples suggest, the best first; declare those that are true under unified.\n"]
    lines += [f"#   {each.left} -> {each.right}: {each.sentence}\n" for each in joins[:_MOST_JOINS]]
    return "".join(lines)


def draft_contract_of(name: str, silos: Sequence[Silo], profiles: Mapping[str, Sequence[Profile]]) -> str:
    """Draft ``contract.odcs.yaml``: a schema for each silo."""
    text = _CONTRACT.format(name=as_text(name))
    for silo in silos:
        text += f"  - name: {silo.source}\n    logicalType: object\n    properties:\n"
        known = _of_copybook(silo)
        for each in profiles[silo.source]:
            text += f"      - {{{_property(silo, each, known.get(each.name, {}))}}}{_remark(each)}\n"
    return text


def _of_copybook(silo: Silo) -> Mapping[str, Mapping[str, Any]]:
    """Properties that the copybook of a file knows: pictures, bounds and level 88."""
    if silo.layout is None or silo.place.get("format") != "copybook":
        return {}
    draft = contract_from_copybook(silo.layout[1], silo.source, file=silo.layout[0])
    return {each["name"]: each for each in draft.document["schema"][0]["properties"]}


def _property(silo: Silo, profile: Profile, known: Mapping[str, Any]) -> str:
    parts = {"name": _quoted(identifier(profile.name)), "logicalType": profile.kind}
    if known.get("logicalType") == profile.kind:
        more = ("physicalType", "logicalTypeOptions", "enum")
        parts |= {key: json.dumps(known[key], ensure_ascii=False) for key in more if key in known}
    if profile.name in silo.primary_key:
        parts["primaryKey"] = "true"
        if len(silo.primary_key) > 1:
            parts["primaryKeyPosition"] = str(silo.primary_key.index(profile.name) + 1)
    if (profile.name in silo.required or profile.name in silo.primary_key) and not profile.suspects:
        parts["required"] = "true"
    if profile.personal:
        parts["classification"] = "pii"
    if profile.kind == "timestamp":
        parts["logicalTypeOptions"] = "{defaultTimezone: UTC}"
    return ", ".join(f"{key}: {value}" for key, value in parts.items())


def _remark(profile: Profile) -> str:
    """Say what the sample shows, for a person to turn into rules; no values of personal data."""
    said = [f"{profile.null_percent:.1f} % missing, {profile.distinct:,} distinct of {profile.rows:,}"]
    if profile.minimum is not None and profile.maximum is not None:
        said.append(f"{profile.minimum:g} to {profile.maximum:g}")
    if profile.values:
        said.append(f"enum? {', '.join(map(_quoted, profile.values))}")
    if profile.kind == "timestamp":
        said.append("in which zone?")
    return "  # " + "; ".join(said)


def draft_mapping(silo: Silo, profiles: Sequence[Profile]) -> str:
    """Draft a mapping file: every column, renamed and cast as its sample needs it."""
    place = silo.place.get("table") or silo.place.get("path")
    text = _MAPPING.format(place=f"{silo.connection}: {_quoted(place)}")
    for each in profiles:
        for value, rows in each.suspects.items():
            seen = f"{rows:,} of {each.rows:,} rows"
            text += (
                f"  # {_quoted(value)} stands in {seen}. Missing? Then add sentinels: {{{_quoted(value)}: unknown}}\n"
            )
        text += f"  {_quoted(identifier(each.name))}: {{{_steps(silo, each)}}}\n"
    return text


def _steps(silo: Silo, profile: Profile) -> str:
    parts: dict[str, str] = {"from": _quoted(profile.name)}
    if profile.padded:
        parts["trim"] = "both"
    read_as_text = profile.as_text and (not silo.is_text or profile.padded or bool(profile.suspects))
    if profile.kind in {"integer", "number"} and (read_as_text or (profile.spelling and not silo.is_text)):
        parts["number"] = f"{{decimal: {_quoted(profile.spelling)}}}" if profile.spelling else "{}"
    if profile.kind in {"date", "timestamp"} and profile.as_text and not profile.spelling.startswith("yyyy-MM-dd"):
        parts[profile.kind] = _quoted(profile.spelling)
    return ", ".join(f"{key}: {value}" for key, value in parts.items())


def _quoted(value: Any) -> str:
    """Write a value as YAML: plain where it cannot be misread, else in quotes."""
    if (
        isinstance(value, str)
        and value.isascii()
        and value.isidentifier()
        and value.lower() not in {"true", "false", "null"}
    ):
        return value
    return json.dumps(value, ensure_ascii=False)
