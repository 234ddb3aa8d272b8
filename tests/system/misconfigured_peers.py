"""What consoles, viewers and networks are set up wrongly with, done for real: each mistake by its name.

docs/troubleshooting.md has a row for each name; test_peer_doctor.py compares its words with what the node says.
"""

from __future__ import annotations

import contextlib
import ssl
import struct
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from tests.dimse import wire
from tests.peer_certificates import CN, PeerAuthority
from tests.processes import LOOPBACK, free_port
from tests.samples import Sample, ct_series, dx, encode
from tests.system import commitments, raw_sender
from tests.system.node import Node, Remote
from tests.system.pynetdicom_peers import FIND, STUDY_ROOT, Sink, find, get, move

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
JPEG = "1.2.840.10008.1.2.4.70"
WORKLIST, MPPS = "1.2.840.10008.5.1.4.31", "1.2.840.10008.3.1.2.3.3"
PRINT, PULL = "1.2.840.10008.5.1.1.9", "1.2.840.10008.1.20.2"
AVAILABILITY = "1.2.840.10008.5.1.4.33"
VIEWERS = ("VIEWER", "GETTER", "NOLEVEL", "PATLEVEL", "NOSTUDY", "NEWDEST", "NEARDEST", "NODEST", "ASKS")
NOT_OF_OURS = (OSError, raw_sender.AssociationRefusedError, wire.ClosedError, AssertionError)


@dataclass(frozen=True)
class Called:
    """A node as a peer calls it, under a name that may be wrong."""

    port: int
    ae_title: str = "BACKUP_SCP"
    host: str = LOOPBACK


class World:
    """A node that answers, one that is full and lets no stranger in, and the devices around them."""

    def __init__(self, folder: Path) -> None:
        (data_set,) = ct_series(1)
        self.study = {"StudyInstanceUID": str(data_set.StudyInstanceUID)}
        self.ct, self.dx = encode(data_set), encode(dx())
        self.authority, foreign = PeerAuthority(_made(folder / "ours")), PeerAuthority(_made(folder / "foreign"))
        ours = self.authority.issue("node", (CN, "node"))
        self.console, self.foreign = self.authority.issue("console", (CN, "console")), foreign.issue("other", (CN, "o"))
        self.ended = self.authority.issue("ended", (CN, "ended"), ends=timedelta(days=-1))
        self.foreign_ca = foreign.ca
        self.tls_port, self.closed_port = free_port(), free_port()
        ct = self.ct.sop_class_uid
        self.full = Sink({ct: [EXPLICIT, IMPLICIT]}, lambda _: 0xA700, ae_title="FULL")
        self.picky = Sink({self.dx.sop_class_uid: [EXPLICIT]}, ae_title="PICKY")
        self.strict = Sink({ct: [EXPLICIT, IMPLICIT]}, ae_title="STRICT")
        self.node = Node(
            folder / "node",
            remotes=[
                *(Remote(name.lower(), name, 104) for name in VIEWERS),
                Remote("room 1", "CONSOLE", 104, services=("store",), destination=False),
                Remote("moved", "MOVED", 104, host="192.0.2.1", destination=False),
                Remote("secured", "SECURED", 104, tls="required", destination=False),
                Remote("certified", "CERTIFIED", 104, certificate=("CN=console",), destination=False),
                Remote("never", "NEVER", 104, destination=False),
                Remote("off", "OFF", self.closed_port),
                Remote("nowhere", "NOWHERE", 104, host="no-such-host.invalid"),
                Remote("strict", "NOT_STRICT", self.strict.port),
                self.picky.remote,
                self.full.remote,
                Remote("no tls", "NOTLS", self.full.port, tls=True),
                Remote("closed reports", "DR2", self.closed_port),
            ],
            settings={
                "node": {"trust_this_machine": False, "maximum_associations_per_address": 2, "connect_timeout_s": 5},
                "commitment": {"retry_s": 1, "wait_s": 0},
                "tls": {"certificate": str(ours.certificate), "key": str(ours.key), "ca": str(self.authority.ca),
                        "port": self.tls_port},
                "web": {"enabled": False},
            },
        )  # fmt: skip
        self.narrow = Node(
            folder / "narrow",
            remotes=[Remote("console", "CONSOLE", 104), Remote("starter", "RAW_SENDER", 104)],
            settings={
                "node": {"trust_this_machine": False, "strangers": "refuse", "idle_timeout_s": 2},
                "archive": {"reserve_mb": 1_000_000_000},
                "web": {"enabled": False},
            },
        )

    def call(self, calling: str, called: str = "BACKUP_SCP", *, contexts: wire.Contexts = (), **more: object) -> None:
        """Ask for an Association, and end it."""
        wanted = contexts or ((wire.VERIFICATION, (IMPLICIT,)),)
        with contextlib.suppress(*NOT_OF_OURS), wire.Peer(self.node.port) as peer:
            kind, body = peer.ask(wire.associate_rq(wanted, called=called.encode(), calling=calling.encode()))
            if kind == wire.ASSOCIATE_AC:
                peer.accept(body)
                peer.release()

    def say(self, stream: bytes) -> None:
        """Send what is no DICOM."""
        with contextlib.suppress(*NOT_OF_OURS), wire.Peer(self.node.port) as peer:
            assert peer.ask(stream)[0] == wire.ABORT

    def secure(self, change: Callable[[ssl.SSLContext], None] = lambda _: None, shown=None, ca=None) -> None:
        """Call the port with TLS, as this context does."""
        context = ssl.create_default_context(cafile=str(ca or self.authority.ca))
        context.check_hostname = False
        shown = shown or self.console
        context.load_cert_chain(shown.certificate, shown.key)
        change(context)
        with contextlib.suppress(*NOT_OF_OURS):
            raw_sender.Association(Called(self.tls_port), tls=context).release()

    def query(self, calling: str, level: str = "STUDY", **keys: str) -> None:
        find(self.node, level, keys or {"StudyInstanceUID": ""}, calling=calling)

    def retrieve(self, destination: str, calling: str = "VIEWER") -> None:
        move(self.node, destination, "STUDY", self.study, calling=calling)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _without_certificate(world: World) -> None:
    context = ssl.create_default_context(cafile=str(world.authority.ca))
    context.check_hostname = False
    with contextlib.suppress(*NOT_OF_OURS):
        raw_sender.Association(Called(world.tls_port), tls=context).release()


def _old(context: ssl.SSLContext) -> None:
    with warnings.catch_warnings(action="ignore"):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")


def _weak(context: ssl.SSLContext) -> None:
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA")


def _dicom_to_tls(world: World) -> None:
    with contextlib.suppress(*NOT_OF_OURS):
        raw_sender.Association(Called(world.tls_port), calling="PLAIN")


def _http_to_tls(world: World) -> None:
    with contextlib.suppress(*NOT_OF_OURS), wire.Peer(world.tls_port) as peer:
        peer.send(b"GET / HTTP/1.1\r\nHost: pacs\r\n\r\n")
        peer.until_closed()


def _too_many_contexts(world: World) -> None:
    items = b"".join(wire.context_item(number, wire.VERIFICATION, (IMPLICIT,)) for number in range(129))
    world.say(wire.associate_rq([], context_items=items))


def _too_many_at_once(world: World) -> None:
    with contextlib.ExitStack() as stack, contextlib.suppress(raw_sender.AssociationRefusedError):
        for _ in range(3):
            stack.enter_context(raw_sender.Association(world.node, calling="EACHIMAGE"))


def _commit(world: World, calling: str, sample: Sample) -> None:
    with commitments.associated(world.node, calling) as opened:
        commitments.ask(opened, [commitments.pair(sample)])


def _contradicts(world: World) -> None:
    sample = world.dx
    renamed = Sample(**{**vars(sample), "sop_instance_uid": "1.2.3.4"})
    raw_sender.send(world.node, [renamed], calling="CONTRADICT")


def _get_without_role(world: World) -> None:
    get(world.node, "STUDY", world.study, {world.ct.sop_class_uid: [EXPLICIT]}, calling="GETTER", as_scp=False)


def _leave_open(world: World) -> None:
    with wire.Peer.associated(world.narrow.port, calling=b"CONSOLE") as peer:
        assert peer.pdu()[0] == wire.ABORT


def _break_the_protocol(world: World) -> None:
    with contextlib.suppress(*NOT_OF_OURS), wire.Peer.associated(world.node.port, calling=b"CUTOFF") as peer:
        assert peer.ask(struct.pack(">BxI", 4, 3))[0] == wire.ABORT


def _stranger_at_the_narrow_one(world: World) -> None:
    with contextlib.suppress(raw_sender.AssociationRefusedError):
        raw_sender.Association(world.narrow, calling="NEWCT")


def nothing_more(_: World) -> None:
    """Do nothing: the settings of the world are wrong already."""


CASES: Mapping[str, Callable[[World], object]] = {
    # -- names ---------------------------------------------------------------------------------------------------------
    "Our AE title has a typing error": lambda w: w.call("A1", "BACKUPSCQ"),
    "Our AE title in small letters": lambda w: w.call("A2", "backup_scp"),
    "Our AE title with a hyphen": lambda w: w.call("A3", "BACKUP-SCP"),
    "Our AE title is cut off": lambda w: w.call("A4", "BACKUP"),
    "Nobody has entered our AE title": lambda w: w.call("A5", "ANY-SCP"),
    "An address in the field of the AE title": lambda w: w.call("A6", "127.0.0.1"),
    "The AE title of another archive": lambda w: w.call("A7", "OLDPACS"),
    "The two AE titles are exchanged": lambda w: w.call("BACKUP_SCP", "CT1"),
    "No AE title of its own": lambda w: w.call(""),
    "Its own AE title in small letters": lambda w: w.query("viewer"),
    "Its own AE title with a hyphen": lambda w: w.query("CON-SOLE"),
    "Its address has changed, or two have one AE title": lambda w: w.query("MOVED"),
    # -- who may -------------------------------------------------------------------------------------------------------
    "A viewer that nobody has entered": lambda w: w.query("WORKSTATION7"),
    "A console that may only store asks": lambda w: w.query("CONSOLE"),
    "A new device where strangers are refused": _stranger_at_the_narrow_one,
    "Too many Associations at once": _too_many_at_once,
    # -- ports and TLS -------------------------------------------------------------------------------------------------
    "A browser calls the DICOM port": lambda w: w.say(b"GET / HTTP/1.1\r\n\r\n"),
    "HL7 to the DICOM port": lambda w: w.say(b"\x0bMSH|^~\\&|RIS|"),
    "SSH to the DICOM port": lambda w: w.say(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "A proxy that is not listed": lambda w: w.say(b"\r\n\r\n\0\r\nQUIT\n" + bytes(16)),
    "TLS to the port without": lambda w: w.say(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    "No TLS to the port with TLS": _dicom_to_tls,
    "A browser calls the port with TLS": _http_to_tls,
    "It must use TLS, and does not": lambda w: w.call("SECURED"),
    "It must show a certificate, and calls without TLS": lambda w: w.call("CERTIFIED"),
    "Only TLS 1.0 or 1.1": lambda w: w.secure(_old),
    "Only old cipher suites": lambda w: w.secure(_weak),
    "No client certificate": _without_certificate,
    "A certificate of another CA": lambda w: w.secure(shown=w.foreign),
    "Its certificate has expired": lambda w: w.secure(shown=w.ended),
    "It does not know our CA": lambda w: w.secure(ca=w.foreign_ca),
    # -- services ------------------------------------------------------------------------------------------------------
    "Worklist": lambda w: w.call("MWL", contexts=[(WORKLIST, (IMPLICIT,))]),
    "MPPS": lambda w: w.call("PPS", contexts=[(MPPS, (IMPLICIT,))]),
    "Print": lambda w: w.call("PRINT", contexts=[(PRINT, (IMPLICIT,))]),
    "Storage Commitment by the Pull Model": lambda w: w.call("PULL", contexts=[(PULL, (IMPLICIT,))]),
    "Another service that we do not have": lambda w: w.call("IAN", contexts=[(AVAILABILITY, (IMPLICIT,))]),
    "A query in a compressed syntax": lambda w: w.call("JPEG", contexts=[(STUDY_ROOT + FIND, (JPEG,))]),
    "Too many Presentation Contexts": _too_many_contexts,
    # -- queries and retrieves -----------------------------------------------------------------------------------------
    "A query without a level": lambda w: w.query("NOLEVEL", level="", PatientID="1"),
    "The level PATIENT in the Study Root": lambda w: w.query("PATLEVEL", level="PATIENT", PatientID="1"),
    "A retrieve that does not name its study": lambda w: move(
        w.node, "VIEWER", "STUDY", {"PatientID": "1"}, calling="NOSTUDY"
    ),
    "C-MOVE to a name that nobody has entered": lambda w: w.retrieve("WORKSTATION", "NEWDEST"),
    "C-MOVE to a name with a typing error": lambda w: w.retrieve("VIEWERS", "NEARDEST"),
    "C-MOVE to an AE to which nothing is sent": lambda w: w.retrieve("NEVER", "NODEST"),
    "C-MOVE to a device that is off": lambda w: w.retrieve("OFF"),
    "C-MOVE to a host that DNS does not know": lambda w: w.retrieve("NOWHERE"),
    "C-MOVE to a device with another AE title": lambda w: w.retrieve("NOT_STRICT"),
    "C-MOVE to a device that does not take such images": lambda w: w.retrieve("PICKY"),
    "C-MOVE to a device that is full": lambda w: w.retrieve("FULL"),
    "C-MOVE with TLS to a port without": lambda w: w.retrieve("NOTLS"),
    "C-GET without roles": _get_without_role,
    # -- images and commitment -----------------------------------------------------------------------------------------
    "The archive's disk is full": lambda w: raw_sender.send(w.narrow, [w.dx], calling="CONSOLE"),
    "Images that contradict themselves": _contradicts,
    "An Association that is never released": _leave_open,
    "What is no DICOM inside an Association": _break_the_protocol,
    "Commitment of images that never came": lambda w: _commit(w, "ASKS", w.dx),
    "The port for commitment reports is closed": lambda w: _commit(w, "DR2", w.ct),
    "The port for commitment reports takes none": lambda w: _commit(w, "PICKY", w.ct),
    # -- what backup-scp check finds before anybody is refused -----------------------------------------------------
    "Its port is closed": nothing_more,
    "Its host name is unknown": nothing_more,
    "Its AE title is wrong in our settings": nothing_more,
    "Our settings say TLS, and its port has none": nothing_more,
    "Only this computer can call the node": nothing_more,
}
