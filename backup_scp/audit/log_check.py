"""Check the audit log: each digest, each number, each signature, with the memory of one line."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from backup_scp.audit.log_files import first_number, lines_of, log_files
from backup_scp.audit.log_record import FIRST_BEFORE, LogRecord, RecordKind, digest
from backup_scp.audit.signing_key import PUBLIC_KEY, PublicKey
from backup_scp.errors import InvalidSelection


@dataclass(frozen=True, slots=True)
class LogCheck:
    """What a check has found.

    Attributes
    ----------
    records
        How many records are as they were written, from the first one.
    signatures
        How many of them are signatures.
    unsigned
        Records behind the last signature: whoever can write the files could have changed them, with the digests.
    last_at
        When the last of them was written; empty without one.
    keys
        Fingerprints of the keys that have signed.  Compare them with the one that you have on paper.
    problem
        What is wrong with the record behind them; empty when all is well.
    """

    records: int = 0
    signatures: int = 0
    unsigned: int = 0
    last_at: str = ""
    keys: tuple[str, ...] = ()
    problem: str = ""


def check_log(
    folder: Path, keys: Iterable[Path] = (), on_progress: Callable[[int], object] = lambda _: None
) -> LogCheck:
    """Read a log to its end, or to the first record that is not as it was written.

    Parameters
    ----------
    folder
        The log.
    keys
        Public keys that may have signed; by default those in the folder.
    on_progress
        Called with the number of records, now and then.

    Raises
    ------
    InvalidSelection
        There is no log, or a key cannot be read.
    """
    try:
        files = log_files(folder)
    except OSError as error:
        raise InvalidSelection(f"{folder} cannot be read ({error.strerror})") from None
    if not files:
        raise InvalidSelection(f"There is no audit log in {folder}")
    named = list(keys) or sorted(folder.glob(f"{PUBLIC_KEY.removesuffix('.pem')}*.pem"))
    return _Check({key.fingerprint: key for key in map(PublicKey.load, named)}, on_progress).run(files)


_TELL_EVERY = 10_000
_MOST_UNSIGNED = 1_000  # records: each process signs after a hundred
_LONGEST_UNSIGNED = timedelta(minutes=10)  # each signs after a minute


class _Check:
    def __init__(self, keys: dict[str, PublicKey], on_progress: Callable[[int], object]) -> None:
        self._keys = keys
        self._on_progress = on_progress
        self._used: dict[str, None] = {}
        self._number = self._signatures = self._unsigned = 0
        self._at, self._before = "", FIRST_BEFORE
        self._unsigned_since = ""

    def run(self, files: list[Path]) -> LogCheck:
        problem = next((found for file in files if (found := self._file(file))), "") or self._left_unsigned()
        return LogCheck(self._number, self._signatures, self._unsigned, self._at, tuple(self._used), problem)

    def _file(self, file: Path) -> str:
        if first_number(file) != self._number + 1:
            return f"{file.name} should begin with record {self._number + 1}: a file is missing, or was renamed"
        try:
            for line in lines_of(file):
                if problem := self._record(line):
                    return f"{file.name}, record {self._number + 1}: {problem}"
        except OSError as error:
            return f"{file.name} cannot be read ({error.strerror})"
        return ""

    def _left_unsigned(self) -> str:
        """Return what is wrong with the records behind the last signature: anybody can make digests again."""
        if not self._signatures:
            return "It has no signature: somebody may have made all of it again, without the key"
        too_long = self._unsigned and _moment(self._at) - _moment(self._unsigned_since) > _LONGEST_UNSIGNED
        if self._unsigned > _MOST_UNSIGNED or too_long:
            first = self._number - self._unsigned + 1
            return f"Nothing is signed from record {first} on, though each process signs within a minute"
        return ""

    def _record(self, line: bytes) -> str:
        """Return what is wrong with a line; count it when nothing is."""
        record = LogRecord.read(line)
        if record is None:
            return "it is no record" if line.endswith(b"\n") else "it is cut: a crash, or somebody"
        if record.number != self._number + 1:
            return f"it has the number {record.number}: records are missing, or were moved"
        if record.before != self._before:
            return "the record before it was changed, or is another one"
        if record.kind is RecordKind.SIGNED and (problem := self._signature(line, record)):
            return problem
        self._number, self._at, self._before = record.number, record.at, digest(line)
        if not self._unsigned:
            self._unsigned_since = record.at
        self._unsigned = 0 if record.kind is RecordKind.SIGNED else self._unsigned + 1
        if self._number % _TELL_EVERY == 0:
            self._on_progress(self._number)
        return ""

    def _signature(self, line: bytes, record: LogRecord) -> str:
        fingerprint, _, signature = record.content.partition(b" ")
        key = self._keys.get(fingerprint.decode("ascii", "replace"))
        if key is None:
            return "its key is not among the public keys: was the key replaced?"
        if not key.has_signed(line.rstrip(b"\n").rpartition(b" ")[0], signature):
            return "its signature is wrong"
        self._used[key.fingerprint] = None
        self._signatures += 1
        return ""


def _moment(at: str) -> datetime:
    """Return a time as a record has it; a wrong one is as long ago as can be."""
    try:
        return datetime.fromisoformat(at)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
