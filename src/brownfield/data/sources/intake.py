"""``intake``: a feed of files: each file of a folder that matches is one delivery, taken once by its content.

A file is looked at when it is ready, read into nothing but memory of one batch, held against what it says of itself,
and only then given out. What is refused is refused as a whole. Where the folder may be changed, a file is claimed by
a move into ``work/``, and moved on into ``done/`` or ``error/`` behind the commit; else the ledger alone decides.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TypeAlias

from brownfield.data.folders import Entry, Files, Folder, matching, parent_of
from brownfield.data.sources.base import Position, Probe, Pulled
from brownfield.data.sources.folder import content_digest, entered
from brownfield.data.sources.totals import Claims, Refusal, Sums, Trailer, parse_marker
from brownfield.errors import FormatError, RejectionCode, SourceUnavailable, Unavailable
from brownfield.integration import is_pattern
from brownfield.store import Delivery

if TYPE_CHECKING:
    import pyarrow as pa

    from brownfield.data.decoded import Decoded

__all__ = ["FileFeed", "Intake", "Outcome"]

Decode: TypeAlias = "Callable[[BinaryIO, pa.Schema], Iterator[Decoded]]"

MARKER = ".done"
WORK, DONE, ERROR = "work", "done", "error"
_PASSED_OVER = (MARKER, ".part", ".filepart", ".tmp")
_STAYS = frozenset({RejectionCode.FILE_MARKER, RejectionCode.FILE_CHANGED})
"""Reasons that time may mend: such a file is looked at again by the next run."""
_LONGEST_HEAD = 64 * 1024
_RACY_S = 2.0
"""A file that was written so shortly before it was read is known by its content alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """How files are taken.

    Parameters
    ----------
    ready
        ``marker``: when ``<name>.done`` is there; ``stable``: when size and time stay the same for a while;
        ``rename``: at once, for its writer gives it its name when it is whole.
    stable_s
        That while, in seconds.
    claim
        ``rename`` moves files through ``work/`` into ``done/`` or ``error/``; ``none`` leaves them where they are.
    order
        By ``name`` or by ``mtime``, the oldest first.
    max_files
        Most files that one run takes.
    marker_holds
        What a marker must say: ``count``, ``bytes``, ``sha256``, ``total.<column>``.
    trailer
        The last record of each file, where it is one.
    """

    ready: Literal["marker", "stable", "rename"] = "marker"
    stable_s: float = 10.0
    claim: Literal["none", "rename"] = "none"
    order: Literal["name", "mtime"] = "name"
    max_files: int = 100
    marker_holds: tuple[str, ...] = ()
    trailer: Trailer | None = None


@dataclass(slots=True)
class Outcome:
    """What became of the files of one run.

    Parameters
    ----------
    deliveries
        Files that were looked into, for the ledger.
    taken
        Paths of files whose records were given out.
    repeated
        Paths of files whose content was taken before.
    refused
        Path to the code and the reason, of files that are refused as a whole.
    waiting
        Files that are left for a later run: not ready, or more than one run takes.
    interrupted
        Why the run ended before the last file; empty where it did not.
    """

    deliveries: list[Delivery] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    refused: dict[str, tuple[RejectionCode, str]] = field(default_factory=dict)
    waiting: int = 0
    interrupted: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {
            "taken": list(self.taken),
            "repeated": list(self.repeated),
            "refused": {path: {"code": str(code), "reason": what} for path, (code, what) in self.refused.items()},
            "waiting": self.waiting,
            "interrupted": self.interrupted,
        }


class FileFeed:
    """The files of a folder that match a pattern, each read once.

    Parameters
    ----------
    folder
        The folder of the connection.
    pattern
        Path below it; ``*``, ``?`` and ``[...]`` stand for characters of one part.
    decode
        Reads a file: the ``decode`` of its format.
    intake
        How they are taken.
    fields
        Where each field lies and how it is written, for formats that have a layout.
    has_header
        Whether the first line names the columns.
    sleep, now
        The machine's unless given; seconds.
    """

    def __init__(  # noqa: PLR0913 (what a feed is made of)
        self,
        folder: Folder,
        pattern: str,
        decode: Decode,
        intake: Intake | None = None,
        *,
        fields: Mapping[str, str] | None = None,
        has_header: bool = False,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.folder = folder
        self.pattern = pattern
        self.decode = decode
        self.intake = intake or Intake(ready="marker" if is_pattern(pattern) else "rename")
        self.has_header = has_header
        self.outcome = Outcome()
        self._fields = fields or {}
        self._sleep = sleep
        self._now = now
        self._lying: set[tuple[str, int | None, int | None]] = set()
        self._known: set[str] = set()
        self._anew = False
        self._to_move: list[str] = []

    def recall(self, deliveries: Collection[Delivery], *, anew: bool = False) -> None:
        """Say which files were taken by runs before; ``anew`` reads those in ``done/`` again."""
        taken = [each for each in deliveries if not each.code]
        self._lying = {(each.path, each.size_bytes, each.mtime_ns) for each in taken}
        self._known = {each.sha256 for each in taken}
        self._anew = anew

    def shape(self) -> Mapping[str, str]:
        """Describe each field as the layout does."""
        return self._fields

    def probe(self) -> Probe:
        """Look whether the folder is there (:class:`Source`)."""
        with entered(self.folder, self.pattern) as files:
            return Probe(None, sum(entry.size_bytes for entry in self._list(files)))

    def read(self, wanted: "pa.Schema", after: Position | None = None) -> Iterator[Pulled]:
        """Read the ready files that were not taken yet (:class:`Source`)."""
        self.outcome = Outcome()
        self._to_move = []
        taken_before = int((after or {}).get("files", 0))
        with entered(self.folder, self.pattern) as files:
            self._tidy(files)
            ready = self._ready(files)
            self.outcome.waiting += max(len(ready) - self.intake.max_files, 0)
            for entry in ready[: self.intake.max_files]:
                position = {"files": taken_before + len(self.outcome.taken) + 1}
                begun = False
                try:
                    for pulled in self._take(files, entry, wanted):
                        begun = True
                        yield replace(pulled, position=position)
                except Refusal as refusal:
                    self._refuse(files, entry, refusal)
                except (OSError, Unavailable) as error:
                    if begun or not self.outcome.taken:
                        raise
                    self.outcome.interrupted = str(error)  # what came before it is whole, and is kept
                    return

    def ack(self, position: Position) -> None:  # noqa: ARG002 (the files of the last reading are meant)
        """Move what was taken into ``done/``; what is not moved here the next run moves (:class:`Source`)."""
        if self._to_move:
            with suppress(SourceUnavailable), entered(self.folder, self.pattern) as files:
                while self._to_move:
                    self._put_away(files, self._to_move[0], DONE)
                    self._to_move.pop(0)

    def _tidy(self, files: Files) -> None:
        """Put away the markers of files that a run which was killed had put away."""
        if self.intake.claim == "rename":
            with suppress(FileNotFoundError):
                for marker in matching(files, f"{WORK}/{self.pattern}{MARKER}"):
                    path = marker.path.removesuffix(MARKER)
                    if files.look(path) is None:
                        self._put_away(files, path, DONE)

    def _ready(self, files: Files) -> list[Entry]:
        """Give the files that are ready and not known by their place, in the declared order."""
        entries = [entry for entry in self._list(files) if not self._is_known(entry)]
        still: set[Entry] = set()
        if self.intake.ready == "stable" and entries:
            self._sleep(self.intake.stable_s)
            still.update(self._list(files))
        ready: dict[str, Entry] = {}
        for entry in entries:
            original = self._original(entry.path)
            if entry.path != original or (original not in ready and self._is_ready(files, entry, still)):
                ready[original] = entry  # one that was claimed before goes first, and its namesake waits
        self.outcome.waiting += len(entries) - len(ready)
        by_time = self.intake.order == "mtime"
        return [ready[path] for path in sorted(ready, key=lambda path: (ready[path].mtime_ns if by_time else 0, path))]

    def _is_ready(self, files: Files, entry: Entry, still: Collection[Entry]) -> bool:
        if self.intake.ready == "marker":
            return self._marker_of(files, entry.path) is not None
        return self.intake.ready == "rename" or entry in still

    def _list(self, files: Files) -> list[Entry]:
        """List the files in place, and those that a run before had claimed and left."""
        own = frozenset({WORK, DONE, ERROR}) if self.intake.claim == "rename" else frozenset()
        found = matching(files, self.pattern, own)
        if own:
            for folder in (WORK, DONE) if self._anew else (WORK,):
                with suppress(FileNotFoundError):
                    found += matching(files, f"{folder}/{self.pattern}")
        elif not found and not is_pattern(self.pattern):
            raise FileNotFoundError(2, "there is no such file")
        return [each for each in found if each.path.endswith(self.pattern) or not each.path.endswith(_PASSED_OVER)]

    def _is_known(self, entry: Entry) -> bool:
        """Whether a file that is never moved lies as it lay when it was taken."""
        return self.intake.claim == "none" and (entry.path, entry.size_bytes, entry.mtime_ns) in self._lying

    def _take(self, files: Files, entry: Entry, wanted: "pa.Schema") -> Iterator[Pulled]:
        """Claim one file, compare it with what it says of itself, and give out its records."""
        original = self._original(entry.path)
        marker = self._marker(files, entry.path)
        entry = self._claim(files, entry)
        with self._entered(files, entry) as stream:
            if entry.size_bytes == 0:
                raise Refusal(RejectionCode.FILE_EMPTY, "it holds no byte")
            digest, size_bytes = content_digest(stream)
            self._check_still(files, entry, size_bytes)
            if digest in self._known:
                self.outcome.repeated.append(original)
                self._enter(entry, original, digest)
                self._put_away(files, entry.path, DONE)
                return
            marker.check_bytes(size_bytes, digest)
            rows = self._verify(stream, size_bytes, marker, wanted)
            read = 0
            for decoded in self.decode(self._body(stream, size_bytes)[0], wanted):
                read += decoded.records
                share = min(stream.tell() / size_bytes, 1.0)
                yield Pulled(f"{original}#{digest}", decoded, {}, share)
            if rows not in (None, read) or not self._is_still(files, entry):
                raise SourceUnavailable(
                    "the file changed while it was read",
                    where=f"{self.folder.where}/{original}",
                    next_step="Let its writer finish, or write beside it and rename.",
                )
            stream.seek(0)
            head = stream.readline(_LONGEST_HEAD) if self.has_header else b""
        self._enter(entry, original, digest, read, head)
        self.outcome.taken.append(original)
        self._known.add(digest)
        self._to_move.append(entry.path)

    def _enter(self, entry: Entry, original: str, digest: str, rows: int = 0, head: bytes = b"") -> None:
        """Note what lies there; a time that may yet be given to another content is not trusted."""
        mtime_ns = entry.mtime_ns if self._now() - entry.mtime_ns / 1e9 > _RACY_S else None
        self.outcome.deliveries.append(Delivery(f"{original}#{digest}", entry.size_bytes, mtime_ns, rows, "", head))

    def _verify(self, stream: BinaryIO, size_bytes: int, marker: Claims, wanted: "pa.Schema") -> int | None:
        """Read all records once, where a total is claimed or other files must not suffer from this one's form."""
        body, trailer = self._body(stream, size_bytes)
        if not (marker.of_records or trailer.of_records or is_pattern(self.pattern)):
            return None
        sums = Sums({*marker.totals, *trailer.totals})
        try:
            for decoded in self.decode(body, wanted):
                sums.add(decoded)
        except FormatError as error:
            raise Refusal(RejectionCode.FILE_FORMAT, str(error)) from error
        marker.check_records(sums)
        trailer.check_records(sums)
        return sums.records

    def _body(self, stream: BinaryIO, size_bytes: int) -> tuple[BinaryIO, Claims]:
        """Give the file without its trailer, from its beginning."""
        if self.intake.trailer is not None:
            return self.intake.trailer.cut(stream, size_bytes)
        stream.seek(0)
        return stream, Claims()

    def _marker(self, files: Files, path: str) -> Claims:
        """Read what the marker says; without one nothing is said."""
        name = self._marker_of(files, path) if self.intake.ready == "marker" else None
        if name is None:
            return Claims()
        with files.read(name) as stream:
            return parse_marker(stream.read(_LONGEST_HEAD + 1), self.intake.marker_holds)

    def _marker_of(self, files: Files, path: str) -> str | None:
        """Find the marker of a file: beside it, or where the file lay when a killed run claimed it."""
        for name in (path + MARKER, self._original(path) + MARKER):
            with suppress(FileNotFoundError):
                if files.look(name) is not None:
                    return name
        return None

    def _claim(self, files: Files, entry: Entry) -> Entry:
        """Move a file into ``work/``, then its marker; a file that is there already was claimed by a run before."""
        if self.intake.claim == "none":
            return entry
        at = f"{WORK}/{self._original(entry.path)}"
        marker = self._marker_of(files, entry.path)
        if at != entry.path:
            _move(files, entry.path, at)
        if marker is not None and marker != at + MARKER:
            _move(files, marker, at + MARKER)
        return replace(entry, path=at)

    def _put_away(self, files: Files, path: str, target: str) -> None:
        """Move a claimed file and its marker to where nothing has their names; nothing is replaced."""
        if self.intake.claim == "none":
            return
        original, number = self._original(path), 1
        place = f"{target}/{original}"
        while any(files.look(place + suffix) is not None for suffix in ("", MARKER)):
            number += 1
            place = f"{target}/{original}.{number}"
        for suffix in ("", MARKER):
            if files.look(path + suffix) is not None:
                _move(files, path + suffix, place + suffix)

    def _refuse(self, files: Files, entry: Entry, refusal: Refusal) -> None:
        """Note that a file is refused; one that was claimed goes to ``error/``, unless time may mend it."""
        original = self._original(entry.path)
        self.outcome.refused[original] = (refusal.code, str(refusal))
        self.outcome.deliveries.append(
            Delivery(f"{original}#", entry.size_bytes, entry.mtime_ns, code=str(refusal.code))
        )
        if refusal.code not in _STAYS:
            at = f"{WORK}/{original}" if self.intake.claim == "rename" else entry.path
            self._put_away(files, at, ERROR)

    def _original(self, path: str) -> str:
        """Give the path at which a file was delivered."""
        if self.intake.claim == "none":
            return path
        for folder in (WORK, DONE):
            path = path.removeprefix(f"{folder}/")
        return path

    def _is_still(self, files: Files, entry: Entry) -> bool:
        return files.look(entry.path) == entry

    def _check_still(self, files: Files, entry: Entry, size_bytes: int) -> None:
        if size_bytes != entry.size_bytes or not self._is_still(files, entry):
            raise Refusal(RejectionCode.FILE_CHANGED, "it changed while it was read")

    @contextmanager
    def _entered(self, files: Files, entry: Entry) -> Iterator[BinaryIO]:
        try:
            with files.read(entry.path) as stream:
                yield stream
        except FileNotFoundError:
            raise Refusal(RejectionCode.FILE_CHANGED, "it was renamed or removed while it was read") from None


def _move(files: Files, old: str, new: str) -> None:
    """Move a file and make the move durable; where its name is taken it stays, and waits."""
    files.make(parent_of(new))
    files.move(old, new)
    files.sync(parent_of(new))
    files.sync(parent_of(old))
