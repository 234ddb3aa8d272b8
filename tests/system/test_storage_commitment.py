"""Storage Commitment of a running node: no false success, no false failure, and every report arrives once (PS3.4 J)."""

from __future__ import annotations

import contextlib
import itertools
import random
from pathlib import Path

import pytest

from backup_scp.archive.filesystem import FilesystemArchive
from tests.processes import wait_until
from tests.samples import ct_series, dx, encode
from tests.system.commitments import Console, ask, associated, new_uid, pair

CR = "1.2.840.10008.5.1.4.1.1.1"
SOON = {"commitment": {"wait_s": 0, "retry_s": 0.2}}
CHANGED, MISSING, CONFLICT, DUPLICATE = 0x0110, 0x0112, 0x0119, 0x0131


def files_of(node) -> dict[str, Path]:
    """Return the stored file of each SOP Instance."""
    archive = FilesystemArchive(node.home / "archive")
    read = (archive.read(location) for location in archive.locations())
    return {file.heading.sop_instance_uid: file.path for file in read}


def change(path: Path, change_bytes) -> None:
    path.chmod(0o600)
    path.write_bytes(change_bytes(path.read_bytes()))


def flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


SABOTAGE = {
    "missing": MISSING,
    "wrong class": CONFLICT,
    "flipped": CHANGED,
    "truncated": CHANGED,
    "deleted": MISSING,
    "duplicate": DUPLICATE,
}
FAILS = SABOTAGE.keys() - {"duplicate"}


@pytest.mark.timeout(300)
def test_a_thousand_requests_with_five_percent_sabotage(start_node):
    """Each request names two of a hundred images; of a sabotaged one the second is one that was spoiled."""
    good, bad = (
        [pair(encode(ds)) for ds in ct_series(count, study=name)] for count, name in ((100, "good"), (50, "bad"))
    )
    chance = random.Random(7)
    spoiled = dict(zip(chance.sample(range(1000), len(bad)), zip(bad, itertools.cycle(SABOTAGE)), strict=False))
    consoles = [Console(f"CONSOLE{number}") for number in range(4)]
    expected: dict[str, dict[tuple[str, str], int]] = {}
    refused = []
    with contextlib.ExitStack() as stack:
        for console in consoles:
            stack.enter_context(console)
        node = start_node(remotes=[console.remote for console in consoles], settings=SOON)
        absent = {one for one, how in spoiled.values() if how == "missing"}
        sent = [encode(ds) for count, name in ((100, "good"), (50, "bad")) for ds in ct_series(count, study=name)]
        assert {answer.status for answer in node.send(s for s in sent if pair(s) not in absent)} == {0}
        spoil(files_of(node), {uid: how for (_, uid), how in spoiled.values()})

        for index, console in enumerate(consoles):
            with associated(node, console.ae_title) as opened:
                for number in range(index, 1000, len(consoles)):
                    second, how = spoiled.get(number, (chance.choice(good), ""))
                    second = (CR if how == "wrong class" else second[0], second[1])
                    status, transaction_uid = ask(opened, [chance.choice(good), second])
                    assert status == 0
                    expected[transaction_uid] = {second: SABOTAGE[how]} if how in FAILS else {}
                    if how == "duplicate":
                        refused.append(ask(opened, [(CR, "1.2.3")], transaction_uid)[0])

        def reports():
            return [report for console in consoles for report in console.reports]

        wait_until(lambda: len(reports()) >= 1000, 200, what="all reports")
        wait_until(lambda: node.json("status", exit_code=None)["commitments"] == [], what="nothing owed")
    assert {report.transaction_uid: report.failed for report in reports()} == expected
    assert len(reports()) == 1000
    assert all(len(report.committed) + len(report.failed) == 2 for report in reports())
    assert all(report.event_type == (2 if report.failed else 1) for report in reports())
    assert refused == [DUPLICATE] * 8


def spoil(files: dict[str, Path], how: dict[str, str]) -> None:
    """Apply the given change to the stored file of each SOP Instance UID."""
    for uid, what in how.items():
        if what == "flipped":
            change(files[uid], flipped)
        elif what == "truncated":
            change(files[uid], lambda content: content[:-1])
        elif what == "deleted":
            files[uid].unlink()


def test_a_damaged_image_is_committed_after_it_was_sent_again(start_node):
    good, bad = (encode(ds) for ds in ct_series(2))
    with Console() as console:
        node = start_node(remotes=[console.remote], settings=SOON)
        node.send([good, bad])
        change(files_of(node)[bad.sop_instance_uid], flipped)
        refused = reported(node, console, good, bad)
        assert (refused.committed, refused.failed) == ((pair(good),), {pair(bad): CHANGED})
        assert node.json("status", exit_code=1)["holdings"]["damaged"] == 1

        assert {answer.status for answer in node.send([bad])} == {0}
        assert reported(node, console, good, bad).committed == (pair(good), pair(bad))
        assert node.json("status", exit_code=None)["holdings"]["damaged"] == 0


def reported(node, console: Console, *samples):
    status, transaction_uid = console.ask(node, map(pair, samples))
    assert status == 0
    wait_until(lambda: console.of(transaction_uid), what="the report")
    (report,) = console.of(transaction_uid)
    return report


def test_a_request_that_comes_before_its_images(start_node):
    samples = [encode(ds) for ds in ct_series(3)]
    with Console() as console:
        node = start_node(remotes=[console.remote])
        status, transaction_uid = console.ask(node, map(pair, samples))
        assert status == 0
        (waiting,) = node.json("status", exit_code=None)["commitments"]
        assert (waiting["waiting"], waiting["owed"]) == (1, 0)
        node.send(samples)
        wait_until(lambda: console.of(transaction_uid), 60, what="the report")
    (report,) = console.of(transaction_uid)
    assert (report.event_type, len(report.committed)) == (1, 3)


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_a_console_that_is_off_gets_its_report_once_when_it_is_back(make_node, request, engine):
    """The node is killed, and started again, while it tries."""
    sample, console = encode(dx()), Console()
    settings = dict(SOON)
    if engine == "postgresql":
        settings["index"] = {"url": request.getfixturevalue("postgres_url").replace("+psycopg", "")}
    node = make_node(remotes=[console.remote], settings=settings)
    if engine == "postgresql":
        node.cli("db", "upgrade")
    node.start()
    node.send([sample])
    status, transaction_uid = console.ask(node, [pair(sample)])
    assert status == 0
    for _ in range(2):
        another_attempt(node)
        node.kill()
        node.start()
    (owed,) = node.json("status", exit_code=None)["commitments"]
    assert (owed["owed"], owed["requester"]["ae_title"]) == (1, "CONSOLE")
    assert "cannot be reached: the port is closed" in owed["error"]
    with console:
        wait_until(lambda: console.of(transaction_uid), 100, what="the report")
        wait_until(
            lambda: node.json("status", exit_code=None)["commitments"] == [], what="nothing owed"
        )  # its answer was seen
        node.kill()
        node.start()
        assert reported(node, console, sample).committed == (pair(sample),)
        wait_until(lambda: node.json("status", exit_code=None)["commitments"] == [], what="nothing owed")
    (report,) = console.of(transaction_uid)
    assert report.committed == (pair(sample),)


def another_attempt(node) -> None:
    seen = node.output.count("was not delivered")
    wait_until(lambda: node.output.count("was not delivered") > seen, 60, what="another attempt")


def test_killed_between_the_request_and_its_answer_or_report(make_node):
    """A request answered with success gets its report, wherever the node dies."""
    samples = [encode(ds) for ds in ct_series(20)]
    asked: list[str] = []
    with Console() as console:
        node = make_node(remotes=[console.remote], settings=SOON)
        node.start()
        node.send(samples)
        for sample in samples[:5]:
            with contextlib.suppress(AttributeError), associated(node, "CONSOLE") as opened:
                for _ in range(4):
                    status, transaction_uid = ask(opened, [pair(sample)])
                    assert status == 0
                    asked.append(transaction_uid)
                node.kill()
            node.start()
        wait_until(
            lambda: {report.transaction_uid for report in console.reports} >= set(asked), 100, what="all reports"
        )
    assert len(asked) == 20
    assert {report.event_type for report in console.reports} == {1}


def test_a_stranger_gets_its_report_where_it_asked_and_status_says_what_to_do(start_node):
    sample = encode(dx())
    node = start_node(settings=SOON)
    node.send([sample])
    here = Console("STRANGER")
    with associated(node, "STRANGER", on_report=here.take) as opened:
        _, transaction_uid = ask(opened, [pair(sample)])
        wait_until(lambda: here.of(transaction_uid), what="the report")
        assert here.of(transaction_uid)[0].association is opened
    wait_until(lambda: node.json("status", exit_code=None)["commitments"] == [])

    status, transaction_uid = here.ask(node, [pair(sample)])
    assert status == 0
    owed = wait_until(lambda: [one for one in node.json("status", exit_code=None)["commitments"] if one["error"]])
    assert "STRANGER" in owed[0]["error"]
    assert "add a [[remote]] with its AE title and its host" in owed[0]["error"]

    node.stop()
    node.remotes.append(here.remote)
    with here:
        node.start()
        wait_until(lambda: here.of(transaction_uid), 60, what="the report")


def test_two_nodes_on_one_index_report_once(make_node, postgres_url, tmp_path):
    samples = [encode(ds) for ds in ct_series(30)]
    settings = {
        **SOON,
        "index": {"url": postgres_url.replace("+psycopg", "")},
        "archive": {"url": str(tmp_path / "archive")},
    }
    with Console() as console:
        nodes = [make_node(remotes=[console.remote], settings=settings) for _ in range(2)]
        nodes[0].cli("db", "upgrade")
        for node in nodes:
            node.start()
        nodes[0].send(samples)
        asked = [console.ask(nodes[number % 2], [pair(sample)])[1] for number, sample in enumerate(samples)]
        wait_until(lambda: len(console.reports) >= len(asked), 60, what="all reports")
        wait_until(lambda: nodes[0].json("status", exit_code=None)["commitments"] == [])
    assert sorted(report.transaction_uid for report in console.reports) == sorted(asked)


def test_orthanc_asks_and_believes_what_it_is_told(start_node, start_orthanc, tmp_path):
    samples = [encode(ds) for ds in ct_series(3)]
    orthanc = start_orthanc()
    node = start_node(remotes=[orthanc.remote], settings=SOON)
    orthanc.add_modality(node.remote)
    uploaded = orthanc.upload(*(sample.write(tmp_path / sample.sop_instance_uid) for sample in samples))
    orthanc.store("backup_scp", uploaded)

    assert orthanc_commits(orthanc, uploaded) == ("Success", [])
    change(files_of(node)[samples[1].sop_instance_uid], flipped)
    assert orthanc_commits(orthanc, uploaded) == ("Failure", [(samples[1].sop_instance_uid, CHANGED)])


def orthanc_commits(orthanc, instances: list[str]) -> tuple[str, list[tuple[str, int]]]:
    """Let Orthanc ask for a commitment, and return what it holds for the answer."""
    path = orthanc.post("/modalities/backup_scp/storage-commitment", {"Resources": instances})["Path"]
    wait_until(lambda: orthanc.get(path)["Status"] != "Pending", 60, what="Orthanc having its report")
    answer = orthanc.get(path)
    return answer["Status"], [(one["SOPInstanceUID"], one["FailureReason"]) for one in answer.get("Failures", [])]


def test_a_dead_transaction_uid_is_refused(start_node):
    sample = encode(dx())
    with Console() as console:
        node = start_node(remotes=[console.remote], settings=SOON)
        node.send([sample])
        transaction_uid = new_uid()
        assert console.ask(node, [pair(sample)], transaction_uid) == (0, transaction_uid)
        wait_until(lambda: console.of(transaction_uid))
        assert console.ask(node, [pair(sample)], transaction_uid)[0] == DUPLICATE
        assert reported(node, console, sample).event_type == 1
    assert len(console.of(transaction_uid)) == 1


# --------------------------------------------------------------------------------------------------------- as SCU


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("known", [True, False])
def test_a_restore_is_committed_by_another_node(make_node, running, known):
    """The report comes to our node's port, running or not; or on the association of the request."""
    samples = [encode(ds) for ds in ct_series(3)]
    ours, other = make_node(settings=SOON), make_node(ae_title="OTHER", settings=SOON)
    ours.remotes, other.remotes = [other.remote], [ours.remote] if known else []
    ours.start()
    other.start()
    ours.send(samples)
    if not running:
        ours.stop()
    done = ours.json("restore", "--to", "other", "--all", "--commit")
    assert (done["sent"], done["committed"], done["uncommitted"], done["failed"]) == (3, 3, [], [])
    wait_until(lambda: other.json("status", exit_code=None)["commitments"] == [], what="nothing owed")


def test_a_restore_is_committed_by_orthanc(start_node, start_orthanc):
    orthanc = start_orthanc()
    node = start_node(remotes=[orthanc.remote])
    orthanc.add_modality(node.remote)
    node.send([encode(ds) for ds in ct_series(3)])
    done = node.cli("restore", "--to", "orthanc", "--all", "--commit")
    assert "3 images committed by orthanc" in done.stdout


def test_a_restore_to_an_archive_that_takes_no_commitment_says_so(start_node, storescp):
    node = start_node(remotes=[storescp.remote])
    node.send([encode(dx())])
    done = node.cli("restore", "--to", "sink", "--all", "--commit", exit_code=1)
    assert "1 image not confirmed committed: SINK" in done.stdout
    assert "accepts none of the SOP Classes" in done.stdout


def test_a_folder_commits_nothing(start_node, tmp_path):
    node = start_node()
    done = node.cli("restore", "--to", tmp_path / "folder", "--all", "--commit", exit_code=1)
    assert "--commit is for a remote AE" in done.stderr


# ----------------------------------------------------------------------------------------------------- further copies


def test_nothing_is_committed_before_a_drive_has_it(make_node, tmp_path):
    samples = [encode(ds) for ds in ct_series(3)]
    drive = tmp_path / "media"
    drive.mkdir()
    with Console() as console:
        node = make_node(
            remotes=[console.remote],
            settings={"commitment": {"wait_s": 0, "retry_s": 0.2, "copies": 1}},
            copies=[{"name": "drive", "url": f"file://{drive}/x-rays"}],
        )
        node.start()
        node.send(samples)
        status, transaction_uid = console.ask(node, map(pair, samples))
        assert status == 0
        assert console.ask(node, [(CR, "1.2.3")])[0] == 0  # which nobody has: another request does not wait
        wait_until(lambda: console.reports, what="the report on the other request")
        assert not console.of(transaction_uid)
        assert "at fewer than 1" not in node.cli("status", exit_code=None).stdout  # they have just been received

        node.cli("copies", "init", "drive", "--label", "blue", "--same-disk")
        wait_until(lambda: console.of(transaction_uid), 60, what="the report")
        (report,) = console.of(transaction_uid)
        assert (report.committed, report.failed) == (tuple(map(pair, samples)), {})
        (state,) = node.json("copies")
        assert (state["held"], state["due"]) == (len(samples), 0)
        assert not [one for one in node.json("status", exit_code=None)["findings"] if "Storage Commitment" in str(one)]
