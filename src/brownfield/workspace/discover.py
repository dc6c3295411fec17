"""``brownfield init --from``: what lies behind connections, as a drafted integration for a person to correct.

Out: declaration, contract and one mapping file for each table or file, with what speaks for it in comments, and the
joins that the samples suggest. Every mapping file says ``approved: false``, so nothing runs until a person has read it.
Refused: an integration that is there already; nothing is overwritten, and no value of personal data is written.
"""

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from brownfield.errors import DeclarationError, NotFound
from brownfield.integration import load_connections
from brownfield.workspace.drafting import draft_contract_of, draft_integration, draft_mapping
from brownfield.workspace.matching import Candidate, Known, propose_joins
from brownfield.workspace.profile import Profile, profile_table
from brownfield.workspace.silos import Silo, look_into

__all__ = ["Discovered", "accept_mappings", "discover"]

SAMPLE_ROWS = 100_000


@dataclass(frozen=True, slots=True)
class Discovered:
    """What was found and drafted.

    Parameters
    ----------
    folder
        Of the drafted integration.
    sources
        By name: rows looked at, and the profile of every column.
    joins
        Candidates, the best first.
    files
        What was written, below the folder.
    problems
        What could not be read, and why.
    """

    folder: Path
    sources: Mapping[str, Sequence[Profile]]
    joins: Sequence[Candidate]
    files: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def suspects(self) -> dict[str, dict[str, int]]:
        """Values that may stand for a missing one and are not declared, by ``source.column`` (B-34)."""
        return {
            f"{source}.{each.name}": dict(each.suspects)
            for source, profiles in self.sources.items()
            for each in profiles
            if each.suspects
        }

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {
            "folder": str(self.folder),
            "files": list(self.files),
            "sources": {name: [_plain(each) for each in profiles] for name, profiles in self.sources.items()},
            "joins": [each.to_dict() for each in self.joins],
            "sentinels": self.suspects,
            "problems": list(self.problems),
        }


def _plain(profile: Profile) -> dict[str, Any]:
    names = ("name", "kind", "spelling", "rows", "nulls", "distinct", "minimum", "maximum", "values", "personal")
    return {name: getattr(profile, name) for name in names} | {"suspects": dict(profile.suspects)}


def discover(
    folder: Path,
    connections: Sequence[str],
    name: str,
    *,
    layouts: Sequence[Path] = (),
    sample_rows: int = SAMPLE_ROWS,
) -> Discovered:
    """Look behind connections of a workspace and draft an integration of what is there.

    Parameters
    ----------
    folder
        The workspace.
    connections
        Names of its connections.
    name
        Of the integration that is drafted.
    layouts
        Copybooks and layouts that may describe files.
    sample_rows
        Most rows that are read of one table or file.

    Raises
    ------
    DeclarationError
        When a connection is not declared, nothing is found, or the integration is there already.
    SourceUnavailable
        When a database cannot be reached.
    """
    declared = load_connections(folder)
    target = folder / "integrations" / name
    if target.exists():
        raise DeclarationError(
            where=str(target), expected="no integration of this name yet", got="one", next_step="Give another --name."
        )
    silos: list[Silo] = []
    problems: list[str] = []
    for each in connections:
        if each not in declared:
            known = ", ".join(declared) or "none is declared"
            raise DeclarationError(where=str(folder), expected=f"a connection of the workspace ({known})", got=each)
        found, unread = look_into(each, declared[each], folder, layouts, sample_rows)
        silos += found
        problems += unread
    if not silos:
        got = "; ".join(problems) or "none"
        raise DeclarationError(where=str(folder), expected="tables or files that can be read", got=got)
    silos = _named_apart(silos)
    profiles = {silo.source: profile_table(silo.sample) for silo in silos}
    joins = propose_joins([Known(silo.source, profiles[silo.source], silo.sample) for silo in silos])
    texts = _texts(name, silos, profiles, joins)
    _write(target, texts)
    return Discovered(target, profiles, joins, tuple(texts), tuple(problems))


def accept_mappings(folder: Path, name: str) -> list[str]:
    """Approve the mapping files of an integration; the caller is a person who has read them.

    Returns
    -------
    list
        The files that were not approved before.

    Raises
    ------
    NotFound
        When there is no such integration, or it has no mapping files.
    """
    accepted = []
    files = sorted((folder / "integrations" / name / "mapping").glob("*.yaml"))
    if not files:
        drafted = sorted({path.parents[1].name for path in (folder / "integrations").glob("*/mapping/*.yaml")})
        raise NotFound(
            where=str(folder),
            expected=f"an integration with mapping files ({', '.join(drafted) or 'there is none'})",
            got=name,
        )
    for file in files:
        text = file.read_text(encoding="utf-8")
        approved = re.sub(r"^(approved:\s*)false\b", r"\1true", text, count=1, flags=re.MULTILINE)
        if approved != text:
            temporary = file.with_suffix(".tmp")
            temporary.write_text(approved, encoding="utf-8")
            temporary.replace(file)
            accepted.append(file.name)
    return accepted


def _named_apart(silos: Sequence[Silo]) -> list[Silo]:
    taken: set[str] = {"request", "response"}
    apart = []
    for silo in silos:
        source, number = silo.source, 2
        while source in taken:
            source, number = f"{silo.source}_{number}", number + 1
        taken.add(source)
        apart.append(replace(silo, source=source))
    return apart


def _texts(
    name: str, silos: Sequence[Silo], profiles: Mapping[str, Sequence[Profile]], joins: Sequence[Candidate]
) -> dict[str, str]:
    texts = {
        "integration.yaml": draft_integration(name, silos, profiles, joins),
        "contract.odcs.yaml": draft_contract_of(name, silos, profiles),
    }
    for silo in silos:
        texts[f"mapping/{silo.source}.yaml"] = draft_mapping(silo, profiles[silo.source])
        if silo.layout is not None:
            texts[silo.layout[0]] = silo.layout[1]
    return texts


def _write(target: Path, texts: Mapping[str, str]) -> None:
    """Write all files or none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".draft-") as scratch:
        staged = Path(scratch) / target.name
        for relative, text in texts.items():
            path = staged / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        staged.rename(target)
