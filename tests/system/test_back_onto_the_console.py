"""Lists, hours, confirmations and receipts, with dcmtk, Orthanc, another node and a console that lies."""

from __future__ import annotations

import json
import signal
import stat
from datetime import datetime, timedelta

import pytest
from pydicom.uid import CTImageStorage, DigitalXRayImageStorageForPresentation

from tests.processes import Process, wait_until
from tests.samples import ct_series, data_set_bytes, dx, encode
from tests.system.console import Console
from tests.system.node import Remote
from tests.system.peers import DcmQRSCP

CT, DX = map(str, (CTImageStorage, DigitalXRayImageStorageForPresentation))
SOON = {"commitment": {"wait_s": 0, "retry_s": 0.2}}
RUSSIAN = {"SpecificCharacterSet": "ISO_IR 192", "PatientName": "Иванов^Иван", "AccessionNumber": "ACC7"}


@pytest.fixture
def filled(make_node):
    """Return a node that ran and holds a CT of five slices, and three x-rays of two patients; and all samples."""
    node = make_node(settings=SOON)
    samples = {
        "ct": [encode(ds) for ds in ct_series(5, study="ct")],
        "old": [encode(dx(study="old", PatientID="0042", StudyDate="20200101"))],
        "new": [encode(dx(study="new", PatientID="0042", StudyDate="20260101"))],
        "other": [encode(dx(study="other", PatientID="7", StudyDate="20230101", **RUSSIAN))],
    }
    node.start()
    node.send(sample for each in samples.values() for sample in each)
    node.stop()
    return node, samples


def know(node, *remotes):
    node.remotes = list(remotes)
    node.write_settings()


def receipt_of(path):
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    return json.loads(path.read_text("utf-8"))


def confirmations(found):
    return {row["confirmation"] for row in found["rows"]}


def test_todays_patients_onto_storescp(filled, storescp, tmp_path):
    """In the order of the list; dcmtk's storescp answers C-STORE alone."""
    node, samples = filled
    know(node, storescp.remote)
    (tmp_path / "today.csv").write_text("Patient ID;Name\n7;Иванов\n0815;Nobody\n0042;Doe\n", "utf-8")
    arguments = ("restore", "--to", "sink", "--list", tmp_path / "today.csv", "--receipt", tmp_path / "receipt.json")

    done = node.json(*arguments, exit_code=1)

    assert (done["sent"], done["unmatched"], done["missing_images"]) == (3, ["0815"], 0)
    in_order = sorted(storescp.files(), key=lambda path: path.stat().st_mtime_ns)
    expected = [samples[name][0].data_set for name in ("other", "new", "old")]
    assert list(map(data_set_bytes, in_order)) == expected
    found = receipt_of(tmp_path / "receipt.json")
    assert found["problems"] == ["No stored image matches 0815"]
    assert [row["patient_id"] for row in found["rows"]] == ["7", "0042", "0042"]
    assert (found["rows"][0]["patient_name"], found["rows"][0]["accession_number"]) == ("Иванов^Иван", "ACC7")
    assert confirmations(found) == {"answered"}
    assert found["facts"]["to"] == f"sink (SINK at 127.0.0.1, port {storescp.port})"
    assert "OFFIS" in found["facts"]["software_there"]

    again = node.json(*arguments, exit_code=1)
    assert (again["sent"], again["confirmed_before"]) == (0, 3)
    assert again["receipt"] == str(tmp_path / "receipt-2.json")
    assert receipt_of(tmp_path / "receipt-2.json")["rows"][0]["confirmed"] == "C-STORE, before"
    assert len(storescp.files()) == 3


def test_dcmqrscp_is_asked_what_it_lists(filled, processes, tmp_path):
    """It returns no counts, but lists its images."""
    node, _ = filled
    dcmqrscp = DcmQRSCP(tmp_path / "dcmqrscp")
    processes.add(dcmqrscp.process)
    dcmqrscp.start()
    know(node, Remote("dcmqrscp", "DCMQRSCP", dcmqrscp.port))

    done = node.cli("restore", "--to", "dcmqrscp", "--all", "--receipt", tmp_path / "receipt.json")
    again = node.json("restore", "--to", "dcmqrscp", "--all", "--receipt", tmp_path / "again.json")

    assert "dcmqrscp lists all images of 4 studies (C-FIND)" in done.stdout
    found = receipt_of(tmp_path / "receipt.json")
    assert found["complete"]
    assert confirmations(found) == {"counted"}
    assert sum(row["there"] for row in found["rows"]) == 8
    assert (again["confirmed_before"], again["confirmations"]) == (8, {"counted": 4})


def test_another_node_commits(filled, make_node, tmp_path):
    node, _ = filled
    other = make_node(ae_title="OTHER", settings=SOON)
    other.remotes = [node.remote]
    other.start()
    know(node, other.remote)

    done = node.json("restore", "--to", "other", "--all", "--commit", "--receipt", tmp_path / "receipt.json")

    assert (done["committed"], done["confirmations"]) == (8, {"committed": 4})
    assert confirmations(receipt_of(tmp_path / "receipt.json")) == {"committed"}


def test_orthanc_commits_and_lists(filled, start_orthanc, tmp_path):
    node, _ = filled
    orthanc = start_orthanc()
    know(node, orthanc.remote)
    orthanc.add_modality(node.remote)

    counted = node.json("restore", "--to", "orthanc", "--all")
    committed = node.json("restore", "--to", "orthanc", "--all", "--again", "--commit")

    assert (counted["sent"], counted["confirmations"]) == (8, {"counted": 4})
    assert (committed["sent"], committed["confirmations"]) == (8, {"committed": 4})


def test_one_that_lists_fewer_than_it_has_confirmed(filled, tmp_path):
    node, samples = filled

    class Losing(Console):
        def _find(self, event):
            for status, found in super()._find(event):
                if found.NumberOfStudyRelatedInstances > 1:
                    found.NumberOfStudyRelatedInstances -= self.lost
                yield status, found

        lost = 2

    with Losing([CT, DX], lambda *_: None, finds=True) as console:
        know(node, console.remote)
        receipt = tmp_path / "receipt.json"
        done = node.json("restore", "--to", "console", "--all", "--receipt", receipt, exit_code=1)
        assert (done["sent"], done["missing_images"], done["complete"]) == (8, 0, False)
        assert done["short_studies"] == [samples["ct"][0].dataset().StudyInstanceUID]
        assert done["confirmations"] == {"short": 1, "counted": 3}
        found = receipt_of(receipt)
        assert "console lists fewer images of 1 studies than it confirmed." in found["problems"]
        assert {row["confirmed"] for row in found["rows"]} == {"C-STORE; C-FIND lists 3", "C-STORE and C-FIND"}

        console.lost = 0  # it was slow
        again = node.json("restore", "--to", "console", "--all")
        assert (again["sent"], again["confirmed_before"], again["complete"]) == (0, 8, True)


@pytest.fixture
def heeded(number):
    """Let commands heed a signal that these tests were started to ignore, as under nohup."""
    before = signal.getsignal(number)
    if before is signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)
    yield
    signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_outside_of_its_hours_it_waits_and_a_signal_leaves_a_receipt(
    filled, storescp, processes, tmp_path, number, heeded
):
    node, _ = filled
    know(node, storescp.remote)
    begin, end = (datetime.now().astimezone() + timedelta(hours=hours) for hours in (2, 3))
    hours, receipt = f"{begin:%H:%M}-{end:%H:%M}", tmp_path / "receipt.txt"
    arguments = ("--to", "sink", "--all", "--hours", hours, "--receipt", str(receipt))
    process = Process(node._argv("restore", *arguments), tmp_path / "restore.log", node.env)
    processes.add(process)
    process.launch(lambda: f"It sends only at {hours}, and waits until {begin:%H:%M}" in process.output)

    process.signal(number)

    assert process.wait(30) == 130
    assert process.terminate() == 130
    wait_until(receipt.exists)
    text = receipt.read_text("utf-8")
    assert "NOT complete: 8 images asked for, 0 are on sink. See Problems." in text
    assert "- It was interrupted." in text
    assert storescp.files() == []
