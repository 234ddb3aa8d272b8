"""backup-scp pull: from Orthanc, dcmqrscp and another node, by C-GET, C-MOVE and DICOMweb."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import connects, free_port, peer_missing, wait_until
from tests.samples import Sample, ct_series, data_set_bytes, dx, encode, pydicom_samples, with_pixels
from tests.system.contents import private_information, visible
from tests.system.node import assert_one_sentence
from tests.system.peers import DcmQRSCP, Orthanc, storescu

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
STUDIES = [
    *(encode(ds) for ds in ct_series(4)),
    encode(dx(study="new", StudyDate="20260110", StudyTime="101500")),
    encode(dx(study="old", StudyDate="19991231")),
    encode(dx(study="undated", StudyDate="", StudyTime="")),
]


@pytest.fixture
def start_dcmqrscp(tmp_path, processes):
    def start(**arguments) -> DcmQRSCP:
        peer = DcmQRSCP(tmp_path / "dcmqrscp", **arguments)
        processes.add(peer.process)
        peer.start()
        return peer

    return start


@pytest.fixture
def files(tmp_path) -> list[Path]:
    folder = tmp_path / "files"
    folder.mkdir()
    for number, sample in enumerate(STUDIES):
        sample.write(folder / f"{number}.dcm")
    return sorted(folder.iterdir())


def at(peer) -> str:
    return f"{peer.ae_title}@{peer.host}:{peer.port}"


def archived(node) -> list[bytes]:
    return sorted(map(data_set_bytes, visible(node)))


def data_sets(samples) -> list[bytes]:
    return sorted(sample.data_set for sample in samples)


def assert_everything_comes_once(here, source: str, *options: str) -> None:
    first = here.json("pull", source, *options)
    assert (first["studies"], first["complete"], first["fetched"], first["held"]) == (4, 4, 7, 0)
    assert archived(here) == data_sets(STUDIES)
    again = here.json("pull", source, *options)
    assert (again["complete"], again["fetched"], again["held"]) == (4, 0, 7)
    assert archived(here) == data_sets(STUDIES)


def test_orthanc_gives_everything_once(make_node, start_orthanc, files):
    there = start_orthanc()
    there.upload(*files)
    assert_everything_comes_once(make_node(), at(there))


def test_dcmqrscp_gives_everything_once(make_node, start_dcmqrscp, files):
    there = start_dcmqrscp()
    storescu(there, *files)
    assert_everything_comes_once(make_node(), at(there))


def test_another_node_gives_everything_once(make_node, start_node, files):
    here = make_node()
    there = start_node(ae_title="THERE", remotes=[here.remote])
    there.send(STUDIES)
    assert_everything_comes_once(here, at(there))


def test_dicomweb_gives_everything_once(make_node, start_orthanc, files):
    if not PLUGIN.exists():
        peer_missing("orthanc-dicomweb")
    there = start_orthanc(Plugins=[str(PLUGIN)])
    there.upload(*files)
    assert_everything_comes_once(make_node(), f"dicomweb+http://{there.host}:{there.http_port}/dicom-web")


@pytest.mark.parametrize("is_running", [True, False])
def test_by_c_move_the_running_node_receives_or_the_command(make_node, start_orthanc, files, is_running):
    here = make_node()
    there = start_orthanc(modalities=[here.remote], DicomAlwaysAllowGet=False)
    there.upload(*files)
    if is_running:
        here.start()
    assert_everything_comes_once(here, at(there))


def test_what_came_is_noted_as_an_import_from_the_other_pacs(make_node, start_orthanc, files):
    there, here = start_orthanc(), make_node()
    there.upload(files[0])
    here.cli("pull", f"dicom://{at(there)}")
    (file,) = visible(here)
    noted = private_information(file)
    assert [noted[key] for key in ("service", "calling_ae_title", "address")] == ["IMPORT", "ORTHANC", there.host]


_NAMES = ("693_J2KI", "JPGExtended", "MR_small_jpeg_ls_lossless", "SC_rgb_jpeg_gdcm", "SC_rgb_rle", "examples_jpeg2k")
_SAMPLES = [sample for sample in pydicom_samples() if sample.name.removesuffix(".dcm") in _NAMES]
COMPRESSED = [*{sample.sop_instance_uid: sample for sample in _SAMPLES}.values()]


@pytest.mark.parametrize("peer", ["orthanc", "dicomweb", "node"])
def test_compressed_images_come_as_they_are_stored_there(make_node, start_node, start_orthanc, tmp_path, peer):
    here = make_node()
    files = [sample.write(tmp_path / f"{number}.dcm") for number, sample in enumerate(COMPRESSED)]
    if peer == "node":
        there = start_node(ae_title="THERE", remotes=[here.remote])
        there.send(COMPRESSED)
        source = at(there)
    else:
        if not PLUGIN.exists():
            peer_missing("orthanc-dicomweb")
        there = start_orthanc(Plugins=[str(PLUGIN)])
        there.upload(*files)
        source = at(there) if peer == "orthanc" else f"dicomweb+http://{there.host}:{there.http_port}/dicom-web"
    done = here.json("pull", source, exit_code=None)
    assert (done["incomplete"], done["fetched"]) == ([], len(COMPRESSED))
    if peer == "orthanc":  # its C-GET writes lengths of sequences and drops padding; pixels stay as they are
        given = map(Sample.of_file, visible(here))
        assert sorted(map(_codestreams, given)) == sorted(map(_codestreams, COMPRESSED))
    else:
        assert archived(here) == data_sets(COMPRESSED)


def _codestreams(sample) -> tuple[str, str, bytes]:
    return sample.sop_instance_uid, sample.transfer_syntax_uid, sample.dataset().PixelData


def test_orthanc_that_limits_its_answers_is_listed_completely(make_node, start_orthanc, tmp_path):
    there, here = start_orthanc(LimitFindResults=10, LimitFindInstances=5), make_node()
    samples = [encode(ds) for ds in ct_series(20)]
    for number in range(45):
        day, hour = f"202601{number // 15 + 10}", f"{number % 15 + 6:02}3000"
        samples.append(encode(dx(study=f"study {number}", StudyDate=day, StudyTime=hour)))
    there.upload(*(sample.write(tmp_path / f"{number}.dcm") for number, sample in enumerate(samples)))
    done = here.json("pull", at(there), exit_code=1)
    (doubt,) = done["doubts"]
    assert doubt.startswith("ORTHANC does not list all studies at once (10 of them, it answered C-FIND with status")
    assert (done["studies"], done["complete"], done["fetched"], done["stopped"]) == (46, 46, 65, "")
    assert archived(here) == data_sets(samples)
    again = here.json("pull", at(there), "--since", "20000101")
    assert (again["complete"], again["held"], again["fetched"], again["doubts"]) == (46, 65, 0, [])


def test_orthanc_that_does_not_know_this_node_is_told_what_to_set(make_node, start_orthanc, files):
    there, here = start_orthanc(DicomAlwaysAllowGet=False), make_node()
    there.upload(*files)
    done = here.cli("pull", at(there), exit_code=1)
    assert f"set there AE title BACKUP_SCP, host {here.host}, port {here.port}" in done.stdout
    assert "0 of 4 studies of ORTHANC are here" in done.stdout


def test_a_pacs_that_gives_nothing_says_why(make_node, storescp):
    here = make_node()
    done = here.cli("pull", at(storescp), exit_code=1)
    assert done.stdout == (
        "It stopped: SINK does not let this node use C-FIND and C-GET or C-MOVE: allow it there for AE title "
        "BACKUP_SCP\n"
    )


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("nobody", "nobody is no remote AE (none is configured); write AETITLE@HOST:PORT, or dicomweb+https://"),
        ("dicomweb+http://pacs.example/x", "http is for this computer alone; write dicomweb+https://"),
        ("dicomweb+https://u:p@pacs.example/x", "write HOST and PATH alone"),
    ],
)
def test_what_cannot_be_a_pacs_is_told(make_node, said, words):
    assert_one_sentence(make_node().cli("pull", said, exit_code=1), words)


@contextlib.contextmanager
def running(here, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Run a command beside the test; yield it, and the file of what it prints."""
    here.write_settings()
    log = here.config.with_name("command.log")
    with log.open("w") as file:
        command = subprocess.Popen(
            here._argv(*arguments), stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=here.env, text=True
        )
        try:
            yield command, log
        finally:
            command.kill()
            command.wait(60)


def test_it_waits_for_a_pacs_that_is_off(make_node, processes, tmp_path, files):
    there, here = Orthanc(tmp_path / "late"), make_node()
    processes.add(there.process)
    with running(here, "pull", at(there)) as (command, log):
        wait_until(lambda: "Trying again in" in log.read_text())
        there.start()
        there.upload(*files)
        command.wait(110)
    assert "It continues, after" in log.read_text()
    assert here.json("pull", at(there))["complete"] == 4
    assert archived(here) == data_sets(STUDIES)


def test_ctrl_c_ends_it_and_the_next_run_fetches_the_rest(make_node, start_orthanc, tmp_path):
    samples = [encode(with_pixels(dx(study=f"{number}"), 300, 400)) for number in range(5)]
    there, here = start_orthanc(), make_node()
    there.upload(*(sample.write(tmp_path / f"{number}.dcm") for number, sample in enumerate(samples)))
    with running(here, "pull", at(there), "--throttle", "0.2") as (command, log):
        wait_until(lambda: visible(here))
        command.send_signal(signal.SIGINT)
        assert command.wait(60) == 130
    assert "It was interrupted\nRunning the same command again is safe, and fetches the rest\n" in log.read_text()
    assert 0 < len(visible(here)) < 5
    done = here.json("pull", at(there))
    assert (done["complete"], done["fetched"] + done["held"]) == (5, 5)
    assert archived(here) == data_sets(samples)


def test_a_pacs_that_is_gone_is_not_waited_for_with_wait_0(make_node):
    done = make_node().cli("pull", f"PACS@127.0.0.1:{free_port()}", "--wait", "0", exit_code=1)
    assert done.stdout.startswith("It stopped: PACS at 127.0.0.1:")


class GuardedOrthanc(Orthanc):
    """It lets nobody in without a password."""

    def _answers(self) -> bool:
        return connects(self.port) and connects(self.http_port)


def test_a_configured_copy_is_named_and_logs_in_as_the_settings_say(make_node, processes, tmp_path, files):
    if not PLUGIN.exists():
        peer_missing("orthanc-dicomweb")
    there = GuardedOrthanc(
        tmp_path / "guarded", Plugins=[str(PLUGIN)], AuthenticationEnabled=True, RegisteredUsers={"clinic": "secret"}
    )
    processes.add(there.process)
    there.start()
    storescu(there, *files)
    url = f"dicomweb+http://{there.host}:{there.http_port}/dicom-web"
    here = make_node(copies=[{"name": "cloud", "url": url, "user": "clinic", "password_file": "password"}])
    here.home.mkdir()
    (here.home / "password").write_text("secret\n")
    assert here.json("pull", "cloud")["fetched"] == 7
    elsewhere = make_node()
    refused = elsewhere.cli("pull", url, exit_code=1)
    assert "does not let us in (status 401): check user and password_file" in refused.stdout
    password = here.home / "password"
    assert elsewhere.json("pull", url, "--user", "clinic", "--password-file", password)["fetched"] == 7
