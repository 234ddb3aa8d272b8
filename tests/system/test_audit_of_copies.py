"""The audit trail of a real node: what copies take and give back, what a pull brings, damage, and other settings."""

from __future__ import annotations

from pathlib import Path

from tests.audit_messages import ReadMessage, messages_in
from tests.processes import wait_until
from tests.samples import dx, encode
from tests.system.contents import visible
from tests.system.node import Node, Remote
from tests.system.recovering_home import RecoveringHome
from tests.system.test_recover import Clinic

EXPORT, IMPORT, ALERT = "110106", "110107", "110113"
STUDY, PATIENT, URI = "110180", "2", "12"
SAMPLES = [encode(dx(study="first", PatientID="P-1")), encode(dx(study="second", PatientID="P-2"))]


def users(message: ReadMessage) -> set[str]:
    return {user for _, user, _ in message.participants}


def of(home: Path, code: str, place: str) -> list[ReadMessage]:
    return [each for each in messages_in(home / "audit") if each.event[0] == code and place in users(each)]


def assert_one_for_each_study(found: list[ReadMessage]) -> None:
    """PS3.15 A.5.3.6, A.5.3.7: a message has one patient."""
    assert len(found) == len(SAMPLES)
    for sample, patient in zip(SAMPLES, ("P-1", "P-2"), strict=True):
        (entry,) = (each for each in found if patient in each.of_type(PATIENT))
        assert sample.dataset().StudyInstanceUID in entry.of_type(STUDY)
        assert entry.event[3] == "0"


def wait_for(home: Path, code: str, place: str, count: int) -> list[ReadMessage]:
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
    (alert,) = (each for each in messages_in(node.home / "audit") if location in each.of_type(URI))
    assert (alert.event[0], alert.event[3]) == (ALERT, "8")
    node.cli("copies", "sync")
    (healed,) = of(node.home, IMPORT, "copy drive")
    assert {"P-1", "P-2"} & set(healed.of_type(PATIENT))
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
    (entry,) = wait_for(node.home, ALERT, "backup-scp reload", 1)
    assert entry.event[1] == "110131"
    assert entry.details["Alert Description"] == "Changed: [[remote]] viewer"
