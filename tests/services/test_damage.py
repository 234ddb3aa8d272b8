"""Random damage to a real archive: exactly the damage is found, and a re-send repairs it."""

from __future__ import annotations

import errno
import os
import random
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backup_scp.archive import stored_files
from backup_scp.machine import digests
from backup_scp.ports import Arrival, Selection
from backup_scp.services.rebuild import rebuild
from backup_scp.services.verify import verify
from tests.samples import cr, ct_series, dx, encode, replace
from tests.stored import heading_of, key_of, stored_in

SAMPLES = [encode(ds) for ds in (dx(), cr(), *ct_series(3, study="2"), dx(study="3", StudyDescription="Third"))]
KINDS = ("flip in the Data Set", "flip in File Meta", "truncate", "lengthen", "empty", "delete", "swap")
EVERYTHING = Selection(all_versions=True)


@contextmanager
def stored_samples():
    with tempfile.TemporaryDirectory() as folder, stored_in(Path(folder)) as stored:
        yield stored, Path(folder) / "archive", [stored.put(sample, n).location for n, sample in enumerate(SAMPLES)]


def sabotage(path: Path, kind: str, chance: random.Random, other: Path) -> None:
    content = bytearray(path.read_bytes())
    data_set = int.from_bytes(content[140:144], "little") + 144
    match kind:
        case "flip in the Data Set":
            content[chance.randrange(data_set, len(content))] ^= 1 << chance.randrange(8)
        case "flip in File Meta":
            content[chance.randrange(data_set)] ^= 1 << chance.randrange(8)
        case "truncate":
            del content[chance.randrange(1, len(content)) :]
        case "lengthen":
            content += bytes(chance.randrange(1, 100))
        case "empty":
            content.clear()
        case "delete":
            path.unlink()
            return
        case "swap":
            path.rename(path.with_suffix(".x"))
            other.rename(path)
            path.with_suffix(".x").rename(other)
            return
    path.write_bytes(content)


# The last sample is left alone: of an archive in which nothing is left ``rebuild`` asks whether its drive is connected.
@settings(max_examples=40)
@example(dict.fromkeys(range(len(SAMPLES) - 1), "delete"), random.Random(1))
@given(st.dictionaries(st.integers(0, len(SAMPLES) - 2), st.sampled_from(KINDS)), st.randoms(use_true_random=False))
def test_exactly_what_was_sabotaged_is_found_and_a_resend_repairs_it(chosen, chance):
    with stored_samples() as (stored, root, locations):
        expected: set[int] = set()
        gone: set[int] = set()
        for number, wanted in chosen.items():
            other = (number + 1) % len(SAMPLES)
            kind = "delete" if wanted == "swap" and other in chosen else wanted
            sabotage(root / locations[number], kind, chance, root / locations[other])
            (gone if kind == "delete" else expected).add(number)
            if kind == "swap":
                expected.add(other)
        (root / "notes.txt").write_text("not ours")

        found = verify(stored.archive, stored.index)

        assert {f.location for f in found.damaged} == {locations[n] for n in expected}
        assert {f.location for f in found.missing} == {locations[n] for n in gone}
        assert (found.unindexed, found.unindexed_damaged, found.foreign) == ([], [], ["notes.txt"])
        assert found.intact == len(SAMPLES) - len(expected | gone)
        assert stored.index.holdings().damaged == len(expected | gone)
        rebuild(stored.archive, stored.index)  # forgets nothing of it
        assert stored.index.holdings().versions == len(SAMPLES)
        assert stored.index.holdings().damaged == len(expected | gone)

        for number, sample in enumerate(SAMPLES):
            assert stored.put(sample, 100).repaired == (number in expected | gone)
        assert stored.index.holdings().damaged == 0
        again = verify(stored.archive, stored.index)
        assert (again.intact, again.needs_a_person) == (len(SAMPLES), False)
        assert {h.location for h in stored.index.select(EVERYTHING)} == set(locations)


def test_every_byte_of_a_file_counts(stored):
    location = stored.put(SAMPLES[1]).location
    path = stored.path(location)
    whole = path.read_bytes()
    (held,) = stored.index.select(EVERYTHING)
    for position in [*range(200), *range(200, len(whole), 37), len(whole) - 1]:
        content = bytearray(whole)
        content[position] ^= 0x10
        path.write_bytes(content)
        assert verify(stored.archive, stored.index).damaged, position
    path.write_bytes(whole)
    assert verify(stored.archive, stored.index).intact == 1
    assert not stored.index.is_damaged(held.location)


def test_a_file_that_the_disk_cannot_read_is_damaged_and_one_look_is_not_enough(stored, monkeypatch):
    """EIO: a bad sector stays bad; a cable that was loose for a moment is no damage."""
    location = stored.put(SAMPLES[0]).location
    failures = iter([True])
    real = digests.digest_rest

    def fails_once(stream, digest):
        if next(failures, False):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(stream, digest)

    monkeypatch.setattr(stored_files, "digest_rest", fails_once)
    assert verify(stored.archive, stored.index).intact == 1
    failures = iter(lambda: True, None)
    (finding,) = verify(stored.archive, stored.index).damaged
    assert finding.location == location
    assert os.strerror(errno.EIO) in finding.reason


def test_a_copy_in_the_archive_is_listed_and_left_alone(stored, tmp_path):
    location = stored.put(SAMPLES[0]).location
    copy = tmp_path / "archive" / location.replace(location.split(".")[-2], "0" * 12)
    copy.write_bytes(stored.path(location).read_bytes())
    found = verify(stored.archive, stored.index, repair=True)
    assert ([f.location for f in found.unindexed_damaged], found.unindexed) == (
        [str(copy.relative_to(tmp_path / "archive"))],
        [],
    )
    assert "stored elsewhere" in found.unindexed_damaged[0].reason
    assert found.intact == 1
    assert copy.exists()


def test_what_is_on_its_way_is_not_missed_in_the_index(stored):
    """A file is visible before it has its row: that is no finding, unless it stays so."""
    staged = stored.archive.stage(heading_of(SAMPLES[0]))
    staged.write(SAMPLES[0].data_set)
    location, _ = stored.archive.commit(staged, key_of(SAMPLES[0]), Arrival(datetime.now(UTC), "C-STORE"))
    assert not verify(stored.archive, stored.index).needs_a_person
    stored.archive.forget(staged)
    assert verify(stored.archive, stored.index).unindexed == [location]


def test_no_false_alarm_while_images_come_in_and_are_repaired(stored):
    locations = [stored.put(sample, n).location for n, sample in enumerate(SAMPLES)]
    more = [encode(replace(dx(study="9", number=n), StudyDescription=str(n))) for n in range(30)]

    def repair() -> None:
        for sample in SAMPLES:
            stored.put(sample, 50)

    for location in locations:
        stored.flip(location)
    with ThreadPoolExecutor(2) as pool:
        receiving = pool.submit(lambda: [stored.put(sample, n) for n, sample in enumerate(more)])
        repairing = pool.submit(repair)
        for _ in range(4):
            verify(stored.archive, stored.index)
        receiving.result()
        repairing.result()
    assert stored.index.holdings().damaged == 0
    assert not verify(stored.archive, stored.index).needs_a_person


def test_an_interrupted_pass_goes_on_and_a_new_one_reads_all(stored):
    for number, sample in enumerate(SAMPLES):
        stored.put(sample, number)

    def interrupt(progress):
        if progress.done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify(stored.archive, stored.index, interrupt)
    assert stored.index.tasks()["verify"].done == 4
    assert verify(stored.archive, stored.index, resume=True).intact == len(SAMPLES) - 4
    done = stored.index.tasks()
    assert done["verified"].done == len(SAMPLES)
    assert "verify" not in done
    assert verify(stored.archive, stored.index, resume=True).intact == len(SAMPLES)
    assert verify(stored.archive, stored.index).intact == len(SAMPLES)


def test_an_interrupted_rebuild_goes_on(stored, monkeypatch):
    monkeypatch.setattr("backup_scp.services.rebuild.BATCH", 1)
    for number, sample in enumerate(SAMPLES):
        stored.put(sample, number)
    done: list[int] = []

    def interrupt(progress):
        done.append(progress.done)
        if len(done) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rebuild(stored.archive, stored.index, interrupt)
    assert 0 < stored.index.tasks()["rebuild"].done < len(SAMPLES)
    assert rebuild(stored.archive, stored.index, interrupt).entered == len(SAMPLES)
    assert stored.index.tasks()["rebuilt"].done == len(SAMPLES)
    assert len(done) == 3  # studies
