"""The web process: beside the node, never in its way."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

import httpx2
import pytest

from tests.processes import LOOPBACK, wait_until
from tests.samples import ct_series, dx, encode
from tests.system.web import record, web_address, web_node

# A child of the node, by the system's list of processes.


def web_processes(node) -> list[int]:
    listed = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(node.pid)], capture_output=True, text=True, check=False
    ).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if "backup_scp.cli.web_process" in line]


def answers(address: str) -> bool:
    return httpx2.options(address, timeout=60).status_code == 200


@pytest.fixture
def node(make_node):
    node = web_node(make_node)
    node.start()
    return node


def test_it_answers_and_ends_with_the_node(node):
    address = web_address(node)
    assert answers(address)
    (process,) = web_processes(node)
    assert f"In a browser: {address.removesuffix('dicom-web')} shows the state" in node.output
    assert f"DICOMweb: {address}\n" in node.output
    assert f"DICOMweb       {address}\n" in node.cli("status", exit_code=None).stdout
    assert node.json("status", exit_code=None)["node"]["record"]["web_address"] == address

    node.stop()

    assert not Path(f"/proc/{process}").exists()


def test_another_replaces_one_that_died(node):
    address = web_address(node)
    assert answers(address)
    (first,) = web_processes(node)

    os.kill(first, signal.SIGKILL)

    assert node.send([encode(dx())])[0].status == 0
    wait_until(lambda: web_processes(node) not in ([], [first]), what="another process")
    assert answers(address)  # whoever calls meanwhile waits
    wait_until(lambda: record(node)["web_trouble"] == "", what="no trouble")


def test_metadata_is_kept_for_the_next_process(node):
    images = ct_series(2)
    assert {answer.status for answer in node.send([encode(ds) for ds in images])} == {0}
    path = f"{web_address(node)}/studies/{images[0].StudyInstanceUID}/metadata"
    first = httpx2.get(path, timeout=60)
    assert len(first.json()) == 2
    (kept,) = (node.home / "cache").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    os.utime(kept, (1, 1))

    (process,) = web_processes(node)
    os.kill(process, signal.SIGKILL)

    assert httpx2.get(path, timeout=60).content == first.content
    assert kept.stat().st_mtime > 1, "it was used"


def test_it_does_not_outlive_a_node_that_was_killed(node):
    assert answers(web_address(node))
    (process,) = web_processes(node)

    node.kill()

    wait_until(lambda: not Path(f"/proc/{process}").exists(), what="its end")


def test_a_taken_port_does_not_stop_the_node(make_node):
    with socket.create_server((LOOPBACK, 0)) as other:
        port = other.getsockname()[1]
        node = web_node(make_node, {"port": port})
        node.start()
        assert node.send([encode(dx())])[0].status == 0
        assert f"port {port} at 127.0.0.1 cannot be used" in node.output
        found = node.json("status")
        assert [(each["what"], each["severity"]) for each in found["findings"]] == [("web", "note")]
    wait_until(lambda: record(node)["web_trouble"] == "", what="its turn")
    assert answers(f"http://127.0.0.1:{port}/dicom-web")


def test_a_file_that_cannot_be_used_does_not_stop_the_node(make_node, tmp_path):
    node = web_node(make_node, {"token_file": str(tmp_path / "none")})
    node.start()
    trouble = wait_until(lambda: record(node)["web_trouble"], what="trouble")
    assert "token_file" in trouble
    assert "No such file" in trouble
    assert node.send([encode(dx())])[0].status == 0


def test_several_processes_have_one_web_process(make_node):
    node = web_node(make_node, settings={"node": {"workers": 2}})
    node.start()
    assert answers(web_address(node))


def test_it_is_small(node):
    address = web_address(node)
    assert {answer.status for answer in node.send([encode(dx(number=number)) for number in range(20)])} == {0}
    for _ in range(20):
        assert len(httpx2.get(f"{address}/instances?includefield=all", timeout=60).json()) == 20
    (process,) = web_processes(node)
    status = Path(f"/proc/{process}/status").read_text()
    assert int(status.partition("VmHWM:")[2].split()[0]) < 150_000  # kB
    assert "numpy" not in Path(f"/proc/{process}/maps").read_text()


def test_the_dicom_process_does_not_load_it(node):
    assert answers(web_address(node))
    mapped = Path(f"/proc/{node.pid}/maps").read_text()
    assert "httptools" not in mapped
