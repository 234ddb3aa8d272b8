"""The access matrix: service x peer x address x certificate x settings for strangers and this machine.

The expected answers come from ``expected``, which is written from docs/access.md and knows nothing of the program.
"""

from __future__ import annotations

import itertools
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import pytest

from backup_scp.dimse.association.acceptance import Acceptance, accept
from backup_scp.dimse.association.access import AccessPolicy, Caller
from backup_scp.dimse.association.admission import reason_to_reject
from backup_scp.dimse.association.listener import ListenSettings
from backup_scp.dimse.association.request_dispatch import Service
from backup_scp.dimse.association.server import Server
from backup_scp.dimse.messages.command_set import Field
from backup_scp.dimse.upper_layer import Secured, SecuredSocket
from backup_scp.dimse.upper_layer.tls import Credentials, acceptor_context
from backup_scp.dimse.upper_layer.tls_socket import proved_names
from backup_scp.errors import MoveDestinationUnknown, NotAuthorised
from backup_scp.node.remote_aes import access_policy
from backup_scp.node.settings import load_text
from backup_scp.ports import EVERY_SERVICE, RemoteAE, RemoteService
from backup_scp.services import permissions
from backup_scp.services.permissions import CallerKind, Right, may, remote_may
from tests.dimse import wire
from tests.dimse.conftest import OpenStores, Recorder
from tests.peer_certificates import CN, ORGANIZATION, PeerAuthority, PeerCertificate
from tests.stored import stored_in

OURS = "192.0.2.254"
EVERYBODY = {"echo", "store", "commit"}
SERVICES = {
    "echo": Field.C_ECHO_RQ,
    "store": Field.C_STORE_RQ,
    "commit": Field.N_ACTION_RQ,
    "find": Field.C_FIND_RQ,
    "get": Field.C_GET_RQ,
    "move": Field.C_MOVE_RQ,
}
REPORTS = {Field.N_EVENT_REPORT_RQ, Field.N_EVENT_REPORT_RSP}
"""They are answers to requests of this node, or to its reports: whoever has an Association may send them."""


@dataclass(frozen=True)
class Peer:
    """What the settings say of a peer, and what the documentation says that this means."""

    keys: Mapping[str, str]
    places: frozenset[str]
    may: frozenset[str]
    certificates: frozenset[str] | None = None  # None: no certificate is asked for
    needs_tls: bool = False
    is_destination: bool = True


_AT_HOST = frozenset({"host", "mapped"})
_IN_NETWORKS = _AT_HOST | {"network", "network of IPv6", "edge"}
_NETWORKS = '["198.51.100.0/25", "2001:db8:1::/64"]'
PEERS = {
    "CONSOLE": Peer({"services": '["store", "commit"]', "networks": _NETWORKS, "destination": "false"},
                    _IN_NETWORKS, frozenset({"store", "commit"}), is_destination=False),
    "VIEWER": Peer({"services": '["find", "get", "move"]', "networks": _NETWORKS,
                    "certificate": '["CN=viewer", "DNS:Viewer.clinic.example"]'},
                   _IN_NETWORKS, frozenset({"find", "get", "move"}), frozenset({"common name", "DNS", "subject"})),
    "SUBJECT": Peer({"certificate": '["CN=viewer,O=clinic"]'}, _AT_HOST, frozenset(SERVICES), frozenset({"subject"})),
    "FINGER": Peer({"check_address": "false", "certificate": '["SHA256:{fingerprint}"]', "services": '["find"]'},
                   frozenset({"any"}), frozenset({"find"}), frozenset({"fingerprint"})),
    "BY_IP": Peer({"certificate": '["IP:2001:db8::7", "URI:urn:dr:1"]'}, _AT_HOST, frozenset(SERVICES),
                  frozenset({"IP", "URI"})),
    "PACS": Peer({}, _AT_HOST, frozenset(SERVICES)),
    "SENDER": Peer({"query": "false"}, _AT_HOST, frozenset({"store", "commit"})),
    "SECURED": Peer({"tls": '"required"', "services": '["get"]'}, _AT_HOST, frozenset({"get"}), needs_tls=True),
    "ROVER": Peer({"check_address": "false", "services": '["move"]'}, frozenset({"any"}), frozenset({"move"})),
}  # fmt: skip
NOBODY = "STRANGER"
ADDRESSES = {
    "host": "192.0.2.20",
    "mapped": "::ffff:192.0.2.20",
    "network": "198.51.100.9",
    "edge": "198.51.100.127",
    "beyond the edge": "198.51.100.128",
    "network of IPv6": "2001:db8:1::ffff%eth0",
    "other": "203.0.113.1",
    "other of IPv6": "2001:db8:2::1",
    "loopback": "127.0.0.1",
    "loopback of IPv6": "::1",
    "mapped loopback": "::ffff:127.0.0.1",
    "our own": OURS,
}
HERE = {"loopback", "loopback of IPv6", "mapped loopback", "our own"}
CERTIFICATES = ("plain", "none", "common name", "DNS", "subject", "fingerprint", "IP", "URI", "other", "two names")


class Case(NamedTuple):
    """One caller of one node."""

    peer: str
    address: str
    certificate: str
    trusts_this_machine: bool
    strangers: str


CASES = [
    Case(*facts)
    for facts in itertools.product([*PEERS, NOBODY], ADDRESSES, CERTIFICATES, (True, False), ("store", "refuse"))
]


def expected(case: Case, service: str) -> str:
    """Return what docs/access.md promises: ``served``, ``0124`` or ``rejected``."""
    peer = PEERS.get(case.peer)
    is_here = case.address in HERE and case.trusts_this_machine
    is_meant = peer is not None and bool({case.address, "any"} & peer.places)
    if is_meant and peer is not None:
        if (peer.needs_tls or peer.certificates is not None) and case.certificate == "plain":
            return "rejected"
        if not is_here and (peer.certificates is None or case.certificate in peer.certificates):
            return "served" if service in peer.may | {"echo"} else "0124"
    if is_here:
        return "served"
    if case.strangers == "refuse":
        return "rejected"
    return "served" if service in EVERYBODY else "0124"


# -------------------------------------------------------------------------------------------------------- certificates


class Shown(NamedTuple):
    """Certificates of an authority, and what the node sees of each."""

    names: Mapping[str, frozenset[str]]
    fingerprint: str


@pytest.fixture(scope="module")
def shown(tmp_path_factory) -> Shown:
    """Let a peer with each certificate do a TLS handshake with the node's own context."""
    authority = PeerAuthority(tmp_path_factory.mktemp("certificates"))
    ours = authority.issue("node", (CN, "node"))
    context = acceptor_context(Credentials(ours.certificate, ours.key, authority.ca))
    issued = {
        "common name": authority.issue("1", (CN, "viewer"), names=("DNS:a.clinic.example",)),
        "DNS": authority.issue("2", names=("DNS:VIEWER.clinic.example",)),
        "subject": authority.issue("3", (ORGANIZATION, "clinic"), (CN, "viewer")),
        "fingerprint": authority.issue("4", (CN, "finger")),
        "IP": authority.issue("5", (CN, "dr"), names=("IP:2001:0db8::0007",)),
        "URI": authority.issue("6", (CN, "dr"), names=("URI:urn:dr:1",)),
        "other": authority.issue(
            "7", (CN, "Viewer"), (ORGANIZATION, "CN=viewer"), names=("DNS:e.viewer.clinic.example", "DNS:CN=viewer")
        ),
        "two names": authority.issue("8", (CN, "other"), (CN, "viewer")),
    }
    names = {kind: _proved(context, authority, certificate) for kind, certificate in issued.items()}
    assert all(names.values())
    return Shown({"plain": frozenset(), "none": frozenset()} | names, issued["fingerprint"].fingerprint)


def _proved(context: ssl.SSLContext, authority: PeerAuthority, certificate: PeerCertificate) -> frozenset[str]:
    theirs = ssl.create_default_context(cafile=str(authority.ca))
    theirs.check_hostname = False
    theirs.load_cert_chain(certificate.certificate, certificate.key)
    ends = socket.socketpair()
    peer = threading.Thread(target=_call, args=(ends[1], theirs))
    peer.start()
    with SecuredSocket(ends[0], context) as ours:
        Secured(ours).do_handshake(10)
        names = proved_names(ours)
    peer.join()
    return names


def _call(connection: socket.socket, theirs: ssl.SSLContext) -> None:
    with theirs.wrap_socket(connection) as secured:
        secured.recv(1)


# ---------------------------------------------------------------------------------------------------------- the matrix


@pytest.fixture(scope="module")
def nodes(tmp_path_factory, shown) -> Iterator[Mapping[tuple[bool, str], tuple[Server, AccessPolicy]]]:
    """Yield the node's parts, by what it does with this machine and with strangers."""
    folder = tmp_path_factory.mktemp("node")
    with stored_in(folder) as stored:
        services = OpenStores(folder, stored.archive, stored.index, Recorder()).services()  # type: ignore[arg-type]
        yield {
            (trusts, strangers): _node(services, shown, trusts=trusts, strangers=strangers)
            for trusts, strangers in itertools.product((True, False), ("store", "refuse"))
        }


def _node(
    services: Mapping[int, Service], shown: Shown, *, trusts: bool, strangers: str
) -> tuple[Server, AccessPolicy]:
    node = f'[node]\nstrangers = "{strangers}"\ntrust_this_machine = {str(trusts).lower()}\n'
    remotes = "".join(
        f'[[remote]]\nname = "{name.lower()}"\nae_title = "{name}"\nhost = "192.0.2.20"\n'
        + "".join(f"{key} = {value.format(fingerprint=shown.fingerprint)}\n" for key, value in peer.keys.items())
        for name, peer in PEERS.items()
    )
    secured = '[tls]\ncertificate = "node.pem"\nkey = "node-key.pem"\nca = "ca.pem"\n'
    policy = access_policy(load_text(node + secured + remotes, None, {}))
    listening = ListenSettings("BACKUP_SCP", "127.0.0.1", 0, tls_port=2762)
    return Server(listening, policy, services, Recorder()), policy


def _asked() -> Acceptance:
    return accept(wire.associate_rq([(wire.VERIFICATION, (wire.IMPLICIT,))]), 131072)


def answers(node: tuple[Server, AccessPolicy], case: Case, shown: Shown) -> dict[str, str]:
    """Return what the node answers this caller, for each service."""
    server, policy = node
    proved = shown.names[case.certificate]
    caller = policy.identify(case.peer, ADDRESSES[case.address], OURS, lambda: proved)
    is_secured = case.certificate != "plain"
    if reason_to_reject(server._listening, policy, caller, _ASKED, is_secured=is_secured) is not None:
        return dict.fromkeys(SERVICES, "rejected")
    served = server._dispatcher._services
    return {name: _answer(policy, caller, served[field].right) for name, field in SERVICES.items()}


def _answer(policy: AccessPolicy, caller: Caller, right: Right) -> str:
    try:
        policy.require(caller, right)
    except NotAuthorised:
        return "0124"
    return "served"


_ASKED = _asked()


@pytest.mark.parametrize("peer", [*PEERS, NOBODY])
def test_the_access_matrix(nodes, shown, peer):
    cases = [case for case in CASES if case.peer == peer]
    assert len(cases) == len(ADDRESSES) * len(CERTIFICATES) * 4
    wrong = [
        (case, service, answer, expected(case, service))
        for case in cases
        for service, answer in answers(nodes[case.trusts_this_machine, case.strangers], case, shown).items()
        if answer != expected(case, service)
    ]
    assert wrong == []


def test_the_matrix_has_every_outcome_for_every_service():
    """An oracle that always says the same would agree with a broken node."""
    for service in SERVICES:
        found = {expected(case, service) for case in CASES}
        assert found == ({"served", "rejected"} if service == "echo" else {"served", "0124", "rejected"}), service


@pytest.mark.parametrize("name", [*PEERS, NOBODY])
def test_who_may_be_sent_images(nodes, name):
    for _, policy in nodes.values():
        if name in PEERS and PEERS[name].is_destination:
            assert policy.move_destination(name).ae_title == name
        else:
            with pytest.raises(MoveDestinationUnknown):
                policy.move_destination(name)


# --------------------------------------------------------------------------------------------------- denied by default


def test_every_service_of_the_node_is_in_the_matrix(nodes):
    for server, _ in nodes.values():
        assert set(server._dispatcher._services) == {int(field) for field in (*SERVICES.values(), *REPORTS)}


def test_a_service_without_a_right_cannot_be_made():
    with pytest.raises(TypeError, match="right"):
        Service(lambda _: True, lambda *_: None)  # type: ignore[call-arg]


def test_a_new_right_is_nobodys():
    new = "sweep the floor"
    assert not any(may(kind, new) for kind in CallerKind)  # type: ignore[arg-type]
    assert not remote_may(RemoteAE("a", "A", "h"), new)  # type: ignore[arg-type]
    assert not any(permissions.user_may({"*": role}, new) for role in permissions.ROLE_RIGHTS)  # type: ignore[arg-type]


def test_a_new_kind_of_caller_may_nothing():
    assert not any(may("a robot", right) for right in Right)  # type: ignore[arg-type]


def test_behind_the_rejection_of_a_stranger_is_no_right():
    assert not any(may(CallerKind.REFUSED_AE, right) for right in Right)


def test_what_the_row_of_remotes_lacks_no_settings_give(monkeypatch):
    row = permissions.RIGHTS[CallerKind.CONFIGURED_AE] - {Right.MOVE}
    monkeypatch.setitem(permissions.RIGHTS, CallerKind.CONFIGURED_AE, row)
    permissions._rights_of.cache_clear()
    try:
        assert not remote_may(RemoteAE("a", "A", "h"), Right.MOVE)
        assert remote_may(RemoteAE("a", "A", "h"), Right.FIND)
    finally:
        permissions._rights_of.cache_clear()


def test_a_new_service_of_a_remote_gives_no_right():
    services = frozenset({"sweep"})
    remote = RemoteAE("a", "A", "h", services=services, destination=False)  # type: ignore[arg-type]
    given = {right for right in Right if remote_may(remote, right)}
    assert given == {Right.ECHO, Right.REPORT}


def test_each_service_of_the_settings_gives_one_right():
    assert set(permissions.RIGHT_TO_USE) == set(RemoteService) == EVERY_SERVICE
    assert len(set(permissions.RIGHT_TO_USE.values())) == len(RemoteService)
    for service, right in permissions.RIGHT_TO_USE.items():
        remote = RemoteAE("a", "A", "h", services=frozenset({service}), destination=False)
        assert {one for one in Right if remote_may(remote, one)} == {Right.ECHO, Right.REPORT, right}


def test_every_right_and_every_kind_has_its_place():
    assert set(permissions.RIGHTS) == set(CallerKind)
    tables = (permissions.RIGHTS, permissions.ROLE_RIGHTS, permissions.LINK_RIGHTS)
    assert {right for table in tables for rights in table.values() for right in rights} == set(Right)
