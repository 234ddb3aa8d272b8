"""Prefetch: the system is told which file will be read soon."""

from __future__ import annotations

import os
import sys

import pytest

from backup_scp.archive import durable_folders

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux is told")

LIMIT = 32 << 20


@pytest.mark.parametrize(("size", "told"), [(0, 0), (1, 1), (3_000_001, 3_000_001), (LIMIT + 1, LIMIT)])
def test_every_byte_is_asked_for_in_pieces_that_a_device_takes_at_once(tmp_path, monkeypatch, size, told):
    """Linux silently shortens one hint to the largest request of the device."""
    path = tmp_path / "one"
    with path.open("wb") as file:
        file.truncate(size)
    hinted, advise = [], os.posix_fadvise

    def noted(descriptor, offset, length, advice):
        assert advice == os.POSIX_FADV_WILLNEED
        hinted.append((offset, length))
        advise(descriptor, offset, length, advice)

    monkeypatch.setattr(os, "posix_fadvise", noted)
    durable_folders.prefetch(path)
    assert [offset for offset, _ in hinted] == list(range(0, told, 128 << 10))
    assert {length for _, length in hinted} <= {128 << 10}


def test_what_is_gone_is_nobodys_trouble_yet(tmp_path):
    durable_folders.prefetch(tmp_path / "gone")
