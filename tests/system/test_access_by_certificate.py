"""Access by client certificate, network and service: a real node, dcmtk and TLS (docs/access.md)."""

from __future__ import annotations

import dataclasses
import ssl
from datetime import timedelta

import pytest

from tests.dimse import wire
from tests.peer_certificates import CN, PeerAuthority, PeerCertificate
from tests.processes import LOOPBACK, connects, free_port, wait_until
from tests.samples import dx, encode, uid
from tests.system import raw_sender
from tests.system.node import Remote
from tests.system.peers import echoscu, findscu, storescu
from tests.system.pynetdicom_peers import find

STUDY = {"StudyInstanceUID": uid("1")}
NO_REASON = (1, 1, 1)
CALLING_AE_TITLE_NOT_RECOGNISED = (1, 1, 3)  # PS3.8 9.3.4: permanent, by the service user


@dataclasses.dataclass(frozen=True)
class Port:
    """A port of the node, as a peer calls it."""

    port: int
    host: str = LOOPBACK
    ae_title: str = "BACKUP_SCP"


class World:
    """A node with two remote AEs that need certificates, and the certificates of those who call it."""

    def __init__(self, folder, make_node, strangers: str) -> None:
        self.authority = PeerAuthority(folder)
        ours = self.authority.issue("node", (CN, "node"))
        self.console = self.authority.issue("console", (CN, "console"))
        self.viewer = self.authority.issue("viewer", (CN, "viewer"))
        self.secured = Port(free_port())
        self.node = make_node(
            remotes=[
                Remote("starter", "RAW_SENDER", 104, services=("commit",)),  # it sees that the node is ready
                Remote("console", "CONSOLE", 104, services=("store",),
                       certificate=(f"SHA256:{self.console.fingerprint}",), destination=False),
                Remote("viewer", "VIEWER", 104, services=("find",), certificate=("CN=viewer",), destination=False),
                Remote("moving", "MOVING", 104, host="192.0.2.1", services=("find",), networks=("127.0.0.0/24",)),
                Remote("gone", "GONE", 104, host="192.0.2.1"),
            ],
            settings={
                "node": {"trust_this_machine": False, "strangers": strangers},
                "tls": {"certificate": str(ours.certificate), "key": str(ours.key), "ca": str(self.authority.ca),
                        "port": self.secured.port},
            },
        )  # fmt: skip
        self.node.start()
        self.plain = Port(self.node.port)
        wait_until(lambda: connects(self.secured.port), what="the port with TLS")

    def dcmtk(self, shown: PeerCertificate) -> tuple[str, ...]:
        return ("+tls", str(shown.key), str(shown.certificate), "+cf", str(self.authority.ca))

    def context(self, shown: PeerCertificate) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.authority.ca))
        context.check_hostname = False
        context.load_cert_chain(shown.certificate, shown.key)
        return context


def tells(here: World, sentence: str) -> None:
    """Wait until the status has a sentence; refusals are written behind."""
    wait_until(lambda: sentence in here.node.cli("status", exit_code=None).stdout, what=f"{sentence} in the status")


@pytest.fixture
def world(tmp_path, make_node):
    return lambda strangers="refuse": World(tmp_path, make_node, strangers)


def test_dcmtk_is_served_what_its_certificate_opens(world, tmp_path):
    here = world()
    sample = encode(dx()).write(tmp_path / "image.dcm")
    console, viewer = here.dcmtk(here.console), here.dcmtk(here.viewer)

    storescu(here.secured, sample, calling="CONSOLE", options=console)
    assert len(findscu(here.secured, "STUDY", STUDY, calling="VIEWER", options=viewer)) == 1
    with pytest.raises(AssertionError, match="0x0124"):
        findscu(here.secured, "STUDY", STUDY, calling="CONSOLE", options=console)
    with pytest.raises(AssertionError, match=r"Received Store Response .*0x0?124"):
        storescu(here.secured, sample, calling="VIEWER", options=viewer)
    for calling, shown in (("CONSOLE", viewer), ("VIEWER", console), ("STRANGER", viewer)):
        with pytest.raises(AssertionError, match="Calling AE Title Not Recognized"):
            echoscu(here.secured, *shown, calling=calling)

    tells(here, f'add "SHA256:{here.console.fingerprint}" to certificate')
    tells(here, 'add "find" to services of [[remote]] console')
    tells(here, 'add "store" to services of [[remote]] viewer')


def test_a_certificate_of_nobody_we_trust_opens_nothing(world, tmp_path):
    here = world()
    other = PeerAuthority(_folder(tmp_path / "other")).issue("viewer", (CN, "viewer"))
    expired = here.authority.issue("expired", (CN, "viewer"), ends=timedelta(days=-1))
    for shown in (other, expired):
        with pytest.raises((ConnectionError, wire.ClosedError, ssl.SSLError, raw_sender.AssociationRefusedError)):
            raw_sender.Association(here.secured, calling="VIEWER", tls=here.context(shown))
    tells(here, "its certificate is not from our CA")
    tells(here, "its certificate has expired")


def test_who_needs_a_certificate_is_rejected_without_tls(world):
    here = world("store")
    with pytest.raises(raw_sender.AssociationRefusedError) as refused:
        raw_sender.Association(here.plain, calling="VIEWER")
    assert refused.value.args[1:] == NO_REASON


def test_a_network_is_a_further_address_and_a_wrong_one_is_a_strangers(world):
    here = world()
    assert find(here.plain, "STUDY", STUDY, calling="MOVING").status == 0
    for calling in ("GONE", "STRANGER"):
        with pytest.raises(raw_sender.AssociationRefusedError) as refused:
            raw_sender.Association(here.plain, calling=calling)
        assert refused.value.args[1:] == CALLING_AE_TITLE_NOT_RECOGNISED
    tells(here, 'ae_title = "STRANGER"')
    tells(here, "add its address to networks")


def test_strangers_store_by_default_also_with_a_wrong_certificate(world, tmp_path):
    here = world("store")
    sample = encode(dx()).write(tmp_path / "image.dcm")
    storescu(here.secured, sample, calling="CONSOLE", options=here.dcmtk(here.viewer))
    assert len(findscu(here.secured, "STUDY", STUDY, calling="VIEWER", options=here.dcmtk(here.viewer))) == 1
    with pytest.raises(AssertionError, match="0x0124"):
        findscu(here.secured, "STUDY", STUDY, calling="VIEWER", options=here.dcmtk(here.console))


def test_check_tells_what_each_may_do(world):
    lines = world().node.cli("check", exit_code=None).stdout
    assert "VIEWER from 127.0.0.1 with TLS and a certificate of CN=viewer may find" in lines
    assert "MOVING from 192.0.2.1 or 127.0.0.0/24 may find, be sent images" in lines
    assert "callers that are no [[remote]] are refused" in lines


def _folder(path):
    path.mkdir()
    return path
