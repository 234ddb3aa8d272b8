"""The log, as text or JSON lines; text from the network cannot forge a line."""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING

from backup_scp.errors import InvalidSettings

if TYPE_CHECKING:
    from logging.handlers import RotatingFileHandler

    from backup_scp.node.settings import Settings

_FILE_BYTES = 10_000_000
_FILES = 10
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class LineFormatter(logging.Formatter):
    """Formats a record as one line, with control characters escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """Write time, level, module and message."""
        module = record.name.removeprefix("backup_scp.")
        return f"{_time(record)} {record.levelname:<7} {module}: {escape(_message(record))}"


class JSONFormatter(logging.Formatter):
    """Formats a record as one JSON object in one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Write time, level, logger and message."""
        return json.dumps(
            {
                "time": _time(record),
                "level": record.levelname,
                "logger": record.name,
                "message": _message(record),
            }
        )


def escape(text: str) -> str:
    r"""Write control characters as ``\x0a``, so that text can neither end a line nor control a terminal."""
    if text.isprintable():  # true for nearly every line, and never with a control character
        return text
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


class _Quiet(logging.Handler):
    """Drops a line that cannot be written (a full disk) instead of printing a traceback."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)


class _ToStream(_Quiet, logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to standard error."""


def configure(settings: Settings, *, daemon: bool) -> None:
    """Start the log.

    It silences our libraries, whose logs contain identifiers and values, which are patient data.  A command prints its
    own results, so it logs only to a log file or at level DEBUG.

    Raises
    ------
    InvalidSettings
        The log file cannot be written.
    """
    for library in ("pydicom", "pynetdicom", "alembic", "sqlalchemy"):
        logging.getLogger(library).setLevel(logging.CRITICAL + 1)
    handler: logging.Handler = logging.NullHandler()
    if daemon or settings.log.file or settings.log.level == "DEBUG":
        handler = _handler(settings, make=daemon)
    handler.setFormatter(JSONFormatter() if settings.log.json else LineFormatter())
    ours = logging.getLogger("backup_scp")
    for old in list(ours.handlers):
        ours.removeHandler(old)
        old.close()
    ours.addHandler(handler)
    ours.setLevel(settings.log.level)
    ours.propagate = False
    if daemon:
        _look_up_no_more_than_is_said()


def _look_up_no_more_than_is_said() -> None:
    """Switch off caller, thread and process lookups that no log line uses (logging HOWTO): they cost CPU time."""
    logging._srcfile = None  # noqa: SLF001 - documented there
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def _handler(settings: Settings, *, make: bool) -> logging.Handler:
    path = settings.log_path
    if path is None:
        return _ToStream()
    try:
        if make:
            path.parent.mkdir(parents=True, exist_ok=True)
        elif not path.parent.is_dir():
            return logging.NullHandler()  # only the node creates the folder, so that a mistyped path creates nothing
        # As for standard error: escape bytes of folder names that are no valid text.
        errors = "backslashreplace"
        return _to_file()(path, maxBytes=_FILE_BYTES, backupCount=_FILES, encoding="utf-8", errors=errors)
    except OSError as error:
        raise InvalidSettings(f"[log] file: {path} cannot be written ({error.strerror}): choose another") from error


def _to_file() -> type[RotatingFileHandler]:
    """Return the handler for a file; its module is slow to load, and most commands log to none."""
    from logging.handlers import RotatingFileHandler

    class ToFile(_Quiet, RotatingFileHandler):
        """Writes to a file, and starts a new file when it is large."""

    return ToFile


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _message(record: logging.LogRecord) -> str:
    if not record.exc_info:
        return record.getMessage()
    return f"{record.getMessage()} ({describe(record.exc_info)})"


def describe(error: ExcInfo) -> str:
    """Describe an exception by type and place, without its text, which may quote a Data Set."""
    kind, _, trace = error
    frames = [f"{frame.name} line {frame.lineno}" for frame in traceback.extract_tb(trace)[-5:]]
    return f"{kind.__name__ if kind else 'no exception'} in {' > '.join(frames) or 'an unknown place'}"
