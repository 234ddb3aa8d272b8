"""What every place for further copies keeps, as tests (`backup_scp/ports/copies.py`), and a small archive for them.

A kind of place has a class of its own: ``class TestDrive(CopyPlaceContract)`` with a fixture ``open_place``: it returns
a function that returns a new, not yet entered place; all of them lead to the same store.  What only the kind knows is
how to damage it from outside: ``flip`` and ``remove``.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from backup_scp.archive.filesystem import FilesystemArchive
from backup_scp.dicom.sop_instance import SOPInstance
from backup_scp.errors import Damaged, DestinationUnavailable
from backup_scp.machine import clock
from backup_scp.ports import (
    ArchivedFile,
    Arrival,
    Contents,
    CopyItem,
    CopyPlace,
    CopyResult,
    InstanceKey,
    StandAloneCopy,
    StoredVersion,
)
from tests.samples import Sample, dx, encode, odd_identities, one_of_each
from tests.stored import arrival, heading_of

IDENTITY = "0123456789abcdef" * 2


@dataclass
class SmallArchive:
    """A real archive with real DICOM files, and the items that a copy is given."""

    archive: FilesystemArchive
    items: list[CopyItem]
    reads: int = 0

    def add(self, *samples: Sample, site: str = "") -> list[CopyItem]:
        """Store further images; return their items."""
        first = len(self.items) + 1
        new = []
        for number, sample in enumerate(samples, first):
            new.append(CopyItem(number, self._commit(sample, arrival(number, site=site))))
        self.items += new
        return new

    def _commit(self, sample: Sample, came: Arrival) -> StoredVersion:
        uids = (sample.transfer_syntax_uid, sample.sop_class_uid, sample.sop_instance_uid)
        instance = SOPInstance.read(io.BytesIO(sample.data_set), *uids)
        key = InstanceKey(instance.study_instance_uid, instance.series_instance_uid, instance.sop_instance_uid)
        staged = self.archive.stage(heading_of(sample))
        staged.write(sample.data_set)
        location, _ = self.archive.commit(staged, key, came)
        self.archive.forget(staged)
        about = (instance.sop_class_uid, instance.transfer_syntax_uid, location, sample.sha256)
        return StoredVersion(*key, *about, len(sample.data_set), came.received_at)

    def read(self, held: StoredVersion) -> ArchivedFile:
        """Open an original, as `ReadOriginal` does."""
        self.reads += 1
        return self.archive.read(held.location)

    def bytes_of(self, item: CopyItem) -> bytes:
        """Return the whole file."""
        return self.path(item).read_bytes()

    def path(self, item: CopyItem) -> Path:
        return self.archive.read(item.held.location).path

    def flip(self, item: CopyItem, position: int = -1) -> None:
        """Damage an original."""
        flip(self.path(item), position)


def small_archive(folder: Path, samples: Iterable[Sample] | None = None) -> SmallArchive:
    """Make an archive; by default with an instance of each kind, two versions of one, and odd Transfer Syntaxes."""
    made = SmallArchive(FilesystemArchive(folder / "archive"), [])
    if samples is None:
        samples = [
            *map(encode, one_of_each()),
            encode(dx(StudyDescription="another version")),
            encode(dx(study="7"), ImplicitVRLittleEndian),
            encode(dx(study="8", PatientName="Müller^Jörg", SpecificCharacterSet="ISO_IR 100"), ImplicitVRLittleEndian),
            encode(dx(study="9"), DeflatedExplicitVRLittleEndian),
        ]
    made.add(*samples)
    return made


def flip(path: Path, position: int = -1) -> None:
    """Change one byte of a file."""
    path.chmod(0o600)
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


class Snapshots:
    """What a place is given to stand alone; ``taken`` counts the copies of the index."""

    content = b"SQLite format 3\0 of the test"

    def __init__(self) -> None:
        self.taken = 0
        self.contents = Contents()

    def index(self, path: Path) -> Contents:
        assert not path.exists()
        self.taken += 1
        path.write_bytes(self.content)
        now = clock.now().replace(microsecond=0)
        self.contents = Contents(now, 4, 5, 6, 7_000_000, newest_at=now - timedelta(hours=1))
        return self.contents

    def settings(self) -> str:
        return '[node]\nae_title = "TEST"\n'


def put(place: CopyPlace, made: SmallArchive, items: Sequence[CopyItem] | None = None) -> list:
    """Bring items to a place; return them with what is there now.  All of them must succeed."""
    items = made.items if items is None else items
    results = {result.number: result for result in place.put(items, made.read)}
    assert set(results) == {item.number for item in items}
    assert not [result for result in results.values() if result.error or result.is_lost]
    return [item._replace(stored=results[item.number].stored) for item in items]


def until_away(results: Iterable[CopyResult]) -> list[CopyResult]:
    """Return the results before ``DestinationUnavailable``."""
    found = []
    try:
        for result in results:
            found.append(result)  # noqa: PERF402 - what came before the error counts
    except DestinationUnavailable:
        return found
    pytest.fail("It is not away")


def fetched(place: CopyPlace, item: CopyItem) -> bytes:
    into = io.BytesIO()
    place.fetch(item, into)
    return into.getvalue()


OpenPlace = Callable[[], CopyPlace]


class CopyPlaceContract:
    """Tests that run on every kind of place."""

    is_sealed = False
    """Whether the place seals files: then it has other bytes than the archive, and fetches what it can open."""

    def archived(self, made: SmallArchive, item: CopyItem) -> bytes:
        """Return the bytes that a place must give back; another PACS only those of the Data Set."""
        return made.bytes_of(item)

    def fetched(self, place: CopyPlace, item: CopyItem) -> bytes:
        """Return what a place gives back of them."""
        return fetched(place, item)

    @pytest.fixture
    def open_place(self) -> OpenPlace:
        raise NotImplementedError

    @pytest.fixture
    def made(self, tmp_path: Path) -> SmallArchive:
        return small_archive(tmp_path)

    def flip(self, stored_name: str) -> None:
        """Change one byte of what the place has under a name, behind its back."""
        raise NotImplementedError

    def remove(self, stored_name: str) -> None:
        """Take a name away, behind its back."""
        raise NotImplementedError

    def test_each_version_is_there_and_comes_back_byte_for_byte(self, open_place, made):
        with open_place() as place:
            stored = put(place, made)
            assert len({item.stored.name for item in stored}) == len(stored)
        with open_place() as place:
            for item in stored:
                assert self.fetched(place, item) == self.archived(made, item)
                if not self.is_sealed:
                    assert item.stored.size_bytes == len(self.archived(made, item))

    def test_the_same_version_is_written_once(self, open_place, made):
        with open_place() as place:
            first = put(place, made)
        with open_place() as place:
            again = put(place, made)
            if not self.is_sealed:  # sealing is not deterministic; the key has the digest of what is sealed
                assert [item.stored for item in again] == [item.stored for item in first]
            assert {self.fetched(place, item) for item in again} == {self.archived(made, item) for item in made.items}

    def test_odd_identities_are_kept(self, open_place, tmp_path):
        made = small_archive(tmp_path, odd_identities())
        with open_place() as place:
            for item in put(place, made):
                assert self.fetched(place, item) == self.archived(made, item)

    def test_a_damaged_original_is_lost_and_the_others_are_copied(self, open_place, made):
        damaged = made.items[0]
        made.flip(damaged)
        with open_place() as place:
            results = {result.number: result for result in place.put(made.items, made.read)}
            assert set(results) == {item.number for item in made.items}
            lost = results.pop(damaged.number)
            assert (lost.stored, lost.is_lost, bool(lost.error)) == (None, True, True)
            assert all(result.stored for result in results.values())

    def test_a_missing_original_is_lost(self, open_place, made):
        path = made.path(made.items[0])
        path.rename(path.with_suffix(".away"))
        with open_place() as place:
            (result,) = place.put(made.items[:1], made.read)
        assert (result.stored, result.is_lost) == (None, True)

    def test_what_is_there_compares_equal(self, open_place, made):
        with open_place() as place:
            stored = put(place, made)
        with open_place() as place:
            results = sorted(place.compare(stored))
        assert results == sorted(CopyResult(item.number, item.stored) for item in stored)

    def test_a_flipped_bit_and_a_missing_file_are_found_and_written_again(self, open_place, made):
        with open_place() as place:
            stored = put(place, made)
        flipped, missing, *others = stored
        self.flip(flipped.stored.name)
        self.remove(missing.stored.name)
        with open_place() as place:
            results = {result.number: result for result in place.compare(stored)}
            for item in (flipped, missing):
                assert results[item.number].stored is None
                assert item.held.sop_instance_uid in results[item.number].error
                with pytest.raises(Damaged):
                    self.fetched(place, item)
            assert [results[item.number].stored for item in others] == [item.stored for item in others]
            for item in put(place, made, [flipped, missing]):
                assert self.fetched(place, item) == self.archived(made, item)

    def test_it_can_be_concluded_again_and_again(self, open_place, made):
        snapshots = Snapshots()
        with open_place() as place:
            put(place, made, made.items[:3])
            place.conclude(snapshots, is_complete=False)
            stored = put(place, made)
            place.conclude(snapshots, is_complete=True)
        with open_place() as place:
            place.conclude(snapshots, is_complete=True)
            for item in stored:
                assert self.fetched(place, item) == self.archived(made, item)

    def test_no_error_names_a_patient(self, open_place, made):
        secret = made.add(encode(dx(study="77", PatientName="SECRET^NAME", PatientID="SECRETID")))
        with open_place() as place:
            stored = put(place, made, secret)
            self.flip(stored[0].stored.name)
            (result,) = place.compare(stored)
            made.flip(secret[0])
            (lost,) = place.put([secret[0]._replace(stored=None)], made.read)
        assert "SECRET" not in f"{result.error}{lost.error}".upper().replace(stored[0].stored.name, "")

    def test_a_version_named_by_another_digest_is_not_confirmed(self, open_place, made):
        item = made.items[0]
        wrong = item._replace(held=item.held._replace(sha256="0" * 64))
        with open_place() as place:
            (result,) = place.put([wrong], lambda held: replace(made.read(item.held)))
        assert (result.stored, result.is_lost) == (None, True)


class StandAloneContract(CopyPlaceContract):
    """Tests of the places from which a node can be made again (`backup_scp/ports/recovery.py`)."""

    @pytest.fixture
    def concluded(self, open_place, made):
        """Return what was put, and the snapshot of the last conclusion."""
        snapshots = Snapshots()
        with open_place() as place:
            stored = put(place, made)
            place.conclude(snapshots, is_complete=True)
        return stored, snapshots

    def test_it_says_what_its_index_lists(self, open_place, concluded):
        _, snapshots = concluded
        with open_place() as place:
            assert isinstance(place, StandAloneCopy)
            assert place.contents() == snapshots.contents
            assert place.saved_settings() == snapshots.settings()
            assert place.archive in {"", IDENTITY}

    def test_its_index_comes_back(self, open_place, concluded, tmp_path):
        fetched_index = tmp_path / "fetched.sqlite"
        with open_place() as place:
            assert place.fetch_index(fetched_index)
            in_place = place.index_in_place()
            assert place.contents() == concluded[1].contents
        assert fetched_index.read_bytes() == Snapshots.content
        assert in_place is None or in_place.read_bytes() == Snapshots.content

    def test_an_index_is_never_fetched_over_a_file(self, open_place, concluded, tmp_path):
        (tmp_path / "mine").write_bytes(b"mine")
        with open_place() as place, pytest.raises(FileExistsError):
            place.fetch_index(tmp_path / "mine")
        assert (tmp_path / "mine").read_bytes() == b"mine"

    def test_a_new_copy_says_nothing(self, open_place, tmp_path):
        with open_place() as place:
            assert place.contents() == Contents()
            assert place.saved_settings() == ""
            assert not place.fetch_index(tmp_path / "fetched.sqlite")
            assert place.index_in_place() is None
            assert list(place.listed()) == []
        assert not (tmp_path / "fetched.sqlite").exists()

    def test_what_is_listed_can_be_fetched(self, open_place, concluded, made):
        with open_place() as place:
            listed = {image.sha256: image for image in place.listed()}
            assert set(listed) == {item.held.sha256 for item in made.items}
            for item in concluded[0]:
                image = listed[item.held.sha256]
                assert image.location in {"", item.held.location}
                assert image.key is None or image.key.sop_instance_uid == item.held.sop_instance_uid
                assert self.fetched(place, item._replace(stored=image.stored)) == self.archived(made, item)
            assert list(place.listed(clock.now() + timedelta(days=5))) == []

    def test_several_threads_fetch_at_once(self, open_place, concluded, made):
        items = concluded[0] * 4
        with open_place() as place, ThreadPoolExecutor(place.fetches_at_once) as pool:
            assert 1 < place.fetches_at_once <= 8
            found = list(pool.map(lambda item: self.fetched(place, item), items))
        assert found == [self.archived(made, item) for item in items]

    def test_reading_writes_nothing_there(self, open_place, concluded, made, tmp_path):
        with open_place() as place:
            before = self.names(place)
            place.contents(), place.saved_settings(), list(place.listed())
            place.fetch_index(tmp_path / "fetched.sqlite")
            fetched(place, concluded[0][0])
        with open_place() as place:
            assert self.names(place) == before

    def names(self, place: CopyPlace) -> list[str]:
        """Return the names of all that is there."""
        raise NotImplementedError
