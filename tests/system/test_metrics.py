"""/metrics of a node that runs: promtool accepts it, and the rules and the dashboard use nothing that it lacks."""

from __future__ import annotations

import urllib.request
from datetime import timedelta
from pathlib import Path

import pytest
import trustme
from prometheus_client.parser import text_string_to_metric_families

from backup_scp.machine import clock
from backup_scp.ports import CommitmentRequest, DrillResult, Reference, Rejection, Requester, ServiceKind
from tests.monitoring import promtool, used_names
from tests.processes import LOOPBACK, free_port
from tests.samples import dx, encode
from tests.stored import arrival, stored_in
from tests.system.node import Node, Remote
from tests.system.web import web_address, web_node

pytestmark = pytest.mark.system

CONSOLE = Remote("dx-room-1", "DX", 104)


def prepare(home: Path) -> None:
    """Leave what a month leaves: images of two weeks, a copy that lacks them, a drill, a report that nobody takes."""
    home.mkdir()
    now = clock.now()
    with stored_in(home) as stored:
        for back in (14, 1):
            shift = int((now - timedelta(days=back) - arrival().received_at).total_seconds())
            stored.put(encode(dx(study=f"{back}", series=f"{back}", number=back)), shift, remote=CONSOLE.name)
        stored.index.copies.register("usb", "1", now, "red")
        stored.index.drills.record(DrillResult("usb", now, now, True, "1", "red", tried=1, everything_s=60.0))
        stored.index.record_rejections(
            [Rejection(ServiceKind.STORE, "SCANNER", "BACKUP_SCP", "198.51.100.9", "why", "", 3, now)]
        )
        requester = Requester("", CONSOLE.ae_title, LOOPBACK)
        stored.index.commitments.enter(CommitmentRequest("1.2.3", (Reference("1.2", "1.3"),), requester, now))


@pytest.fixture
def node(make_node, tmp_path) -> Node:
    certificate = trustme.CA().issue_cert("node.clinic.example")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "certificate.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    files = {"certificate": str(tmp_path / "certificate.pem"), "key": str(tmp_path / "key.pem")}
    copy = {"name": "usb", "url": f"file://{tmp_path / 'away'}"}
    full = {"reserve_mb": 10**9}  # so that the day of the full disk is known: today
    settings = {"tls": {**files, "port": free_port()}, "archive": full}
    node = web_node(make_node, remotes=[CONSOLE], copies=[copy], settings=settings)
    prepare(node.home)
    node.start()
    return node


def test_rules_and_dashboard_use_what_a_node_tells(node):
    address = f"{web_address(node).removesuffix('/dicom-web')}/metrics"
    with urllib.request.urlopen(address, timeout=60) as answer:
        text = answer.read().decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    assert used_names() - {sample.name for sample in samples} == set()
    values = {(sample.name, *sample.labels.values()): sample.value for sample in samples}
    assert values["backup_scp_listening",] == 1
    assert values["backup_scp_refused", "other", "store"] == 3
    assert values["backup_scp_node_process_open_fds",] > 0
    assert "SCANNER" not in text
    assert promtool("check", "metrics", given=text) == ""
