"""Verify, repair and rebuild, on a real archive and a real index."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta

import pytest

from backup_scp.errors import ArchiveUnavailable
from backup_scp.ports import Arrival, Progress, Selection, VerificationResult
from backup_scp.services.ingest import Accepted
from backup_scp.services.read_back import version_of
from backup_scp.services.rebuild import rebuild
from backup_scp.services.verify import verify
from tests.samples import cr, dx, encode, odd_identities, one_of_each, replace, unparsable
from tests.stored import heading_of, key_of, put_into_archive, stored_in

EVERYTHING = Selection(all_versions=True)


@pytest.fixture
def stored(tmp_path):
    with stored_in(tmp_path) as stored:
        yield stored


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
        assert verify(stored.archive, stored.index, resume=True).intact == len(samples) - 2

    def test_what_was_read_in_the_future_is_among_all_that_is_known(self, stored, clock):
        """Who asks whether any of the files that are known is there must not be told that none is known."""
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

    @pytest.mark.parametrize(("minutes", "is_reported"), [(4, False), (6, True), (-10, True)])
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

    def test_nothing_held_is_no_failure(self, stored, tmp_path):
        (tmp_path / "archive").mkdir()
        assert rebuild(stored.archive, stored.index).entered == 0

    def test_an_unparsable_data_set_is_found_by_its_uids(self, stored):
        sample = unparsable()
        stored.put(sample)
        rebuild(stored.archive, stored.index)
        assert [held.sop_instance_uid for held in self.everything(stored)] == [sample.sop_instance_uid]

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
