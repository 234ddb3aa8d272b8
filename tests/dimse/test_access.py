"""Permissions by AE title, address and name."""

from __future__ import annotations

import re
import socket
import time

import pytest

from backup_scp.dimse.association.access import AccessPolicy, peer_of, plain_address
from backup_scp.errors import MoveDestinationUnknown, NotAuthorised
from backup_scp.ports import STORING_SERVICES, RemoteAE
from backup_scp.services.permissions import Right

CONSOLE = RemoteAE("console", "CONSOLE", "192.0.2.7", site="north")
VIEWER = RemoteAE("viewer", "VIEWER", "viewer.example", destination=False)
ROVER = RemoteAE("rover", "ROVER", "192.0.2.9", services=STORING_SERVICES, check_address=False)
OURS = "192.0.2.254"
SIXTH = RemoteAE("six", "SIX", "2001:db8::6")


@pytest.fixture
def names(monkeypatch):
    """Return a table of names that replaces DNS; other names fail."""
    table = {"viewer.example": ["192.0.2.8", "2001:db8::8"]}
    asked: list[str] = []

    def getaddrinfo(host, *_, **__):
        asked.append(host)
        addresses = table.get(host, [host] if host[0].isdigit() else None)
        if addresses is None:
            raise socket.gaierror(-2, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    table["asked"] = asked
    return table


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", OURS])
def test_this_machine_is_a_stranger_where_it_is_not_trusted(names, address):
    """Behind a proxy, and in a rootless container, everybody calls from there."""
    here = AccessPolicy([CONSOLE]).identify("ANY", address, OURS)
    assert (here.is_this_machine, here.is_known) == (True, True)
    anybody = AccessPolicy([CONSOLE], trust_this_machine=False)
    caller = anybody.identify("ANY", address, OURS)
    assert (caller.is_this_machine, caller.is_known) == (False, False)
    with pytest.raises(NotAuthorised, match="may not query here"):
        anybody.require(caller, Right.FIND)


def test_a_remote_ae_on_this_machine_is_known_where_that_is_not_trusted(names):
    policy = AccessPolicy([RemoteAE("viewer", "VIEWER", "127.0.0.1")], trust_this_machine=False)
    policy.require(policy.identify("VIEWER", "127.0.0.1", OURS), Right.FIND)


@pytest.fixture
def policy(names):
    return AccessPolicy([CONSOLE, VIEWER, ROVER, SIXTH])


@pytest.mark.parametrize(
    ("title", "address", "remote"),
    [
        ("CONSOLE", "192.0.2.7", CONSOLE),
        ("CONSOLE", "::ffff:192.0.2.7", CONSOLE),
        ("CONSOLE", "192.0.2.8", None),
        ("console", "192.0.2.7", None),
        ("", "192.0.2.7", None),
        ("VIEWER", "192.0.2.8", VIEWER),
        ("VIEWER", "2001:db8::8", VIEWER),
        ("VIEWER", "2001:0db8:0::0008", VIEWER),
        ("VIEWER", "192.0.2.7", None),
        ("ROVER", "198.51.100.1", ROVER),
        ("SIX", "2001:db8::6", SIXTH),
        ("SIX", "2001:db8::6%eth0", SIXTH),
        ("STRANGER", "192.0.2.7", None),
    ],
)
def test_a_caller_is_its_ae_title_at_its_address(policy, title, address, remote):
    caller = policy.identify(title, address, OURS)
    assert caller.remote is remote
    assert not caller.is_this_machine
    assert caller.is_known == (remote is not None)
    assert caller.site == (remote.site if remote else "")


def test_one_ae_title_at_two_addresses(names):
    north = RemoteAE("north", "XRAY", "192.0.2.1", site="north")
    south = RemoteAE("south", "XRAY", "192.0.2.2", site="south")
    policy = AccessPolicy([north, south])
    assert policy.identify("XRAY", "192.0.2.2", OURS).site == "south"
    assert policy.identify("XRAY", "192.0.2.1", OURS).site == "north"


@pytest.mark.parametrize("address", ["127.0.0.1", "127.3.2.1", "::1", "::ffff:127.0.0.1"])
def test_this_machine(policy, address):
    caller = policy.identify("ANYONE", address, OURS)
    assert caller.is_this_machine
    assert caller.is_known
    policy.require(caller, Right.FIND)


@pytest.mark.parametrize(
    ("address", "called"),
    [(OURS, OURS), (f"::ffff:{OURS}", OURS), ("fe80::1", "fe80::1%eth0"), (OURS, f"::ffff:{OURS}")],
)
def test_this_machine_at_an_address_of_its_own(policy, address, called):
    assert policy.identify("ANYONE", address, called).is_this_machine
    assert not policy.identify("ANYONE", "192.0.2.200", called).is_this_machine


def test_who_may_query(policy):
    policy.require(policy.identify("CONSOLE", "192.0.2.7", OURS), Right.FIND)
    for title, address in (("CONSOLE", "192.0.2.8"), ("STRANGER", "192.0.2.7"), ("ROVER", "192.0.2.9")):
        with pytest.raises(NotAuthorised, match=f"'{title}' at {address} may not query here"):
            policy.require(policy.identify(title, address, OURS), Right.FIND)


def test_where_a_retrieve_may_go(policy):
    assert policy.move_destination("CONSOLE") is CONSOLE
    assert policy.move_destination("ROVER") is ROVER
    for title in ("VIEWER", "STRANGER", "", "console"):
        with pytest.raises(MoveDestinationUnknown):
            policy.move_destination(title)


@pytest.mark.parametrize(
    ("title", "address", "fix"),
    [
        ("CONSOLE", "192.0.2.8", "configured for another host"),
        ("STRANGER", "192.0.2.8", r"add a \[\[remote\]\]"),
        ("ROVER", "192.0.2.9", 'add "find" to services'),
    ],
)
def test_a_refusal_says_what_would_change_it(policy, title, address, fix):
    with pytest.raises(NotAuthorised) as refusal:
        policy.require(policy.identify(title, address, OURS), Right.FIND)
    assert re.search(fix, refusal.value.fix)


@pytest.mark.parametrize("host", ["gone.example", "x" * 70, "x..y"])
def test_a_name_that_has_no_address_is_nobody(monkeypatch, host):
    policy = AccessPolicy([RemoteAE("gone", "GONE", host)])
    monkeypatch.setattr(socket, "getaddrinfo", _refuse_or(host))
    assert policy.identify("GONE", "192.0.2.1", OURS).remote is None


def _refuse_or(host):
    def getaddrinfo(*_, **__):
        host.encode("idna")
        raise socket.gaierror(-2, "Name or service not known")

    return getaddrinfo


def test_a_name_is_asked_for_once_a_minute(policy, names, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    for _ in range(5):
        assert policy.identify("VIEWER", "192.0.2.8", OURS).remote is VIEWER
    assert names["asked"] == ["viewer.example"]
    names["viewer.example"] = ["192.0.2.99"]
    now[0] += 61
    assert policy.identify("VIEWER", "192.0.2.8", OURS).remote is None
    assert names["asked"] == ["viewer.example"] * 2


def test_while_dns_is_out_what_it_said_holds(policy, names, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    assert policy.identify("VIEWER", "192.0.2.8", OURS).remote is VIEWER
    del names["viewer.example"]
    now[0] += 61
    assert policy.identify("VIEWER", "192.0.2.8", OURS).remote is VIEWER


def test_only_the_named_one_is_asked_for(policy, names):
    policy.identify("STRANGER", "192.0.2.8", OURS)
    policy.identify("ROVER", "192.0.2.8", OURS)
    assert names["asked"] == []


@pytest.mark.parametrize(
    ("address", "plain"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::FFFF:c000:0201", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
    ],
)
def test_plain_addresses(address, plain):
    assert plain_address(address) == plain


def test_a_caller_cannot_forge_a_line_of_the_log(policy):
    caller = policy.identify("A\r\n2026 INFO all well\x1b[2J\u2028é", "192.0.2.1", OURS)
    assert str(caller).isascii()
    assert str(caller).isprintable()


@pytest.mark.parametrize(
    ("address", "peer"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:0:7:1::2", "2001:db8:0:7::"),
        ("2001:db8:0:7:ffff::9", "2001:db8:0:7::"),
        ("fe80::1%eth0", "fe80::"),
    ],
)
def test_who_has_one_address_of_an_ipv6_network_has_all(address, peer):
    assert peer_of(address) == peer
