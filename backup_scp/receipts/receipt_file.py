"""The file of a receipt.  It names patients: only its owner may read it.  It replaces no other file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from backup_scp.errors import InvalidSelection
from backup_scp.receipts.json_receipt import write_json
from backup_scp.receipts.new_file import NewDocument
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
        self._write = _writer(path.suffix.lower())
        self._file = NewDocument(path, "receipt")

    def write(self, receipt: Receipt) -> Path:
        """Write the receipt, and return the name of the file; see ``NewFile.write``."""
        return self._file.write(lambda stream: self._write(receipt, stream))


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
