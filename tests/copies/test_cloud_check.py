"""`copies check`: what a store really gives, tried on real ones."""

from __future__ import annotations

import pytest

from tests.copies.clouds import Originals, bucket_copy, put_all
from tests.copies.remotes import sftp_remote
from tests.copies.test_rclone import copy_at

pytestmark = pytest.mark.system

BACK, LOCK, OVERWRITE, DELETE, RECOVERY, READ = range(6)


def checked(copy):
    with copy:
        facts = copy.check()
    assert len(facts) in {6, 7}
    assert all(bool(fact.fix) != fact.is_well for fact in facts)
    return facts, {number for number, fact in enumerate(facts) if not fact.is_well}


def test_a_locked_bucket_and_a_credential_that_may_not_delete_are_well(gateway, tmp_path):
    copy = bucket_copy(gateway, gateway.make_bucket(lock_days=30), tmp_path / "work", lock_days=30)
    facts, wrong = checked(copy)
    assert wrong == set()
    assert facts[LOCK].answer.startswith("COMPLIANCE, 30 days")
    assert facts[DELETE].answer == "no"
    assert "earlier version" in facts[OVERWRITE].answer
    assert "a lifecycle rule must remove them" in facts[-1].answer


def test_a_credential_that_may_delete_is_told_and_the_bytes_stay(gateway, tmp_path):
    bucket = gateway.make_bucket(lock_days=30, may_delete=True)
    facts, wrong = checked(bucket_copy(gateway, bucket, tmp_path / "work", lock_days=30))
    assert wrong == {DELETE}
    assert "the bytes are kept" in facts[DELETE].answer


def test_a_bucket_without_anything_is_told(gateway, tmp_path):
    bucket = gateway.make_bucket(may_delete=True)
    facts, wrong = checked(bucket_copy(gateway, bucket, tmp_path / "work", is_sealed=False))
    assert wrong == {LOCK, OVERWRITE, DELETE, RECOVERY, READ}
    assert facts[DELETE].answer == "yes, and the bytes are gone"


@pytest.mark.parametrize(("lock_days", "said"), [(0, "set lock_days = 30"), (31, "lock_days is 31")])
def test_a_lock_that_nobody_checks_or_that_is_too_short_is_told(gateway, tmp_path, lock_days, said):
    copy = bucket_copy(gateway, gateway.make_bucket(lock_days=30), tmp_path / "work", lock_days=lock_days)
    facts, wrong = checked(copy)
    assert wrong == {LOCK}
    assert said in facts[LOCK].fix


def test_objects_from_before_encrypt_was_set_are_told(gateway, tmp_path):
    bucket = gateway.make_bucket(lock_days=30)
    with bucket_copy(gateway, bucket, tmp_path / "before", is_sealed=False) as plain:
        put_all(plain, Originals(tmp_path))
    with bucket_copy(gateway, bucket, tmp_path / "work", lock_days=30) as copy:
        (fact,) = [fact for fact in copy.check() if not fact.is_well]
    assert fact.question == "Is each image there sealed?"
    assert "under another url" in fact.fix


def test_a_remote_of_rclone_is_told_as_it_is(tmp_path):
    with sftp_remote(tmp_path) as remote:
        facts, wrong = checked(copy_at(remote, tmp_path / "work", is_sealed=True))
    assert wrong == {LOCK, DELETE, RECOVERY}
    assert facts[BACK].is_well
