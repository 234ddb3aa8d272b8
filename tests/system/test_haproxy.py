"""DICOM behind a real HAProxy with the settings of conf/: the node sees the callers, with TLS and without."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.processes import LOOPBACK, ROOT, Process, Processes, clean_environment, connects, free_port, wait_until
from tests.samples import dx, encode
from tests.system import raw_sender
from tests.system.contents import digests, visible
from tests.system.node import Node, Remote
from tests.system.peers import echoscu, require
from tests.system.raw_sender import contexts_of
from tests.system.test_tls import Port

pytestmark = pytest.mark.system

CONSOLE, OTHER = "127.0.0.7", "127.0.0.8"


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def node(make_node, authority, tmp_path) -> Node:
    """A node behind the proxy; its console calls from an address of its own."""
    authority.issue_cert("node.clinic.example").private_key_and_cert_chain_pem.write_to_path(tmp_path / "node.pem")
    tls = {"certificate": str(tmp_path / "node.pem"), "port": free_port()}
    remotes = [Remote("console", "CONSOLE", 104, host=CONSOLE)]
    return make_node(remotes=remotes, settings={"node": {"strangers": "refuse"}, "tls": tls})


def start(node: Node, **settings: object) -> None:
    """Start it without a C-ECHO of its own, which has no header."""
    node.settings["node"] |= settings
    node.write_settings()
    starts = node.output.count(" is ready: ")
    node.process.launch(lambda: node.output.count(" is ready: ") > starts, 60)


@pytest.fixture
def start_proxy(node, tmp_path, processes):
    """Return `start_proxy()`: HAProxy with the file of conf/, on other ports; the port for DICOM, and that with TLS."""
    return lambda: _started(node, tmp_path, processes)


def _started(node: Node, tmp_path: Path, processes: Processes) -> tuple[Port, Port]:
    plain, tls = Port(free_port()), Port(free_port())
    text = (ROOT / "conf" / "haproxy.cfg").read_text()
    for said, meant in (
        ("bind :11112", f"bind {LOOPBACK}:{plain.port}"),
        ("bind :2762", f"bind {LOOPBACK}:{tls.port}"),
        ("10.0.0.11:11112", f"{LOOPBACK}:{node.port}"),
        ("10.0.0.11:2762", f"{LOOPBACK}:{node.settings['tls']['port']}"),
    ):
        assert text.count(said) == 1, said
        text = text.replace(said, meant)
    file = tmp_path / "haproxy.cfg"
    file.write_text(text)
    haproxy = Process([require("haproxy"), "-db", "-f", str(file)], tmp_path / "haproxy.log", clean_environment())
    processes.add(haproxy)
    haproxy.launch(lambda: connects(plain.port) and connects(tls.port), 30)
    return plain, tls


def rejections(node: Node) -> list[tuple[str, str]]:
    return [(each["address"], each["reason"]) for each in node.json("status", exit_code=None)["rejections"]]


def call(port: Port, source: str, tls: ssl.SSLContext | None = None, **proposal: Any) -> raw_sender.Association:
    return raw_sender.Association(port, calling="CONSOLE", tls=tls, source=source, **proposal)


def test_the_node_sees_who_calls_through_the_proxy(node, start_proxy, authority):
    start(node, proxies=[LOOPBACK])
    plain, secured = start_proxy()
    context = ssl.create_default_context()
    context.check_hostname = False
    authority.configure_trust(context)
    sample = encode(dx())
    for port, tls in ((plain, None), (secured, context)):
        with call(port, CONSOLE, tls) as sender:
            assert sender.echo() == 0
        with pytest.raises(raw_sender.AssociationRefusedError):
            call(port, OTHER, tls)
    with call(plain, CONSOLE, contexts=contexts_of(sample)) as sender:
        assert sender.store(sample).status == 0
    assert digests(visible(node)) == {sample.sha256: 1}
    refused = wait_until(lambda: rejections(node), what="the refused caller in status")
    assert {address for address, _ in refused} == {OTHER}
    assert f"'CONSOLE' at {CONSOLE}" in node.output
    assert f"at {LOOPBACK}" not in node.output


def test_who_leaves_the_proxy_out_or_out_of_the_settings_is_told(node, start_proxy):
    start(node)
    plain, _ = start_proxy()
    echoscu(plain, calling="CONSOLE", exit_code=None)
    listed = "it sent a header of the PROXY protocol, and its address is not one of proxies"
    wait_until(lambda: (LOOPBACK, listed) in rejections(node), what="the proxy that is not listed")
    node.stop()
    start(node, proxies=[LOOPBACK])
    echoscu(node, calling="CONSOLE", exit_code=None)
    missing = "it sent no PROXY protocol header, and its address is one of proxies"
    wait_until(lambda: (LOOPBACK, missing) in rejections(node), what="the caller past the proxy")
