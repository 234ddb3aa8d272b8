"""A sealed copy stands alone: what is damaged, foreign or of the future is left out.  On a drive, as in a bucket."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tracemalloc
from datetime import timedelta

import pytest

from backup_scp.copies.cloud.sealing import RecoveryKeys, Seal, make_keys
from backup_scp.copies.sealed_drive import SealedDriveCopy
from backup_scp.errors import DigestMismatch, OtherKey
from backup_scp.machine import clock
from backup_scp.ports import Contents, CopyItem, StoredCopy, StoredVersion
from tests.copies.clouds import empty_folder
from tests.copies.contract import IDENTITY, Snapshots, flip, put, small_archive
from tests.copies.test_drive import prepare
from tests.samples import dx, encode

PAIR, OTHER = make_keys(), make_keys()
KEYS = RecoveryKeys(PAIR.recovery_key)
HELD = StoredVersion("1", "2", "3", "4", "5", "location", "0" * 64, 60 << 20, clock.now())


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "drive"
    prepare(folder)
    return folder


@pytest.fixture
def made(tmp_path):
    return small_archive(tmp_path, [encode(dx(StudyDescription=f"Number {number}")) for number in range(4)])


@pytest.fixture
def open_place(folder, tmp_path):
    def open_place(*, keys: RecoveryKeys | None = KEYS, encrypt: str = PAIR.public_key) -> SealedDriveCopy:
        encrypts = [encrypt] if encrypt else []
        return SealedDriveCopy("drive", folder, lambda: IDENTITY, tmp_path / "work", encrypts, recovery_keys=keys)

    return open_place


@pytest.fixture
def days(monkeypatch):
    """Lets days pass."""
    began, passed = clock.now(), [0]
    monkeypatch.setattr(clock, "source", lambda: began + timedelta(days=passed[0]))

    def pass_days(number: int) -> None:
        passed[0] += number

    return pass_days


class Taken(Snapshots):
    """A snapshot with a content of its own."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.content = content


@pytest.fixture
def two(open_place, made, days):
    """Two snapshots of different days, and images with each."""
    snapshots = [Taken(b"the first index"), Taken(b"the second index" * 9999)]
    with open_place() as place:
        for number, snapshot in enumerate(snapshots):
            put(place, made, made.items[2 * number : 2 * number + 2])
            place.conclude(snapshot, is_complete=True)
            days(5)
    return snapshots


def files(folder, kind):
    return sorted((folder / kind).rglob("*.*"))


def store(folder, kind, suffix, content, moment, public_key=PAIR.public_key):
    """Store an object as whoever may write could do."""
    sealed = io.BytesIO()
    Seal([public_key]).write(io.BytesIO(content), sealed)
    name = f"{moment:%Y-%m-%dT%H%M%SZ}-{hashlib.sha256(sealed.getvalue()).hexdigest()}{suffix}"
    (folder / kind / name).write_bytes(sealed.getvalue())


def fetched_index(place, tmp_path) -> bytes:
    target = tmp_path / "fetched"
    target.unlink(missing_ok=True)
    assert place.fetch_index(target)
    return target.read_bytes()


def test_the_newest_index_counts(open_place, two, tmp_path):
    with open_place() as place:
        assert fetched_index(place, tmp_path) == two[1].content
        assert place.contents() == two[1].contents


def damaged(path):
    flip(path)


def half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


def missing(path):
    path.unlink()


@pytest.mark.parametrize("harm", [damaged, half, empty, missing])
def test_the_index_before_counts_when_the_newest_is_not_whole(open_place, folder, two, tmp_path, harm):
    harm(files(folder, "index")[-1])
    with open_place() as place:
        assert fetched_index(place, tmp_path) == two[0].content
        assert place.contents() == two[0].contents  # so that what came after it is read from the lists


@pytest.mark.parametrize(
    ("content", "public_key"),
    [
        (gzip.compress(b"a forged index")[:-9], PAIR.public_key),
        (b"no gzip", PAIR.public_key),
        (gzip.compress(b"a forged index"), OTHER.public_key),
    ],
    ids=["cut off before it was sealed", "no gzip", "sealed for another key"],
)
def test_what_others_stored_is_left_out(open_place, folder, two, tmp_path, content, public_key):
    store(folder, "index", ".sqlite.gz.age", content, clock.now(), public_key)
    with open_place() as place:
        assert fetched_index(place, tmp_path) == two[1].content


def test_an_index_of_the_future_is_the_last(open_place, folder, two, tmp_path):
    store(folder, "index", ".sqlite.gz.age", gzip.compress(b"forged"), clock.now() + timedelta(days=400))
    with open_place() as place:
        assert place.contents() == two[1].contents
        assert fetched_index(place, tmp_path) == two[1].content


def test_no_whole_index_is_told_and_leaves_no_file(open_place, folder, two, tmp_path):
    for path in files(folder, "index"):
        flip(path)
    with open_place() as place, pytest.raises(DigestMismatch, match="came back changed"):
        place.fetch_index(tmp_path / "fetched")
    assert not (tmp_path / "fetched").exists()


def test_the_settings_before_count_when_the_newest_are_damaged(open_place, folder, two):
    flip(files(folder, "settings")[-1])
    with open_place() as place:
        assert place.saved_settings() == two[0].settings()
        flip(files(folder, "settings")[0])
        with pytest.raises(DigestMismatch, match="Nothing in settings"):
            place.saved_settings()


def test_an_older_copy_says_when_its_index_was_written(open_place, folder, two):
    for path in files(folder, "contents"):
        path.unlink()
    with open_place() as place:
        assert place.contents() == Contents(two[1].contents.taken_at)


def test_a_damaged_word_on_the_index_is_left_out(open_place, folder, two):
    flip(files(folder, "contents")[-1])
    with open_place() as place:
        assert place.contents() == Contents(two[1].contents.taken_at)


def test_without_a_key_names_tell_what_they_can(open_place, two, tmp_path):
    with open_place(keys=None) as place:
        assert place.is_sealed()
        assert place.contents() == Contents(two[1].contents.taken_at)
        for ask in (place.saved_settings, lambda: place.fetch_index(tmp_path / "x"), lambda: list(place.listed())):
            with pytest.raises(DigestMismatch, match="envelope"):
                ask()


def test_another_key_is_told_from_a_typing_error(open_place, two, tmp_path):
    with open_place(keys=RecoveryKeys(OTHER.recovery_key)) as place:
        for ask in (place.saved_settings, lambda: place.fetch_index(tmp_path / "x")):
            with pytest.raises(OtherKey, match="no typing error"):
                ask()
        assert place.contents() == Contents(two[1].contents.taken_at)


def test_what_was_written_before_is_left_out(open_place, two, made):
    with open_place() as place:
        listed = [image.location for image in place.listed()]
        late = [image.location for image in place.listed(two[1].contents.taken_at)]
    located = [item.held.location for item in made.items]
    assert set(listed[:2]) == set(late) == set(located[2:])  # the newest first
    assert set(listed[2:]) == set(located[:2])


def test_a_list_that_cannot_be_read_is_told_and_the_others_are_read(open_place, folder, two, made):
    flip(files(folder, "manifests")[0])
    store(folder, "manifests", ".jsonl.gz.age", b"foreign", clock.now())
    with open_place() as place:
        listed = {image.location for image in place.listed()}
        assert listed == {item.held.location for item in made.items[2:]}
        assert "2 lists of images cannot be read" in "".join(place.alarms)


def test_a_key_is_proved(open_place, folder, two):
    with open_place(keys=None) as place:
        assert place.proves(KEYS)
        assert not place.proves(RecoveryKeys(OTHER.recovery_key))
        assert place.proves(RecoveryKeys(f"{OTHER.recovery_key}\n{PAIR.recovery_key}"))
        for kind in ("contents", "settings", "manifests"):
            for path in files(folder, kind):
                flip(path)
        with pytest.raises(DigestMismatch, match="cannot be tried"):
            place.proves(KEYS)


def test_a_foreign_object_does_not_make_the_key_a_wrong_one(open_place, folder, two):
    store(folder, "contents", ".json.age", b"{}", clock.now(), OTHER.public_key)
    with open_place(keys=None) as place:
        assert place.proves(KEYS)


def test_a_plain_copy_needs_no_key(open_place, made, tmp_path):
    with open_place(keys=None, encrypt="") as place:
        assert not place.is_sealed()
        put(place, made)
        place.conclude(Snapshots(), is_complete=True)
        assert not place.is_sealed()
        assert place.proves(KEYS)
        assert fetched_index(place, tmp_path) == Snapshots.content


def test_what_is_said_of_an_index_is_json(open_place, folder, two):
    opened = io.BytesIO()
    KEYS.open(io.BytesIO(files(folder, "contents")[-1].read_bytes()), opened)
    said = json.loads(opened.getvalue())
    assert (said["patients"], said["studies"], said["images"], said["complete"]) == (4, 5, 6, True)
    assert folder / said["index"] == files(folder, "index")[-1]


def test_a_large_image_is_opened_with_little_memory(open_place, folder, tmp_path):
    class Counting:
        size_bytes = 0

        def write(self, data):
            self.size_bytes += len(data)
            return len(data)

        def flush(self):
            pass

    sealed = io.BytesIO()
    found = Seal([PAIR.public_key]).write(io.BytesIO(bytes(60 << 20)), sealed)
    (folder / "large.dcm.age").write_bytes(sealed.getvalue())
    del sealed
    item = CopyItem(1, HELD, StoredCopy("large.dcm.age", found.sha256, found.size_bytes))
    into = Counting()
    with open_place() as place:
        tracemalloc.start()
        try:
            place.fetch(item, into)
            assert tracemalloc.get_traced_memory()[1] < 12 << 20
        finally:
            tracemalloc.stop()
    assert into.size_bytes == 60 << 20
    assert empty_folder(tmp_path / "work")
