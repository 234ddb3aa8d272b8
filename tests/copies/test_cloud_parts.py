"""The small parts of a copy in cloud storage: the list of names, the temporary folder, the manifests."""

from __future__ import annotations

import gzip
import io
import shutil
import tracemalloc
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import cast

import pytest

from backup_scp.copies.cloud.byte_store import ByteStore
from backup_scp.copies.cloud.listed_names import ListedNames
from backup_scp.copies.cloud.manifests import read_manifest
from backup_scp.copies.cloud.spool import Spool
from backup_scp.errors import DestinationUnavailable, DigestMismatch

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)


class Names:
    """A store that lists names; it may break off."""

    place = "here"

    def __init__(self, *names):
        self.names, self.asked, self.breaks_after = list(names), [], None

    def list(self, folder):
        self.asked.append(folder)
        for number, name in enumerate(self.names):
            if number == self.breaks_after:
                raise DestinationUnavailable("It is away")
            if name.startswith(f"{folder}/"):
                yield name


def held(digit, day=0):
    return SimpleNamespace(received_at=NOON + timedelta(days=day), sha256=digit * 64)


def name(digit, object_digit="f", suffix=".dcm.age", day=30):
    return f"images/2026/11/{day}/{digit * 32}-{object_digit * 64}{suffix}"


@pytest.fixture
def spool(tmp_path):
    with Spool(tmp_path / "work") as spool:
        yield spool


@pytest.fixture
def listing(spool):
    def make(*names):
        store = Names(*names)
        made.append(ListedNames(cast("ByteStore", store), spool))
        return store, made[-1]

    made: list[ListedNames] = []
    yield make
    for each in made:
        each.clear()


def test_names_are_found_by_the_data_set_and_the_day_is_listed_once(listing):
    first, second = name("a"), name("a", "e", ".2.dcm")
    store, names = listing(first, name("b"), second, name("a", day=29), "images/2026/11/30/hello.txt")
    assert sorted(names.of(held("a"))) == sorted([first, second])
    assert names.of(held("b")) == [name("b")]
    assert names.of(held("c")) == []
    assert store.asked == ["images/2026/11/30"]
    names.add(held("c"), name("c"))
    assert names.of(held("c")) == [name("c")]
    names.forget(held("a"))
    assert names.of(held("c")) == []
    assert store.asked == ["images/2026/11/30"] * 2


def test_only_some_days_are_kept(listing):
    store, names = listing(name("a"))
    assert names.of(held("a")) == [name("a")]
    for day in range(1, 9):
        names.of(held("a", day))
    assert names.of(held("a")) == [name("a")]
    assert store.asked.count("images/2026/11/30") == 2


def test_a_day_of_an_import_needs_little_memory(listing):
    store, names = listing()
    store.names = (f"images/2026/11/30/{number:032x}-{number:064x}.dcm" for number in range(30_000))
    tracemalloc.start()
    try:
        assert names.of(held("0")) == [f"images/2026/11/30/{'0' * 32}-{'0' * 64}.dcm"]
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 1_000_000


def test_a_list_that_breaks_off_is_asked_for_again(listing):
    store, names = listing(name("a"), name("b"))
    store.breaks_after = 1
    with pytest.raises(DestinationUnavailable, match="away"):
        names.of(held("b"))
    store.breaks_after, store.names = None, [name("b")]
    assert names.of(held("a")) == []
    assert names.of(held("b")) == [name("b")]


def test_the_list_is_removed_in_the_end(listing, spool):
    _, names = listing(name("a"))
    names.of(held("a"))
    assert len(list(spool._own.iterdir())) == 2
    names.clear()
    assert [path.name for path in spool._own.iterdir()] == ["lock"]


def test_a_temporary_folder_that_somebody_removed_is_no_trouble(tmp_path):
    with Spool(tmp_path / "work") as spool:
        shutil.rmtree(str(spool._own))
    with Spool(tmp_path / "work") as spool, spool.file() as path:
        path.write_bytes(b"again")


@pytest.mark.parametrize("change", ["cut off", "flipped", "no gzip", "another list"])
def test_a_damaged_manifest_is_told_in_a_sentence(change):
    content = bytearray(gzip.compress(b'{"name":"x"}\n' * 1000))
    if change == "cut off":
        del content[-20:]
    elif change == "flipped":
        content[10] = 0xFF  # a block of deflate of a type that is none
    elif change == "no gzip":
        content = bytearray(b"something else")
    with pytest.raises(DigestMismatch, match="A manifest of the copy is damaged"):
        list(read_manifest(io.BytesIO(content)))
