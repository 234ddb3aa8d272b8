"""The file of a receipt.  It names patients: only its owner may read it.  It replaces no other file."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from backup_scp.errors import DestinationUnavailable, InvalidSelection
from backup_scp.machine.folders import fsync, fsync_folder, try_to_write
from backup_scp.receipts.json_receipt import write_json
from backup_scp.receipts.receipt import Receipt
from backup_scp.receipts.text_receipt import write_text

_FORMS = ".txt, .json or .pdf"


class ReceiptFile:
    """A file to be written at the end of long work, checked at its begin.

    Parameters
    ----------
    path
        Its name.  The suffix says the form: ``.txt``, ``.json`` or ``.pdf``.

    Raises
    ------
    InvalidSelection
        It has another suffix, or the library for PDF is not installed.
    DestinationUnavailable
        Its folder cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        self._write = _writer(path.suffix.lower())
        try:
            try_to_write(self._path.parent)
        except OSError as error:
            raise self._unavailable(error) from error

    def write(self, receipt: Receipt) -> Path:
        """Write the receipt, and return the name of the file: a number follows the name of one that exists already.

        Raises
        ------
        DestinationUnavailable
            It cannot be written; nothing is left of it.
        """
        try:
            path, descriptor = self._new_file()
        except OSError as error:
            raise self._unavailable(error) from error
        try:
            with os.fdopen(descriptor, "wb") as stream:
                self._write(receipt, stream)
                stream.flush()
                fsync(stream.fileno())
            fsync_folder(path.parent)
        except BaseException as error:
            path.unlink(missing_ok=True)
            if isinstance(error, Exception):  # also from the library, which need not end a restore with a traceback
                raise self._unavailable(error) from error
            raise
        return path

    def _new_file(self) -> tuple[Path, int]:
        for number in itertools.count(1):
            path = self._path if number == 1 else self._path.with_stem(f"{self._path.stem}-{number}")
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
                return path, os.open(path, flags, 0o600)
            except FileExistsError:
                continue
        raise AssertionError  # there is always a further number

    def _unavailable(self, error: Exception) -> DestinationUnavailable:
        reason = getattr(error, "strerror", "") or type(error).__name__
        return DestinationUnavailable(f"The receipt {self._path} cannot be written ({reason}): name another file")


def _writer(suffix: str) -> Callable[[Receipt, BinaryIO], None]:
    if suffix == ".txt":
        return write_text
    if suffix == ".json":
        return write_json
    if suffix != ".pdf":
        raise InvalidSelection(f"The name of a receipt ends in {_FORMS}")
    try:
        from backup_scp.receipts.pdf_receipt import write_pdf
    except ModuleNotFoundError as error:
        fix = "pip install 'backup-scp[receipts]', or name a .txt or .json file"
        raise InvalidSelection(f"A receipt in PDF needs the library {error.name}: {fix}") from None
    return write_pdf
