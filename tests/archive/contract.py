"""The contract suite of archives: subclass ``ArchiveContract`` and give it a ``harness`` fixture."""

from __future__ import annotations

from functools import partial
from typing import Protocol

import pytest

from backup_scp.errors import ArchiveUnavailable, Damaged, DigestMismatch, FileMissing
from backup_scp.ports import Archive, ArchivedFile, Heading, InstanceKey
from tests.archive.examples import ARRIVAL, DATA_SET, HEADING, KEY, digest, store
from tests.archive.intake import swept


class Harness(Protocol):
    """What the suite needs to do behind an archive's back."""

    def open(self) -> Archive:
        """Open the one storage, as a further process would."""

    def die(self, archive: Archive) -> None:
        """Do to the storage what the death of the archive's process does."""

    def flip(self, location: str, position: int) -> None:
        """Change one bit of the byte at ``position``; from the end when negative."""

    def truncate(self, location: str) -> None:
        """Lose the last byte."""

    def append(self, location: str) -> None:
        """Gain a byte."""

    def remove(self, location: str) -> None:
        """Lose the file."""


class ArchiveContract:
    @pytest.fixture
    def harness(self) -> Harness:
        raise NotImplementedError

    @pytest.fixture
    def archive(self, harness: Harness) -> Archive:
        return harness.open()

    def test_gives_back_the_bytes_and_the_facts(self, archive: Archive):
        location = store(archive)
        file = archive.read(location)
        assert bytes_of(file) == DATA_SET
        assert (file.location, file.heading, file.arrival) == (location, HEADING, ARRIVAL)
        assert (file.sha256, file.size_bytes) == (digest(DATA_SET), len(DATA_SET))
        assert archive.verify(location, digest(DATA_SET)) == file

    @pytest.mark.parametrize("data", [b"", b"x", b"\0" * 3_000_001], ids=["empty", "odd", "3 MB"])
    def test_keeps_any_length(self, archive: Archive, data: bytes):
        location = store(archive, data)
        assert bytes_of(archive.verify(location, digest(data))) == data

    @pytest.mark.parametrize("data", [b"", b"x", b"\0" * 3_000_001], ids=["empty", "odd", "3 MB"])
    def test_load_leaves_what_was_compared_in_the_memory_given(self, archive: Archive, data: bytes):
        location, memory = store(archive, data), memoryview(bytearray(4_000_000))
        file = archive.load(location, digest(data), lambda size: memory[:size])
        assert file == archive.verify(location, digest(data))
        assert file.content is not None
        assert bytes(file.content) == data
        file.path.unlink()
        assert bytes_of(file) == data
        assert memory[: len(data)] == data

    def test_load_without_room_compares_all_the_same(self, archive: Archive, harness: Harness):
        location = store(archive)
        assert archive.load(location, digest(DATA_SET), lambda _: None).content is None
        harness.flip(location, -1)
        with pytest.raises(DigestMismatch):
            archive.load(location, digest(DATA_SET), lambda _: None)

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_takes_what_buffers_are_made_of(self, archive: Archive, kind):
        staged = archive.stage(HEADING)
        for at in range(0, len(DATA_SET), 7):
            staged.write(kind(DATA_SET[at : at + 7]))
        assert (staged.size_bytes, staged.sha256) == (len(DATA_SET), digest(DATA_SET))
        assert bytes_of(archive.verify(archive.commit(staged, KEY, ARRIVAL)[0], digest(DATA_SET))) == DATA_SET

    def test_a_buffer_may_be_used_again_at_once(self, archive: Archive):
        staged = archive.stage(HEADING)
        buffer = bytearray(b"abcd")
        with memoryview(buffer) as view:
            staged.write(view[:3])
        buffer.clear()  # BufferError if anyone still looks at it
        assert archive.read(archive.commit(staged, KEY, ARRIVAL)[0]).sha256 == digest(b"abc")

    def test_a_staged_data_set_can_be_read_while_it_comes_in(self, archive: Archive):
        staged = archive.stage(HEADING)
        staged.write(DATA_SET)
        with staged.data_set() as stream:
            assert stream.read() == DATA_SET
        assert staged.heading == HEADING
        staged.discard()

    def test_a_staged_file_is_not_visible(self, archive: Archive, harness: Harness):
        staged = archive.stage(HEADING)
        staged.write(DATA_SET)
        assert list(harness.open().locations()) == []
        staged.discard()
        assert list(harness.open().locations()) == []

    def test_discard_may_be_called_twice_and_after_commit(self, archive: Archive):
        given_up = archive.stage(HEADING)
        given_up.discard()
        given_up.discard()
        staged = archive.stage(HEADING)
        staged.write(DATA_SET)
        location, _ = archive.commit(staged, KEY, ARRIVAL)
        staged.discard()
        archive.verify(location, digest(DATA_SET))
        archive.forget(staged)
        archive.forget(staged)
        staged.discard()
        archive.verify(location, digest(DATA_SET))

    def test_the_same_bytes_meet_the_same_location(self, archive: Archive, harness: Harness):
        first = store(archive)
        later = harness.open()
        assert store(later) == first
        assert list(archive.locations()) == [first]

    def test_the_first_arrival_of_the_same_bytes_stays(self, archive: Archive):
        location = store(archive)
        store(archive, heading=Heading("1.9", "1.9", "1.9", "OTHER"))
        assert archive.read(location).heading == HEADING

    def test_other_bytes_are_a_further_version(self, archive: Archive):
        one, two = store(archive, b"one"), store(archive, b"two")
        assert one != two
        assert (bytes_of(archive.read(one)), bytes_of(archive.read(two))) == (b"one", b"two")
        assert sorted(archive.locations()) == sorted([one, two])

    @pytest.mark.parametrize("part", range(3))
    @pytest.mark.parametrize("uid", ["", "folder/x", ".", "1.2\0.3", "1." * 150 + "1", "a.b", "NUL", "ünï", "1..2"])
    def test_any_uid_has_a_place(self, archive: Archive, uid: str, part: int):
        key = InstanceKey(*(uid if number == part else known for number, known in enumerate(KEY)))
        heading = Heading(uid, uid, uid, uid)
        location = store(archive, key=key, heading=heading)
        file = archive.verify(location, digest(DATA_SET))
        assert file.heading.sop_instance_uid == uid
        assert list(archive.locations()) == [location]

    @pytest.mark.parametrize("position", [0, 130, 200, -len(DATA_SET) - 1, -len(DATA_SET), -1])
    def test_verify_finds_damage(self, archive: Archive, harness: Harness, position: int):
        location = store(archive)
        harness.flip(location, position)
        for look in (archive.verify, partial(archive.load, room=lambda size: memoryview(bytearray(size)))):
            with pytest.raises(DigestMismatch):
                look(location, digest(DATA_SET))

    def test_read_finds_damage_before_the_data_set(self, archive: Archive, harness: Harness):
        location = store(archive)
        harness.flip(location, 200)
        with pytest.raises(DigestMismatch):
            archive.read(location)

    @pytest.mark.parametrize("change", ["truncate", "append"])
    def test_a_file_of_another_length_is_damaged(self, archive: Archive, harness: Harness, change: str):
        location = store(archive)
        getattr(harness, change)(location)
        require_unreadable(archive, location, DigestMismatch)

    def test_verify_compares_with_what_it_is_told(self, archive: Archive):
        location = store(archive)
        with pytest.raises(DigestMismatch):
            archive.verify(location, digest(b"another"))
        with pytest.raises(DigestMismatch):
            archive.load(location, digest(b"another"), lambda size: memoryview(bytearray(size)))

    def test_a_file_that_is_gone_is_missing(self, archive: Archive, harness: Harness):
        location = store(archive)
        harness.remove(location)
        require_unreadable(archive, location, FileMissing)

    @pytest.mark.parametrize(
        "location", ["", "/etc/passwd", "../x", "ab/1/2/../../../../x", "ab/1/2/3.dcm", "C:\\x", "a\0"]
    )
    def test_what_is_no_location_is_missing(self, archive: Archive, location: str):
        store(archive)
        require_unreadable(archive, location, FileMissing)

    @pytest.mark.parametrize("position", [0, 300, -1])
    def test_a_resend_repairs_a_damaged_file(self, archive: Archive, harness: Harness, position: int):
        location = store(archive)
        harness.flip(location, position)
        assert store(harness.open()) == location
        archive.verify(location, digest(DATA_SET))
        assert list(archive.locations()) == [location]

    def test_a_resend_repairs_again_and_again(self, archive: Archive, harness: Harness):
        location = store(archive)
        for change in (harness.truncate, harness.append, harness.remove, harness.truncate):
            change(location)
            assert store(archive) == location
            archive.verify(location, digest(DATA_SET))

    def test_sweep_leaves_the_living_alone(self, archive: Archive, harness: Harness):
        staged = archive.stage(HEADING)
        staged.write(DATA_SET)
        assert list(harness.open().sweep()) == []
        assert list(archive.sweep()) == []
        archive.verify(archive.commit(staged, KEY, ARRIVAL)[0], digest(DATA_SET))

    def test_sweep_removes_what_the_dead_left_half_written(self, archive: Archive, harness: Harness):
        staged = archive.stage(HEADING)
        staged.write(DATA_SET)
        harness.die(archive)
        other = harness.open()
        assert list(other.sweep()) == []
        assert list(other.locations()) == []
        staged.discard()

    def test_sweep_yields_what_the_dead_committed_and_did_not_forget(self, archive: Archive, harness: Harness):
        staged = archive.stage(HEADING)
        staged.write(DATA_SET)
        location, _ = archive.commit(staged, KEY, ARRIVAL)
        staged.discard()  # the index failed: the note stays
        forgotten = store(archive, b"forgotten")
        harness.die(archive)
        other = harness.open()
        assert {location} <= set(swept(other)) <= {location, forgotten}  # a journal knows of both
        assert swept(other) == []
        other.verify(location, digest(DATA_SET))
        other.verify(forgotten, digest(b"forgotten"))

    def test_settle_takes_many_at_once_and_leaves_their_notes(self, archive: Archive, harness: Harness):
        many = []
        for number in range(3):
            staged = archive.stage(HEADING)
            staged.write(b"%d" % number)
            location, _ = archive.commit(staged, KEY._replace(series_instance_uid=f"1.2.{number}"), ARRIVAL)
            many.append((staged, location))
        archive.settle([staged for staged, _ in many])
        archive.settle([])
        harness.die(archive)
        other = harness.open()
        assert set(swept(other)) == {location for _, location in many}
        for number, (_, location) in enumerate(many):
            other.verify(location, digest(b"%d" % number))

    @pytest.mark.parametrize("is_settled", [True, False])
    def test_a_file_that_is_under_way_outlasts_close(self, archive: Archive, harness: Harness, is_settled: bool):
        """Its note is not removed before ``forget``, whatever is closed meanwhile."""
        store(archive, b"forgotten")
        staged = archive.stage(HEADING)
        staged.write(DATA_SET)
        location, _ = archive.commit(staged, KEY, ARRIVAL)
        if is_settled:
            archive.settle([staged])
        archive.close()
        archive.close()
        harness.die(archive)
        other = harness.open()
        assert location in swept(other)
        other.verify(location, digest(DATA_SET))
        staged.discard()

    def test_it_goes_on_after_close(self, archive: Archive):
        store(archive, b"before")
        archive.close()
        archive.verify(store(archive), digest(DATA_SET))

    def test_a_sweep_that_is_stopped_yields_the_same_again(self, archive: Archive, harness: Harness):
        staged = archive.stage(HEADING)
        staged.write(DATA_SET)
        location, _ = archive.commit(staged, KEY, ARRIVAL)
        harness.die(archive)
        stopped = harness.open().sweep()
        assert next(stopped) == [location]
        del stopped  # as a crash of the index would
        assert swept(harness.open()) == [location]

    def test_a_sweep_of_its_own_that_is_stopped_yields_the_same_again(self, archive: Archive):
        locations = []
        for data in (b"one", b"two"):
            staged = archive.stage(HEADING)
            staged.write(data)
            locations.append(archive.commit(staged, KEY, ARRIVAL)[0])
            staged.discard()
        stopped = archive.sweep()
        assert set(next(stopped)) <= set(locations)
        del stopped
        assert archive.has_leftovers
        assert set(swept(archive)) == set(locations)
        assert not archive.has_leftovers

    def test_it_is_given_an_identity_once(self, archive: Archive, harness: Harness):
        assert archive.identity() is None
        identity = archive.establish()
        assert (archive.identity(), harness.open().identity()) == (identity, identity)
        assert harness.open().establish("0" * 32) == identity
        assert list(archive.locations()) == []

    def test_an_archive_that_is_not_the_expected_one_is_left_alone(self, archive: Archive):
        location = store(archive)
        staged = archive.stage(HEADING)
        staged.write(b"other")
        archive.establish("1" * 32)
        archive.expect("2" * 32)
        for look in (
            archive.require_ready,
            lambda: archive.stage(HEADING),
            lambda: archive.commit(staged, KEY, ARRIVAL),
            lambda: archive.settle([staged]),
            lambda: list(archive.sweep()),
            lambda: list(archive.locations()),
        ):
            with pytest.raises(ArchiveUnavailable, match="another archive"):
                look()
        staged.discard()
        archive.expect("1" * 32)
        archive.require_ready()
        assert list(archive.locations()) == [location]

    def test_what_is_not_trusted_is_tried_first(self, archive: Archive):
        archive.mark_faulty("It did not keep data")
        assert archive.trouble == "It did not keep data"
        archive.stage(HEADING).discard()
        assert archive.trouble == ""

    def test_free_bytes(self, archive: Archive):
        assert archive.free_bytes() > 0


def require_unreadable(archive: Archive, location: str, error: type[Damaged]) -> None:
    """Try each way of reading a file, and expect this error."""
    with pytest.raises(error):
        archive.read(location)
    with pytest.raises(error):
        archive.verify(location, digest(DATA_SET))
    with pytest.raises(error):
        archive.load(location, digest(DATA_SET), lambda _: None)


def bytes_of(file: ArchivedFile) -> bytes:
    with file.data_set() as stream:
        return stream.read()
