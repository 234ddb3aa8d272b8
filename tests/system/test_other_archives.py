"""Failures that other archives have with acknowledged images, and that ours must never have.

Each scenario was seen happening, and runs here against every archive that is installed. Ours has to pass each. Of the
others the outcome is a row of a table; and at least one of them, which is named, has to fail: else the scenario does
not bite. The table of docs/durability.md is printed by

    python -m pytest tests/system/test_other_archives.py -s
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.processes import free_port, wait_until
from tests.samples import Sample, ct_series, dx, encode, replace, uid
from tests.system.archives import DCMQRSCP, NAMES, ORTHANC, OURS, QRSCP, Archive, Wanted, installed
from tests.system.commitments import Console, pair
from tests.system.mounts import fill
from tests.system.node import Remote
from tests.system.pynetdicom_peers import Counts, Sink

OUT_OF_RESOURCES, UNABLE_TO_SEND, UNKNOWN_DESTINATION, WITH_FAILURES = 0xA700, 0xA702, 0xA801, 0xB000
PENDING_WITHOUT_A_KEY = 0xFF01
MEGABYTE = 1 << 20

Outcome = tuple[bool | None, str]
"""Whether it is as it has to be, and how it is, in a few words; None where the archive has no such service."""
Row = tuple[str, str, dict[str, Outcome]]
"""The scenario's numbers, what it is, and what each archive made of it."""

NO_COMMITMENT: Outcome = (None, "no Storage Commitment")


@pytest.fixture(scope="module")
def table() -> Iterator[list[Row]]:
    """Collect the rows, and print them when all have come (`-s` lets it through); bold is what must not be."""
    rows: list[Row] = []
    yield rows
    print(f"\n\n| | scenario | {' | '.join(NAMES)} |\n{'|---' * (2 + len(NAMES))}|")
    for numbers, scenario, outcomes in sorted(rows, key=lambda row: int(row[0].split(",")[0].removeprefix("E"))):
        told = [outcomes.get(name, (None, "not run")) for name in NAMES]
        cells = [how if good is not False else f"**{how}**" for good, how in told]
        print(f"| {numbers} | {scenario} | {' | '.join(cells)} |")


@pytest.fixture
def start(tmp_path: Path, processes) -> Callable[..., dict[str, Archive]]:
    """Return `start(Wanted(...))`: each archive that is installed, answering."""

    def start(wanted: Wanted | None = None) -> dict[str, Archive]:
        archives = {name: Archive(name, tmp_path / name, wanted or Wanted()) for name in installed()}
        for archive in archives.values():
            processes.add(archive.process)
        with ThreadPoolExecutor() as pool:
            list(pool.map(Archive.start, archives.values()))
        return archives

    return start


@pytest.fixture
def compare(table: list[Row]) -> Callable[..., None]:
    """Return `compare(numbers, scenario, outcomes, loses=...)`: ours passed, and these others did not."""

    def compare(numbers: str, scenario: str, outcomes: dict[str, Outcome], *, loses: set[str]) -> None:
        table.append((numbers, scenario, outcomes))
        assert outcomes[OURS][0] is True, outcomes
        passed = sorted(name for name in loses & outcomes.keys() if outcomes[name][0] is not False)
        # Where a newer version of a peer has mended it, its name goes out of `loses`, and another has to be there.
        assert not passed, f"{numbers}, {scenario}: {passed} were seen to fail this, and now {outcomes}"

    return compare


@pytest.fixture
def sink() -> Iterator[Sink]:
    samples = [encode(dx()), encode(ct_series(1)[0])]
    with Sink({sample.sop_class_uid: [sample.transfer_syntax_uid] for sample in samples}) as sink:
        yield sink


@pytest.fixture
def console() -> Iterator[Console]:
    with Console() as console:
        yield console


def lost(number: int, of: int, what: str) -> Outcome:
    return not number, f"{number} of {of} {what}"


# ------------------------------------------------------------------------------------------------------------ C-STORE


def test_the_index_cannot_be_written(start, compare, mounts, tmp_path):
    """E1: the disk of the index is full to the last byte. What is answered with success must be found."""
    disks = {name: tmp_path / "index" / name for name in NAMES}
    for disk in disks.values():
        mounts.disk(disk, "8m")
    archives = start(Wanted(index=tmp_path / "index"))
    samples = [encode(dx(study=f"full {number}")) for number in range(60)]
    fillers = [fill(disk, 0) for disk in disks.values()]
    statuses = {name: archive.send(*samples) for name, archive in archives.items()}
    for filler in fillers:
        filler.unlink()

    def outcome(name: str) -> Outcome:
        acknowledged = [sample for sample, status in zip(samples, statuses[name], strict=False) if status == 0]
        found = set(archives[name].find("STUDY", {"StudyInstanceUID": ""}).values("StudyInstanceUID"))
        unknown = [one for one in acknowledged if one.dataset().StudyInstanceUID not in found]
        refusals = {f"{status:04X}" for status in statuses[name] if status}
        if len(statuses[name]) < len(samples):
            refusals.add("breaks off")
        said = f"{len(unknown)} of {len(acknowledged)} acknowledged cannot be found"
        return not unknown, ", ".join([*([said] if acknowledged else ["none acknowledged"]), *sorted(refusals)])

    compare("E1", "the index cannot be written", {name: outcome(name) for name in archives}, loses={QRSCP})


def test_the_same_uid_with_other_pixels(start, compare):
    """E2, E5, E10: both are acknowledged, so both must be there."""
    first = encode(dx())
    second = encode(replace(dx(), PixelData=bytes(len(dx().PixelData))))
    assert first.sop_instance_uid == second.sop_instance_uid

    def outcome(archive: Archive) -> Outcome:
        assert archive.send(first) == [0]
        assert archive.lacks([first]) == []  # it keeps Data Sets as they come, or nothing below means anything
        assert archive.send(second) == [0]
        gone = archive.lacks([first, second])
        return not gone, {(): "both kept", (first,): "the first is gone", (second,): "the second is gone"}[tuple(gone)]

    outcomes = {name: outcome(archive) for name, archive in start().items()}
    compare("E2, E5, E10", "same UID, other pixels, 0x0000", outcomes, loses={ORTHANC, DCMQRSCP, QRSCP})


def test_a_uid_that_is_a_path(start, compare):
    """E3: a UID with a slash is a bad UID and no reason to lose the image. Only our node is sent one."""
    sample = encode(dx(SOPInstanceUID="folder/escaped"))

    def outcome(archive: Archive) -> Outcome:
        statuses = archive.send(sample)
        if list(archive.folder.rglob("*escaped*")):
            return False, "taken for a path"
        kept = statuses == [0] and not archive.lacks([sample])
        return kept, "kept, in its folder" if kept else "not kept"

    compare("E3", "a SOP Instance UID that looks like a path", {OURS: outcome(start()[OURS])}, loses=set())


def test_there_is_no_room(start, compare, mounts, tmp_path):
    """E8, E10: nothing that was acknowledged makes room for what comes."""
    for name in NAMES:
        mounts.disk(tmp_path / "small" / name, "6m")
    archives = start(Wanted(storage=tmp_path / "small", room=3))
    samples = [encode(replace(dx(study=str(n), PatientID=f"P{n}"), PixelData=bytes(MEGABYTE))) for n in range(8)]

    def outcome(archive: Archive) -> Outcome:
        acknowledged = [sample for sample, status in zip(samples, archive.send(*samples), strict=False) if status == 0]
        return lost(len(archive.lacks(acknowledged)), len(acknowledged), "acknowledged deleted")

    outcomes = {name: outcome(archive) for name, archive in archives.items()}
    compare("E8, E10", "no room for further images", outcomes, loses={ORTHANC, DCMQRSCP})


# ------------------------------------------------------------------------------------------------------------- C-FIND


def test_what_a_query_finds(start, compare):
    """E4, E10."""
    archives = start()
    samples = [
        *(encode(ds) for ds in ct_series(3, study="three slices")),
        encode(dx(study="P_1", PatientID="P_1")),
        encode(dx(study="PX1", PatientID="PX1")),
        encode(dx(study="latin", PatientID="LATIN", SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jörg")),
    ]
    for archive in archives.values():
        assert archive.send(*samples) == [0] * len(samples)

    def one_for_each_study(archive: Archive) -> Outcome:
        count = len(archive.find("STUDY", {"StudyInstanceUID": uid("three slices"), "PatientID": ""}).matches)
        return count == 1, f"{count} answer{'s' * (count != 1)}"

    def character_set(archive: Archive) -> Outcome:
        (match,) = archive.find("STUDY", {"PatientID": "LATIN", "PatientName": ""}).matches
        declared = match.get("SpecificCharacterSet", "")
        assert str(match.PatientName) == "Müller^Jörg"  # which Latin-1 is for pydicom, declared or not
        return bool(declared), f"declared {declared}" if declared else "not declared"

    def wild_card(archive: Archive) -> Outcome:
        found = archive.find("STUDY", {"PatientID": "P_*", "StudyInstanceUID": ""}).values("PatientID")
        return found == ["P_1"], f"finds {', '.join(sorted(set(found))) or 'nothing'}"

    def key_that_is_not_supported(archive: Archive) -> Outcome:
        pending = archive.find("STUDY", {"PatientID": "P_1", "MilitaryRank": ""}).pending
        return set(pending) == {PENDING_WITHOUT_A_KEY}, ", ".join(f"{status:04X}" for status in sorted(set(pending)))

    def name_in_utf_8(archive: Archive) -> Outcome:
        keys = {"SpecificCharacterSet": "ISO_IR 192", "PatientName": "M?ller*", "PatientID": ""}
        found = archive.find("STUDY", keys).values("PatientID")
        return found == ["LATIN"], "found" if found == ["LATIN"] else "not found"

    asked: list[tuple[str, str, Callable[[Archive], Outcome], set[str]]] = [
        ("E4", "STUDY level, one study of three instances", one_for_each_study, {QRSCP}),
        ("E4", "the character set of a name in Latin-1", character_set, {QRSCP}),
        ("E4", "Patient ID `P_*` among P_1, PX1", wild_card, {QRSCP}),
        ("E4", "a key that is not supported", key_that_is_not_supported, {QRSCP}),
        ("E10", "the name Müller^Jörg, asked for in UTF-8 as `M?ller*`", name_in_utf_8, {ORTHANC, DCMQRSCP}),
    ]
    for numbers, scenario, ask, loses in asked:
        outcomes = {name: ask(archive) for name, archive in archives.items()}
        compare(numbers, scenario, outcomes, loses=loses)


# ---------------------------------------------------------------------------------------- damage, and the way back


def flip(archive: Archive, sample: Sample) -> None:
    """Flip a bit of its last byte, in its file."""
    path = archive.files()[sample.sha256]
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + bytes([sample.data_set[-1] ^ 1]))


def delete(archive: Archive, sample: Sample) -> None:
    archive.files()[sample.sha256].unlink()


def committed(archive: Archive, console: Console, samples: list[Sample]) -> list[Sample] | None:
    """Return those that the archive commits to keep; None where it does not know Storage Commitment."""
    if archive.name in {DCMQRSCP, QRSCP}:
        return None
    status, transaction_uid = console.ask(archive, map(pair, samples))
    assert status == 0
    wait_until(lambda: console.of(transaction_uid), 60, what=f"the report of {archive.name}")
    said = set(console.of(transaction_uid)[0].committed)
    return [sample for sample in samples if pair(sample) in said]


def test_a_commitment_after_damage(start, compare, console):
    """E6: one byte of a file flipped, another file deleted."""
    intact, flipped, deleted = samples = [encode(ds) for ds in ct_series(3)]

    def outcome(archive: Archive) -> Outcome:
        assert archive.send(*samples) == [0, 0, 0]
        flip(archive, flipped)
        delete(archive, deleted)
        kept = committed(archive, console, samples)
        if kept is None:
            return NO_COMMITMENT
        assert intact in kept
        return lost(sum(one in kept for one in (flipped, deleted)), 2, "spoiled ones committed")

    outcomes = {name: outcome(archive) for name, archive in start(Wanted([console.remote])).items()}
    compare("E6", "a bit of a file flipped, another file deleted, then Storage Commitment", outcomes, loses={ORTHANC})


def test_damage_is_not_served_and_a_resend_repairs_it(start, compare, sink):
    """E7: Orthanc without its cache, which would hide it."""
    fine, flipped = samples = [encode(ds) for ds in ct_series(2)]
    archives = start(Wanted([sink.remote], orthanc={"MaximumStorageCacheSize": 0}))
    for archive in archives.values():
        assert archive.send(*samples) == [0, 0]
        flip(archive, flipped)

    def moved(archive: Archive) -> tuple[Counts, set[bytes]]:
        before = len(sink.stored)
        final = archive.move("SINK", StudyInstanceUID=uid("1"))
        return final, {stored.data_set for stored in sink.stored[before:]}

    def served(archive: Archive) -> Outcome:
        final, came = moved(archive)
        damaged = len(came - {sample.data_set for sample in samples})
        named = final.failed_list == (flipped.sop_instance_uid,)
        how = f"{final.status:04X}, {'the damaged one sent' if damaged else 'the damaged one not sent'}"
        return not damaged and named and fine.data_set in came, how + (", named" if named else "")

    def repaired(archive: Archive) -> Outcome:
        (status,) = archive.send(flipped)
        back = flipped.data_set in moved(archive)[1]
        return back, f"{status:04X}, {'the good one comes back' if back else 'the good one does not come back'}"

    outcomes = {name: served(archive) for name, archive in archives.items()}
    compare("E7", "a bit of a file flipped, then C-MOVE", outcomes, loses={ORTHANC, DCMQRSCP, QRSCP})
    outcomes = {name: repaired(archive) for name, archive in archives.items()}
    compare("E7", "the good image is sent again, then C-MOVE", outcomes, loses={ORTHANC})


def test_a_console_that_deletes_what_was_committed(start, compare, console):
    """E11: a console keeps its images until the report, and may delete them after it. In the end, where are they?"""
    samples = [encode(ds) for ds in ct_series(4)]
    fine, flipped, deleted, never_sent = samples

    def outcome(archive: Archive) -> Outcome:
        assert archive.send(fine, flipped, deleted) == [0, 0, 0]
        flip(archive, flipped)
        delete(archive, deleted)
        kept = committed(archive, console, samples)
        if kept is None:
            return NO_COMMITMENT
        on_the_console = {sample.sha256 for sample in samples} - {sample.sha256 for sample in kept}
        nowhere = [sample for sample in archive.lacks(samples) if sample.sha256 not in on_the_console]
        assert never_sent not in nowhere
        assert fine in kept  # it may be deleted: the report is of use
        return lost(len(nowhere), len(samples), "are nowhere any more")

    outcomes = {name: outcome(archive) for name, archive in start(Wanted([console.remote])).items()}
    compare("E11", "the same, and the console deletes what was committed", outcomes, loses={ORTHANC})


def test_a_destination_that_does_not_take_it(start, compare):
    """E9: the requestor learns the reason, and which images did not arrive."""
    sample = encode(dx())
    study = {"StudyInstanceUID": uid("1")}
    dead = Remote("dead", "DEAD", free_port())
    accepts = {sample.sop_class_uid: [sample.transfer_syntax_uid]}
    with Sink(accepts, lambda _: OUT_OF_RESOURCES, ae_title="REFUSING") as refusing:

        def outcome(archive: Archive) -> Outcome:
            assert archive.send(sample) == [0]
            finals = [archive.move(destination, **study) for destination in ("NOWHERE", "DEAD", "REFUSING")]
            unknown, down, refused = (final.status for final in finals)
            named = finals[-1].failed_list == (sample.sop_instance_uid,)
            right = (unknown, down) == (UNKNOWN_DESTINATION, UNABLE_TO_SEND)
            told = refused in {UNABLE_TO_SEND, WITH_FAILURES} and named
            how = ", ".join(f"{final.status:04X}" for final in finals)
            return right and told, f"{how}, {'the failed one named' if named else 'no failed list'}"

        archives = start(Wanted([dead, refusing.remote]))
        outcomes = {name: outcome(archive) for name, archive in archives.items()}
    compare("E9", "C-MOVE to an unknown, a dead, a refusing destination", outcomes, loses={ORTHANC})
