"""Translate a driver's errors to IndexUnavailable: the problem and the fix, without SQL and without patient data."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from backup_scp.errors import IndexDamaged, IndexUnavailable

NOT_READY = "run `backup-scp db upgrade`"

# Key: beginning of SQLite's error name; the longest match counts.
_SQLITE = {
    "SQLITE_BUSY": "another process keeps it locked; end it or try again",
    "SQLITE_LOCKED": "another process keeps it locked; end it or try again",
    "SQLITE_FULL": "its disk is full; make room",
    "SQLITE_IOERR": "its disk reports errors; look at the disk, then run `backup-scp rebuild`",
    "SQLITE_IOERR_SHORT_READ": "the file is shorter than it was; run `backup-scp rebuild`",
    "SQLITE_CORRUPT": "the file is damaged; run `backup-scp rebuild`",
    "SQLITE_NOTADB": "the file is not an index; run `backup-scp rebuild`",
    "SQLITE_READONLY": "the file may not be written; look at its owner and permissions",
    "SQLITE_CANTOPEN": "the file cannot be opened; look at its folder and permissions",
    "SQLITE_ERROR": f"its tables are not those of this version; {NOT_READY}",
}

_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_IOERR_SHORT_READ")
"""Error names that mean a damaged file, not a faulty disk."""

SILENT = "silent"
"""Used instead of a SQLSTATE: the server received a statement and did not answer."""

_NO_ANSWER = "the server does not answer; is it running, and are host and port right?"

# Key: beginning of SQLSTATE (PostgreSQL manual, Appendix A); the longest match counts.
_POSTGRESQL = {
    "08": "the connection was lost; is the server running?",
    "28": "the server refuses the user or password; look at [index] url",
    "3D": "the database does not exist; create it, then " + NOT_READY,
    "42P01": "it has no tables yet; " + NOT_READY,
    "42703": "its tables are not those of this version; " + NOT_READY,
    "42501": "the user may not use its tables; grant it the right",
    "53100": "the server's disk is full; make room",
    "53300": "the server has no connection left; raise max_connections",
    "55P03": "another process keeps it locked (a rebuild?); try again when it is done",
    "57": "the server is starting, stopping or cancelled the work; try again",
    "25006": "the server is read only (a standby?); point [index] url to the primary",
    "XX": "the server reports internal errors; look at its log",
}

_AGAIN = frozenset({"40001", "40P01", "23505", "23503"})
"""SQLSTATE of a transaction that conflicted with another one; a retry succeeds."""


class TransactionConflict(IndexUnavailable):
    """Serialization failure, deadlock or unique violation: rolled back, retry."""


class ServerSilent(IndexUnavailable):
    """The server does not answer on an open connection; another connection would wait as long."""


class ConnectionLost(IndexUnavailable):
    """The connection was lost; its last statement may be done or not."""


@contextlib.contextmanager
def explained(url: sa.URL) -> Iterator[None]:
    """Raise IndexUnavailable for every error of SQLAlchemy or a driver in the block."""
    try:
        yield
    except SQLAlchemyError as error:
        raise explanation(url, error) from None


def explanation(url: sa.URL, error: SQLAlchemyError) -> IndexUnavailable:
    """Return the error to raise instead, ``from None``: the text of the original contains patient data."""
    if isinstance(error, PoolTimeout):
        return IndexUnavailable("The index is busy: every connection is in use; try again")
    if isinstance(error, DBAPIError):
        return _explain(url, error)
    return IndexUnavailable(f"The index cannot be used ({type(error).__name__})")


def _explain(url: sa.URL, error: DBAPIError) -> IndexUnavailable:
    if url.get_backend_name() == "sqlite":
        code = getattr(error.orig, "sqlite_errorname", None) or type(error.orig).__name__
        of_the_file = IndexDamaged if code.startswith(_DAMAGE) else IndexUnavailable
        return of_the_file(f"The index {url.database}: {_longest(_SQLITE, code) or 'it failed'} ({code})")
    code = getattr(error.orig, "sqlstate", None) or ""
    place = f"The index on {url.host or 'this machine'}"
    if code == SILENT:
        return ServerSilent(f"{place}: the server accepts statements and answers none; check its disk and its log")
    kind = ConnectionLost if error.connection_invalidated else IndexUnavailable
    if not code:
        return kind(f"{place}: {_NO_ANSWER}")
    kind = TransactionConflict if code in _AGAIN else kind
    return kind(f"{place}: {_longest(_POSTGRESQL, code) or 'it failed'} (SQLSTATE {code})")


def _longest(sentences: dict[str, str], code: str) -> str:
    fitting = [known for known in sentences if code.startswith(known)]
    return sentences[max(fitting, key=len)] if fitting else ""
