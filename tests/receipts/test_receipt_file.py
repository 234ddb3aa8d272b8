"""The file of a receipt: its form, its rights, its name, and what makes it impossible."""

from __future__ import annotations

import errno
import os
import stat
import sys

import pytest

from backup_scp.errors import DestinationUnavailable, InvalidSelection
from backup_scp.receipts.receipt_file import ReceiptFile
from tests.receipts.examples import receipt

BEGINS = {".txt": b"Receipt of a test\n", ".json": b'{"title":', ".pdf": b"%PDF-"}


@pytest.mark.parametrize("suffix", BEGINS)
def test_the_suffix_says_the_form_and_only_the_owner_may_read_it(tmp_path, suffix):
    path = tmp_path / f"receipt{suffix.upper()}"
    assert ReceiptFile(path).write(receipt()) == path
    assert path.read_bytes().startswith(BEGINS[suffix])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_no_file_is_replaced(tmp_path):
    path = tmp_path / "receipt.v1.txt"
    path.write_text("signed")
    names = [ReceiptFile(path).write(receipt()).name for _ in range(2)]
    assert names == ["receipt.v1-2.txt", "receipt.v1-3.txt"]
    assert path.read_text() == "signed"


@pytest.mark.parametrize("name", ["receipt", "receipt.doc", ".pdf"])
def test_another_suffix(tmp_path, name):
    with pytest.raises(InvalidSelection, match=r"\.txt, \.json or \.pdf"):
        ReceiptFile(tmp_path / name)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(DestinationUnavailable, match="No such file or directory"):
        ReceiptFile(tmp_path / "no" / "receipt.txt")


def test_the_library_for_pdf_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "backup_scp.receipts.pdf_receipt", raising=False)
    monkeypatch.setitem(sys.modules, "reportlab.lib", None)
    with pytest.raises(InvalidSelection, match=r"backup-scp\[receipts\]"):
        ReceiptFile(tmp_path / "receipt.pdf")


@pytest.mark.parametrize("suffix", BEGINS)
def test_nothing_is_left_of_one_that_cannot_be_written(tmp_path, monkeypatch, suffix):
    file = ReceiptFile(tmp_path / f"receipt{suffix}")

    def full(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DestinationUnavailable, match="No space left"):
        file.write(receipt())
    assert list(tmp_path.iterdir()) == []


def test_a_library_that_fails_is_a_sentence(tmp_path):
    def names():
        raise ZeroDivisionError
        yield

    with pytest.raises(DestinationUnavailable, match="ZeroDivisionError"):
        ReceiptFile(tmp_path / "receipt.txt").write(receipt(names()))
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_of_one_whose_rows_end_in_an_error(tmp_path):
    def names():
        yield "A"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ReceiptFile(tmp_path / "receipt.txt").write(receipt(names()))
    assert list(tmp_path.iterdir()) == []
