"""/metrics of a node that runs: rules and dashboard use nothing that it lacks, and a real Prometheus alarms by it."""

from __future__ import annotations

import json
import re
import urllib.request
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme
from prometheus_client.parser import text_string_to_metric_families

from backup_scp.machine import clock
from backup_scp.ports import (
    CommitmentRequest,
    DrillKind,
    DrillProblem,
    DrillResult,
    Reference,
    Rejection,
    Requester,
    ServiceKind,
)
from tests.monitoring import RULES, promtool, used_names
from tests.processes import LOOPBACK, ROOT, Process, free_port, wait_until
from tests.samples import dx, encode
from tests.stored import arrival, stored_in
from tests.system.node import Node, Remote
from tests.system.web import web_address, web_node
from tests.unpacked_packages import unpacked

pytestmark = pytest.mark.system

TOKEN = "0123456789abcdef0123456789abcdef"
PROBLEM = DrillProblem(DrillKind.UNREACHABLE, "", "it was not there")
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
        stored.index.drills.record(
            DrillResult("usb", now, now, False, "1", "red", everything_s=60.0, problems=(PROBLEM,), problem_count=1)
        )
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
    settings["node"] = {"trust_this_machine": False}
    (tmp_path / "tokens").write_text(f"{TOKEN}\n")
    web = {"token_file": str(tmp_path / "tokens")}
    node = web_node(make_node, web, remotes=[CONSOLE], copies=[copy], settings=settings)
    prepare(node.home)
    node.start()
    return node


@pytest.fixture
def prometheus(node, tmp_path, processes) -> str:
    """Start Prometheus as docs/monitoring.md sets it up, with a token and each second; return its address."""
    package, port = unpacked("prometheus"), free_port()
    (text,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "monitoring.md").read_text(), re.DOTALL)
    (tmp_path / "token").write_text(TOKEN)
    for documented, here in (
        ("prometheus-rules.yml", str(RULES)),
        ("/etc/prometheus/backup-scp-token", str(tmp_path / "token")),
        ("scheme: https", "scheme: http"),
        ("scrape_interval: 1m", "scrape_interval: 1s"),
        ("scrape_timeout: 30s", "scrape_timeout: 1s"),
        ("pacs.example:8042", urlsplit(web_address(node)).netloc),
    ):
        assert documented in text
        text = text.replace(documented, here)
    (tmp_path / "prometheus.yml").write_text(f"global: {{ evaluation_interval: 1s }}\n{text}")
    argv = [package.program("prometheus"), f"--config.file={tmp_path / 'prometheus.yml'}"]
    argv += [f"--storage.tsdb.path={tmp_path / 'tsdb'}", f"--web.listen-address={LOOPBACK}:{port}"]
    server = Process(argv, tmp_path / "prometheus.log", package.environment())
    processes.add(server)
    server.launch(lambda: "Server is ready to receive web requests" in server.output)
    return f"http://{LOOPBACK}:{port}/api/v1"


def asked(address: str) -> Any:
    with urllib.request.urlopen(address, timeout=60) as answer:
        return json.loads(answer.read())["data"]


def test_prometheus_reads_it_and_alarms(prometheus):
    def firing() -> set[str]:
        return {one["labels"]["alertname"] for one in asked(f"{prometheus}/alerts")["alerts"]}

    def healths() -> set[str]:
        return {rule["health"] for group in asked(f"{prometheus}/rules")["groups"] for rule in group["rules"]}

    wait_until(lambda: "BackupSCPDrillFailed" in firing(), what="the alert of the drill that failed")
    assert "BackupSCPDown" not in firing()
    (target,) = asked(f"{prometheus}/targets")["activeTargets"]
    assert target["lastError"] == ""
    wait_until(lambda: healths() == {"ok"}, what="each rule being evaluated")


def test_rules_and_dashboard_use_what_a_node_tells(node):
    address = f"{web_address(node).removesuffix('/dicom-web')}/metrics"
    request = urllib.request.Request(address, headers={"Authorization": f"Bearer {TOKEN}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        text = answer.read().decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    assert used_names() - {sample.name for sample in samples} == set()
    values = {(sample.name, *sample.labels.values()): sample.value for sample in samples}
    assert values["backup_scp_listening",] == 1
    assert values["backup_scp_refused", "other", "store"] == 3
    assert values["backup_scp_node_process_open_fds",] > 0
    assert "SCANNER" not in text
    assert promtool("check", "metrics", given=text) == ""
