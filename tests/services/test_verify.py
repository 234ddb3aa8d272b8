"""Verify, repair and rebuild, on a real archive and a real index."""

from __future__ import annotations

import itertools
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from types import SimpleNamespace

import pytest

from backup_scp.archive import layout
from backup_scp.archive.filesystem import FilesystemArchive
from backup_scp.errors import ArchiveUnavailable, Damaged, DigestMismatch
from backup_scp.ports import Arrival, InstanceKey, Progress, Selection, VerificationResult
from backup_scp.services.ingest import Accepted
from backup_scp.services.read_back import version_of
from backup_scp.services.rebuild import Rebuild, rebuild
from backup_scp.services.verify import verify
from tests.samples import cr, dx, encode, odd_identities, one_of_each, replace, unparsable
from tests.stored import heading_of, key_of, put_into_archive, stored_in

EVERYTHING = Selection(all_versions=True)


class TestVerify:
    def test_all_is_well(self, stored):
        samples = [encode(ds) for ds in one_of_each()]
        for sample in samples:
            stored.put(sample)
        seen: list[Progress] = []
        found = verify(stored.archive, stored.index, seen.append)
        assert not found.needs_a_person
        assert found.intact == len(samples)
        assert found.size_bytes == sum(len(sample.data_set) for sample in samples)
        assert [(p.done, p.total) for p in seen] == [(n + 1, len(samples)) for n in range(len(samples))]
        holdings = stored.index.holdings()
        assert (holdings.never_verified, holdings.damaged) == (0, 0)
        assert {(p.done_bytes, p.total_bytes) for p in seen[-1:]} == {(found.size_bytes, holdings.size_bytes)}

    def test_what_was_found_is_told_in_one_sentence(self, stored):
        locations = [stored.put(encode(ds)).location for ds in one_of_each()]
        for location in locations[:2]:
            stored.flip(location)
        stored.path(locations[2]).unlink()
        put_into_archive(stored.archive, encode(dx(study="unknown")))
        for name in ("a.txt", "b.txt"):
            (stored.path(locations[0]).parents[3] / name).touch()
        found = verify(stored.archive, stored.index)
        intact = len(locations) - 3
        assert found.summary == f"{intact} intact, 2 damaged, 1 missing, 1 not in the index, 2 not ours"
        done = stored.index.tasks()["verified"]
        assert (done.done, done.note) == (len(locations), found.summary)

    def test_so_many_foreign_names_are_listed_and_all_are_counted(self, stored, monkeypatch):
        monkeypatch.setattr("backup_scp.services.verify.MOST_FOREIGN", 2)
        folder = stored.path(stored.put(encode(dx())).location).parents[3]
        for number in range(3):
            (folder / f"{number}.txt").touch()
        found = verify(stored.archive, stored.index)
        assert (len(found.foreign), found.foreign_count) == (2, 3)

    def test_a_pass_is_known_while_its_first_file_is_read(self, stored):
        """It is gone on with, if the process ends now."""
        stored.put(encode(dx()))
        seen = []
        verify(stored.archive, stored.index, lambda _: seen.append(stored.index.tasks()["verify"].done))
        assert seen == [0]

    def test_every_file_is_read_again_though_the_clock_was_set_back_a_little(self, stored, clock):
        stored.put(encode(dx()))
        for _ in range(3):
            assert verify(stored.archive, stored.index).intact == 1
            clock.jump(minutes=-1)

    def test_every_file_is_read_again_though_no_time_has_passed(self, stored, clock, monkeypatch):
        """A pass begins later than every earlier result, by a microsecond if by nothing else."""
        stored.put(encode(dx()))
        monkeypatch.setattr("backup_scp.machine.clock.time", SimpleNamespace(monotonic=lambda: 0.0))
        for _ in range(3):
            assert verify(stored.archive, stored.index).intact == 1
            clock.jump(minutes=-1)

    def test_damage_is_recorded_at_once(self, stored):
        for ds in (dx(), cr()):
            stored.flip(stored.put(encode(ds)).location)
        seen = []
        verify(stored.archive, stored.index, lambda _: seen.append(stored.index.holdings().damaged))
        assert seen == [0, 1]

    def test_results_are_recorded_in_batches(self, stored, monkeypatch):
        monkeypatch.setattr("backup_scp.services.verify.BATCH", 2)
        for number in range(4):
            stored.put(encode(dx(number=number)))
        seen: list[int] = []
        read: list[int] = []
        verify(
            stored.archive,
            stored.index,
            lambda _: seen.append(stored.index.holdings().never_verified),
            wait=read.append,
        )
        assert seen == [4, 4, 2, 2]
        assert sum(read) == stored.index.holdings().size_bytes

    def test_a_slow_pass_does_not_keep_its_results_for_itself(self, stored, monkeypatch):
        monkeypatch.setattr("backup_scp.services.verify.RECORD_EVERY", timedelta(0))
        for number in range(3):
            stored.put(encode(dx(number=number)))
        seen = []
        verify(stored.archive, stored.index, lambda _: seen.append(stored.index.holdings().never_verified))
        assert seen == [3, 2, 1]

    def test_what_is_repaired_while_it_is_read_is_intact(self, stored, monkeypatch):
        location = stored.put(encode(dx())).location
        stored.flip(location)
        real = stored.archive.verify

        def verified_and_repaired(location, sha256):
            try:
                return real(location, sha256)
            except Damaged:
                stored.flip(location)
                raise

        monkeypatch.setattr(stored.archive, "verify", verified_and_repaired)
        found = verify(stored.archive, stored.index)
        assert (found.intact, found.damaged) == (1, [])

    def test_what_was_read_while_the_clock_was_ahead_is_read_again(self, stored, clock):
        location = stored.put(encode(dx())).location
        stored.put(encode(cr()))
        clock.jump(days=3650)
        assert verify(stored.archive, stored.index).intact == 2
        clock.jump(days=-3650)
        stored.flip(location)
        found = verify(stored.archive, stored.index, resume=True)
        assert (found.intact, [finding.location for finding in found.damaged]) == (1, [location])
        holdings = stored.index.holdings()
        assert (holdings.damaged, holdings.never_verified) == (1, 0)
        assert holdings.last_verified_at < clock() + timedelta(days=1)

    def test_what_is_met_while_the_clock_is_behind_is_recorded(self, stored, clock):
        location = stored.put(encode(dx())).location
        verify(stored.archive, stored.index)
        clock.jump(days=-400)
        stored.flip(location)
        stored.index.record_verification([VerificationResult(location, "its digest is another")])
        assert stored.index.is_damaged(location)

    @pytest.mark.parametrize("days", [-400, -0.01, 400])
    def test_a_clock_that_jumps_meanwhile_does_not_begin_a_pass_again(self, stored, clock, monkeypatch, days):
        monkeypatch.setattr("backup_scp.index.records.statistics.BATCH", 2)
        monkeypatch.setattr("backup_scp.services.verify.BATCH", 1)
        samples = [encode(ds) for ds in one_of_each()]
        for sample in samples:
            stored.put(sample)

        def jump(progress: Progress) -> None:
            assert progress.done <= len(samples)
            clock.jump(days=days if progress.done == 2 else 0)

        assert verify(stored.archive, stored.index, jump).intact == len(samples)
        assert verify(stored.archive, stored.index, resume=True).intact == len(samples)

    def test_a_pass_that_was_interrupted_goes_on_after_the_clock_was_set_back_a_little(self, stored, clock):
        samples = [encode(ds) for ds in one_of_each()]
        for sample in samples:
            stored.put(sample)

        def interrupt(progress: Progress) -> None:
            if progress.done == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            verify(stored.archive, stored.index, interrupt)
        clock.jump(minutes=-10)
        seen: list[Progress] = []
        assert verify(stored.archive, stored.index, seen.append, resume=True).intact == len(samples) - 2
        assert [progress.done for progress in seen] == list(range(3, len(samples) + 1))
        assert {progress.total_bytes for progress in seen} == {0}, "nobody knows how many bytes were read before"
        done = stored.index.tasks()["verified"]
        assert done.done == len(samples)
        assert done.note == f"{len(samples) - 2} intact, and 2 checked before it was interrupted"

    def test_what_was_read_in_the_future_is_among_all_that_is_known(self, stored, clock):
        """The check whether any listed file exists must not report that none is listed."""
        stored.put(encode(dx()))
        clock.jump(days=400)
        verify(stored.archive, stored.index)
        clock.jump(days=-400)
        assert len(list(stored.index.versions())) == 1

    @pytest.mark.parametrize("position", [-1, 140])
    def test_damage_is_found_and_recorded(self, stored, position):
        good, bad = stored.put(encode(dx())), stored.put(encode(cr()))
        stored.flip(bad.location, position)
        found = verify(stored.archive, stored.index)
        assert [finding.location for finding in found.damaged] == [bad.location]
        assert (found.intact, found.missing) == (1, [])
        assert found.needs_a_person
        assert stored.index.holdings().damaged == 1
        assert good.location not in {remark.location for remark in stored.index.remarks(10)}

    def test_a_missing_file_is_found_and_recorded(self, stored):
        location = stored.put(encode(dx())).location
        stored.path(location).unlink()
        found = verify(stored.archive, stored.index)
        assert [finding.location for finding in found.missing] == [location]
        assert found.needs_a_person
        assert stored.index.holdings().damaged == 1

    @pytest.mark.parametrize("gone", [True, False])
    def test_sending_it_again_repairs_it(self, stored, gone):
        sample = encode(dx())
        location = stored.put(sample).location
        stored.path(location).unlink() if gone else stored.flip(location)
        assert verify(stored.archive, stored.index).needs_a_person
        assert stored.put(sample).repaired
        assert not verify(stored.archive, stored.index).needs_a_person
        assert stored.index.holdings().damaged == 0

    def test_results_of_a_run_that_is_interrupted_are_kept(self, stored):
        for number in range(3):
            stored.put(encode(dx(number=number)))

        def interrupt(progress):
            if progress.done == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            verify(stored.archive, stored.index, interrupt)
        assert stored.index.holdings().never_verified == 1
        assert verify(stored.archive, stored.index).intact == 3, "nobody has asked to go on with it"


class TestRepair:
    def test_an_unindexed_file_is_reported_and_entered_when_asked(self, stored):
        held = put_into_archive(stored.archive, encode(dx()))
        found = verify(stored.archive, stored.index)
        assert (found.unindexed, found.repaired) == ([held.location], 0)
        assert found.needs_a_person
        assert stored.index.select(EVERYTHING) == []

        found = verify(stored.archive, stored.index, repair=True)
        assert (found.unindexed, found.repaired) == ([held.location], 1)
        assert not found.needs_a_person
        assert stored.index.select(EVERYTHING) == [held]

    def test_a_folder_that_cannot_be_listed_needs_a_person(self, stored, monkeypatch):
        """It may hold images that the index does not list."""
        stored.put(encode(dx()))

        def locations(folder=""):
            raise DigestMismatch("a folder cannot be read")
            yield

        monkeypatch.setattr(stored.archive, "locations", locations)
        found = verify(stored.archive, stored.index)
        assert [finding.reason for finding in found.unindexed_damaged] == ["a folder cannot be read"]
        assert found.needs_a_person

    def test_a_damaged_unindexed_file_is_left_out(self, stored):
        held = put_into_archive(stored.archive, encode(dx()))
        stored.flip(held.location)
        found = verify(stored.archive, stored.index, repair=True)
        assert [finding.location for finding in found.unindexed_damaged] == [held.location]
        assert (found.unindexed, found.repaired) == ([], 0)
        assert found.needs_a_person
        assert stored.path(held.location).exists()

    def test_what_arrives_meanwhile_is_not_unindexed(self, stored):
        stored.put(encode(dx()))
        found = verify(stored.archive, stored.index, lambda _: stored.put(encode(cr())))
        assert found.unindexed == []

    @pytest.mark.parametrize(("minutes", "is_reported"), [(4.5, False), (5.5, True), (-4.5, False), (-10, True)])
    def test_a_file_with_a_note_is_on_its_way_for_five_minutes(self, stored, minutes, is_reported):
        """Its process died before, or the clock has been put back since."""
        sample = encode(dx())
        staged = stored.archive.stage(heading_of(sample))
        staged.write(sample.data_set)
        came = Arrival(datetime.now(UTC) - timedelta(minutes=minutes), "C-STORE")
        location, _ = stored.archive.commit(staged, key_of(sample), came)
        assert stored.archive.has_note(location)
        assert verify(stored.archive, stored.index).unindexed == [location] * is_reported

    def test_a_young_file_without_a_note_is_reported(self, stored):
        held = put_into_archive(stored.archive, encode(dx()), Arrival(datetime.now(UTC), "C-STORE"))
        assert not stored.archive.has_note(held.location)
        assert verify(stored.archive, stored.index).unindexed == [held.location]

    def test_a_file_whose_row_is_made_while_it_is_read_is_not_reported(self, stored, monkeypatch):
        held, real = put_into_archive(stored.archive, encode(dx())), stored.index.unindexed

        def unindexed(locations):
            for location in real(locations):
                stored.index.add(version_of(stored.archive, location, verify=True))
                yield location

        monkeypatch.setattr(stored.index, "unindexed", unindexed)
        found = verify(stored.archive, stored.index, repair=True)
        assert (found.unindexed, found.repaired, found.needs_a_person) == ([], 0, False)
        assert stored.index.select(EVERYTHING) == [held]

    def test_a_file_that_is_taken_away_after_it_was_listed_is_nothing(self, stored, monkeypatch):
        put_into_archive(stored.archive, encode(dx()))
        real = stored.index.unindexed

        def unindexed(locations):
            for location in real(locations):
                stored.path(location).unlink()
                yield location

        monkeypatch.setattr(stored.index, "unindexed", unindexed)
        found = verify(stored.archive, stored.index)
        assert (found.unindexed, found.unindexed_damaged, found.needs_a_person) == ([], [], False)


def put_below(ds):
    key = InstanceKey(ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID)
    return layout.location_of(key, "0" * 64)


class TestRebuild:
    def everything(self, stored):
        return sorted(stored.index.select(EVERYTHING))  # studies of one day are in any order

    @pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom, of the odd identities
    def test_the_new_index_equals_the_old_one(self, stored):
        samples = [encode(ds) for ds in one_of_each()] + list(odd_identities())
        for number, sample in enumerate(samples):
            stored.put(sample, number - 100)
        stored.put(encode(dx(StudyDescription="Corrected")), 1)
        stored.put(encode(dx(StudyDescription="Foreign")), 2, calling_ae_title="OTHER")
        before, holdings = self.everything(stored), stored.index.holdings()
        answering = sorted(stored.index.select(Selection()))
        remarks = stored.index.remarks(100)

        done = rebuild(stored.archive, stored.index)

        assert (done.entered, done.left_out) == (len(before), [])
        assert self.everything(stored) == before
        assert sorted(stored.index.select(Selection())) == answering
        assert stored.index.holdings() == holdings
        assert stored.index.remarks(100) == remarks

    def test_the_order_of_arrival_decides_not_that_of_the_folders(self, stored):
        texts = ["First", "Second", "Third", "Fourth"]
        for number, text in enumerate(texts):
            last = stored.put(encode(dx(StudyDescription=text)), number)
        rebuild(stored.archive, stored.index)
        (answering,) = stored.index.select(Selection())
        assert answering.location == last.location

    def test_an_index_that_was_lost(self, stored, tmp_path):
        stored.put(encode(dx()))
        before = self.everything(stored)
        (tmp_path / "other").mkdir()
        with stored_in(tmp_path / "other") as empty:
            rebuild(stored.archive, empty.index)
            assert self.everything(empty) == before

    def test_damaged_files_are_left_out_and_stay(self, stored):
        stored.put(encode(dx()))
        bad = stored.put(encode(cr()))
        path = stored.path(bad.location)
        stored.flip(bad.location, 140)
        done = rebuild(stored.archive, stored.index)
        assert done.entered == 1
        assert [finding.location for finding in done.left_out] == [bad.location]
        assert path.exists()

    def test_what_arrives_meanwhile_is_in_the_new_index(self, stored):
        stored.put(encode(dx()))
        late: list[Accepted] = []

        def arrives(_):
            if not late:
                late.append(stored.put(encode(cr()), 5))

        rebuild(stored.archive, stored.index, arrives)
        assert late[0].location in {held.location for held in self.everything(stored)}

    @pytest.mark.parametrize("leave_folder", [True, False])
    def test_an_archive_that_is_not_there_costs_nothing(self, stored, tmp_path, leave_folder):
        stored.put(encode(dx()))
        before = self.everything(stored)
        shutil.rmtree(tmp_path / "archive")
        if leave_folder:
            (tmp_path / "archive").mkdir()
        with pytest.raises(ArchiveUnavailable, match="drive"):
            rebuild(stored.archive, stored.index)
        assert self.everything(stored) == before

    def test_a_new_process_takes_an_empty_folder_for_a_drive_that_is_away(self, stored, tmp_path):
        stored.put(encode(dx()))
        (tmp_path / "empty").mkdir()
        archive, done = FilesystemArchive(tmp_path / "empty"), Rebuild()
        with pytest.raises(ArchiveUnavailable, match="the index lists 1: is the archive's drive connected"):
            rebuild(archive, stored.index, done=done)
        assert (done.entered, done.new) == (0, 0)
        assert "rebuild" not in stored.index.tasks()

    def test_a_folder_that_cannot_be_read_is_left_out_and_the_rest_entered(self, stored, monkeypatch):
        locations = self.in_the_order_of_their_folders(stored, 3, monkeypatch)
        real, unreadable = stored.archive.locations, str(PurePosixPath(locations[1]).parents[1])

        def of(folder=""):
            if folder == unreadable:
                raise DigestMismatch(f"{folder} cannot be read")
            yield from real(folder)

        monkeypatch.setattr(stored.archive, "locations", of)
        done = rebuild(stored.archive, stored.index)
        assert (done.entered, [one.reason for one in done.left_out]) == (2, [f"{unreadable} cannot be read"])

    def test_others_write_between_two_transactions(self, stored, monkeypatch):
        """For a part of the time that the index was locked."""
        stored.put(encode(dx()))
        slept, times = list[float](), iter([100.0, 102.0])
        watch = SimpleNamespace(monotonic=lambda: next(times), sleep=slept.append)
        monkeypatch.setattr("backup_scp.services.rebuild.time", watch)
        rebuild(stored.archive, stored.index)
        assert slept == [pytest.approx(0.6)]

    def test_nothing_held_is_no_failure(self, stored, tmp_path):
        (tmp_path / "archive").mkdir()
        assert rebuild(stored.archive, stored.index).entered == 0

    def test_an_unparsable_data_set_is_found_by_its_uids(self, stored):
        sample = unparsable()
        stored.put(sample)
        rebuild(stored.archive, stored.index)
        assert [held.sop_instance_uid for held in self.everything(stored)] == [sample.sop_instance_uid]

    def in_the_order_of_their_folders(self, stored, count, monkeypatch):
        """Fill as many folders, which are read one at a time."""
        monkeypatch.setattr("backup_scp.services.rebuild.BATCH", 1)
        return sorted(stored.put(encode(dx(study=str(number)))).location for number in range(count))

    def test_it_estimates_the_total_from_how_far_it_has_come(self, stored, monkeypatch):
        monkeypatch.setattr("backup_scp.services.rebuild.BATCH", 1)
        for beginning in ("00", "10", "ff"):  # of the 256 that folders are spread over
            studies = (dx(study=str(number)) for number in itertools.count())
            stored.put(encode(next(ds for ds in studies if put_below(ds).startswith(beginning))))
        seen: list[Progress] = []
        rebuild(stored.archive, stored.index, seen.append)
        assert seen == [Progress(1, 256), Progress(2, 2 * 256 // 17), Progress(3, 3)]

    def test_an_interrupted_rebuild_goes_on_after_the_folder_that_it_entered_last(self, stored, monkeypatch, clock):
        locations = self.in_the_order_of_their_folders(stored, 3, monkeypatch)
        held = self.everything(stored)

        def interrupt(_):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            rebuild(stored.archive, stored.index, interrupt, reason="The index was lost")
        shutil.rmtree(stored.path(locations[0]).parent)
        clock.jump(hours=1)
        under_way = stored.index.tasks()["rebuild"]
        assert (under_way.done, under_way.note) == (1, "The index was lost")

        done = rebuild(stored.archive, stored.index, reason="Another")

        assert (done.entered, done.new, self.everything(stored)) == (3, 0, held)
        ended = stored.index.tasks()["rebuilt"]
        assert (ended.began_at, ended.done, ended.note) == (under_way.began_at, 3, "The index was lost")
        assert ended.ended_at > under_way.began_at + timedelta(hours=1)

    def test_a_rebuild_is_known_before_its_first_file_is_entered(self, stored):
        """The node goes on with it, if this process ends while it lists the first folders."""
        stored.put(encode(dx()))

        def reader(_):
            raise KeyboardInterrupt
            yield

        with pytest.raises(KeyboardInterrupt):
            rebuild(stored.archive, stored.index, reader=reader, reason="The index was lost")
        assert stored.index.tasks()["rebuild"].note == "The index was lost"

    def test_what_the_index_did_not_know_is_counted(self, stored):
        stored.put(encode(dx()))
        put_into_archive(stored.archive, encode(cr()))
        done = rebuild(stored.archive, stored.index)
        assert (done.entered, done.new) == (2, 1)

    def test_only_headers_are_read(self, stored):
        bad = stored.put(encode(dx()))
        stored.flip(bad.location)
        done = rebuild(stored.archive, stored.index)
        assert (done.entered, done.left_out) == (1, [])

    def test_a_failure_leaves_the_old_index(self, stored):
        stored.put(encode(dx()))
        stored.put(encode(replace(cr(), StudyDescription="x")))
        before = self.everything(stored)

        def fails(progress):
            if progress.done:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            rebuild(stored.archive, stored.index, fails)
        assert self.everything(stored) == before
