"""The audit trail of a real node: what copies take and give back, what a pull brings, damage, and other settings."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.processes import wait_until
from tests.samples import dx, encode
from tests.system.contents import visible
from tests.system.node import Node, Remote
from tests.system.recovering_home import RecoveringHome
from tests.system.test_recover import Clinic

EXPORT, IMPORT, ALERT = "110106", "110107", "110113"
SAMPLES = [encode(dx(study="first", PatientID="P-1")), encode(dx(study="second", PatientID="P-2"))]


class Entry:
    """One message of the log."""

    def __init__(self, xml: str) -> None:
        self._root = ET.fromstring(xml)
        event = self._root.find("EventIdentification")
        assert event is not None
        self.code = event.find("EventID").get("csd-code")  # type: ignore[union-attr]
        self.types = {each.get("csd-code") for each in event.findall("EventTypeCode")}
        self.outcome = event.get("EventOutcomeIndicator")
        details = [base64.b64decode(each.get("value", "")) for each in self._root.iter("ParticipantObjectDetail")]
        self.said = b" ".join(details).decode()

    @property
    def participants(self) -> set[str]:
        return {each.get("UserID", "") for each in self._root.findall("ActiveParticipant")}

    @property
    def objects(self) -> set[str]:
        return {each.get("ParticipantObjectID", "") for each in self._root.findall("ParticipantObjectIdentification")}


def entries(home: Path) -> Iterator[Entry]:
    for file in sorted((home / "audit").glob("audit-*.log")):
        for line in file.read_text().splitlines():
            kind, content = line.split(" ", 4)[3:]
            if kind == "entry":
                yield Entry(content)


def of(home: Path, code: str, place: str) -> list[Entry]:
    return [entry for entry in entries(home) if entry.code == code and place in entry.participants]


def assert_one_for_each_study(found: list[Entry]) -> None:
    """PS3.15 A.5.3.6, A.5.3.7: a message has one patient."""
    assert len(found) == len(SAMPLES)
    for sample, patient in zip(SAMPLES, ("P-1", "P-2"), strict=True):
        (entry,) = (each for each in found if patient in each.objects)
        assert sample.dataset().StudyInstanceUID in entry.objects
        assert entry.outcome == "0"


def wait_for(home: Path, code: str, place: str, count: int) -> list[Entry]:
    wait_until(lambda: len(of(home, code, place)) >= count, what=f"{count} entries {code} of {place}")
    return of(home, code, place)


def test_what_a_copy_takes_and_gives_back(tmp_path, make_node):
    clinic = Clinic(tmp_path, make_node)
    clinic.copy(SAMPLES)
    node = clinic.node
    assert_one_for_each_study(wait_for(node.home, EXPORT, "copy drive, drive blue", len(SAMPLES)))

    damaged = min(visible(node))
    damaged.chmod(0o644)
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\xff")
    node.stop()
    node.cli("verify", exit_code=1)
    location = damaged.relative_to(node.home / "archive").as_posix()
    (alert,) = (entry for entry in entries(node.home) if location in entry.objects and entry.code == ALERT)
    assert alert.outcome == "8"
    node.cli("copies", "sync")
    (healed,) = of(node.home, IMPORT, "copy drive")
    assert {"P-1", "P-2"} & healed.objects
    assert "as they were written" in node.cli("audit", "verify").stdout

    clinic.lose()
    home = RecoveringHome(clinic.empty(), clinic.drive)
    home.finish()
    assert_one_for_each_study(of(home.node.home, IMPORT, "copy drive"))


def test_what_a_pull_brings(start_node):
    there: Node = start_node(ae_title="THERE")
    assert not any(answer.status for answer in there.send(SAMPLES))
    here: Node = start_node()
    source = f"THERE@{there.host}:{there.port}"
    here.cli("pull", source)
    assert_one_for_each_study(of(here.home, IMPORT, source))


def test_other_settings_in_the_running_node(start_node):
    node: Node = start_node()
    node.remotes = [Remote("viewer", "VIEWER", 104)]
    node.write_settings()
    node.cli("reload")
    wait_until(lambda: any("110131" in entry.types for entry in entries(node.home)), what="the entry")
    (entry,) = (entry for entry in entries(node.home) if "110131" in entry.types)
    assert "Changed: [[remote]] viewer" in entry.said
    assert "backup-scp reload" in entry.participants
