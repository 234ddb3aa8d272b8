"""backup-scp status, verify and rebuild: the sentences for a person, and the exit codes for a script."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from backup_scp.ports import CommitmentRequest, Reference, Rejection, Requester, ServiceKind, Task
from tests.samples import cr, dx, encode, unparsable
from tests.stored import FIRST_ARRIVAL, put_into_archive


class TestStatus:
    def test_a_fresh_node(self, run, stored):
        ran = run("status")
        assert ran.code == 0
        assert "0 images" in ran.out
        assert "Nothing to do" in ran.out

    def test_in_numbers(self, run, stored):
        sample = encode(dx())
        stored.put(sample)
        found = run("status", "--json").json
        assert found["holdings"]["instances"] == 1
        assert found["holdings"]["size_bytes"] == len(sample.data_set)
        assert found["free_bytes"] > 0
        assert found["needs_a_person"] is False

    def test_flags_are_shown_and_explained_and_are_no_failure(self, run, stored):
        stored.put(unparsable())
        stored.put(encode(dx(StudyDescription="One")))
        stored.put(encode(dx(StudyDescription="Two")), 1, calling_ae_title="OTHER")
        ran = run("status")
        assert ran.code == 0
        assert f"{unparsable().sop_instance_uid} from SENDER" in ran.out
        assert "(unparsed: " in ran.out
        assert "(clash: " in ran.out
        assert "Family" not in ran.out

    @pytest.mark.parametrize("gone", [True, False])
    def test_damage_is_a_failure(self, run, stored, gone):
        location = stored.put(encode(dx())).location
        stored.path(location).unlink() if gone else stored.flip(location)
        assert run("status").code == 0, "nobody has looked yet"
        run("verify")
        ran = run("status")
        assert ran.code == 1
        assert "DAMAGED: 1 image\n" in ran.out
        assert run("status", "--json").json["needs_a_person"] is True

    def test_long_work_is_shown(self, run, stored):
        stored.put(encode(dx()))
        run("verify")
        began = datetime.now(UTC)
        stored.index.record_task(Task("verify", began, done=3))
        stored.index.record_task(Task("rebuild", began, done=5, note="Its file was gone"))
        ran = run("status")
        assert ran.code == 1
        assert ": 1 intact" in ran.out
        assert "3 images read" in ran.out
        assert "INCOMPLETE" in ran.out
        assert "Its file was gone" in ran.out
        assert set(run("status", "--json").json["tasks"]) == {"verified", "verify", "rebuild"}

    def test_a_storm_of_changes_is_an_alarm_for_as_long_as_it_is_new(self, run, stored, monkeypatch):
        now = (datetime.now(UTC) - FIRST_ARRIVAL).total_seconds()
        for number in range(4):
            stored.put(encode(dx(study=str(number))), 0)
            stored.put(encode(dx(study=str(number), StudyDescription="encrypted")), int(now) - 60)
        assert run("status").code == 0
        monkeypatch.setenv("BACKUP_SCP_ALERTS__CHANGED_STUDIES", "4")
        ran = run("status")
        assert ran.code == 1
        assert "ALARM: SENDER has sent 4 images of 4 studies again" in ran.out
        assert "restore --as-of" in ran.out
        assert "Nothing to do" not in ran.out
        monkeypatch.setenv("BACKUP_SCP_ALERTS__CHANGED_STUDIES_DAYS", "0.0001")
        assert run("status").code == 0
        monkeypatch.setenv("BACKUP_SCP_ALERTS__CHANGED_STUDIES", "0")
        assert run("status").code == 0

    def test_rejections_are_shown_with_their_fix(self, run, stored):
        facts = ("CT1", "OLD_PACS", "192.0.2.9", "Called AE title OLD_PACS", "Enter BACKUP_SCP")
        stored.index.record_rejections([Rejection(ServiceKind.ASSOCIATION, *facts, 3, datetime.now(UTC))])
        ran = run("status")
        assert ran.code == 1
        assert "CT1 at 192.0.2.9: call refused, 3 times" in ran.out
        assert "Enter BACKUP_SCP" in ran.out

    def test_images_that_were_refused_are_not_hidden_by_many_strangers(self, run, stored):
        facts = ("BACKUP_SCP", "192.0.2.9", "It may not", "")
        now = datetime.now(UTC)
        refused = [Rejection(ServiceKind.STORE, "CONSOLE", *facts, 1, now - timedelta(days=2))]
        refused += [Rejection(ServiceKind.QUERY, f"V{number}", *facts, 1, now) for number in range(30)]
        stored.index.record_rejections(refused)
        ran = run("status")
        assert ran.code == 1
        assert "CONSOLE at 192.0.2.9: IMAGES REFUSED" in ran.out.partition("To do:")[2]
        assert "and 10 more (--json lists them)" in ran.out
        assert len(run("status", "--json").json["findings"]) == 31

    def test_reports_that_are_owed_are_shown_with_what_to_do(self, run, stored, monkeypatch):
        remotes = [{"name": "console", "ae_title": "DR1", "host": "192.0.2.7"}]
        monkeypatch.setenv("BACKUP_SCP_REMOTE", json.dumps(remotes))
        owe(stored, "DR1", datetime.now(UTC), "DR1 cannot be reached; check host and port")
        owe(stored, "STRANGER", datetime.now(UTC) - timedelta(days=3), "'STRANGER' has no address: add a [[remote]]")
        ran = run("status")
        assert ran.code == 0
        assert "DR1 at 192.0.2.7: 1 report pending, since" in ran.out
        assert "DR1 cannot be reached; check host and port" in ran.out
        assert "add a [[remote]]" in ran.out
        listed = run("status", "--json").json["commitments"]
        assert [(one["requester"]["ae_title"], one["owed"]) for one in listed] == [("STRANGER", 1), ("DR1", 1)]
        assert "FAIL  commitment DR1: 1 report not delivered" in run("check").out

    def test_a_configured_console_that_waits_for_a_day_needs_a_person(self, run, stored, monkeypatch):
        monkeypatch.setenv("BACKUP_SCP_REMOTE", '[{"name": "console", "ae_title": "DR1", "host": "192.0.2.7"}]')
        owe(stored, "DR1", datetime.now(UTC) - timedelta(days=2), "DR1 cannot be reached; check host and port")
        assert run("status").code == 1


def owe(stored, ae_title, since, error):
    """Leave a report that could not be delivered."""
    records, later = stored.index.commitments, since + timedelta(hours=1)
    requester = Requester("", ae_title, "192.0.2.7")
    records.enter(CommitmentRequest("1.2.3", (Reference("1.2", "1.3"),), requester, since))
    records.conclude(records.lease_request(since, later), [None], since)
    leased = records.lease_report(since, later)
    records.report_failed(leased, error, since, later, since)


class TestVerify:
    def test_all_is_well(self, run, stored):
        stored.put(encode(dx()))
        ran = run("verify")
        assert ran.code == 0
        assert ran.out.startswith("1 image intact")

    @pytest.mark.parametrize("gone", [True, False])
    def test_damage(self, run, stored, gone):
        stored.put(encode(cr()))
        location = stored.put(encode(dx())).location
        stored.path(location).unlink() if gone else stored.flip(location)
        ran = run("verify")
        assert ran.code == 1
        assert "1 image intact" in ran.out
        assert f"1 {'missing' if gone else 'damaged'}: send these images again" in ran.out
        assert encode(dx()).sop_instance_uid in ran.out
        found = run("verify", "--json")
        assert found.code == 1
        assert found.json["missing" if gone else "damaged"][0]["location"] == location

    def test_repair(self, run, stored):
        put_into_archive(stored.archive, encode(dx()))
        ran = run("verify")
        assert ran.code == 1
        assert "verify --repair" in ran.out
        ran = run("verify", "--repair")
        assert ran.code == 0
        assert "1 intact file added" in ran.out
        assert run("verify").code == 0


class TestBackup:
    def test_a_copy_of_the_index(self, run, stored, tmp_path):
        stored.put(encode(dx()))
        ran = run("index", "backup", tmp_path / "copy")
        assert ran.code == 0
        assert "was copied" in ran.out
        assert (tmp_path / "copy").stat().st_size > 4096
        assert run("index", "backup", tmp_path / "copy").code == 1
        assert "No such file" in run("index", "backup", tmp_path / "nowhere" / "copy").err

    def test_postgresql_has_its_own(self, run, monkeypatch, tmp_path):
        monkeypatch.setenv("BACKUP_SCP_INDEX__URL", "postgresql://user:secret@127.0.0.1:9/x")
        ran = run("index", "backup", tmp_path / "copy")
        assert ran.code == 1
        assert "pg_dump" in ran.err
        assert "secret" not in ran.err


class TestRebuild:
    def test_from_the_files_alone(self, run, stored, home):
        stored.put(encode(dx()))
        stored.index.close()
        for path in home.glob("index.sqlite*"):
            path.unlink()
        ran = run("rebuild")
        assert ran.code == 0
        assert ran.out == "Index rebuilt: 1 image read from the archive\n"
        assert run("status", "--json").json["holdings"]["instances"] == 1

    def test_a_file_that_had_to_be_left_out(self, run, stored):
        stored.put(encode(cr()))
        stored.flip(stored.put(encode(dx())).location, 140)
        ran = run("rebuild", "--json")
        assert ran.code == 1
        assert ran.json["entered"] == 1
        assert len(ran.json["left_out"]) == 1

    def test_an_archive_that_is_not_there(self, run, stored):
        ran = run("rebuild")
        assert ran.code == 1
        assert "drive" in ran.err
