"""The addresses that a technician enters at a console."""

from __future__ import annotations

import socket

import pytest

from backup_scp.machine import addresses
from backup_scp.machine.addresses import console_addresses
from tests.system.network_namespace import OtherMachine

ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""
ADDRESSES = """Main:
     |-- 172.17.0.1
        /32 host LOCAL
     |-- 192.168.1.0
        /24 link UNICAST
     |-- 192.168.1.10
        /32 host LOCAL
Local:
     |-- 127.0.0.1
        /32 host LOCAL
     |-- 192.168.1.10
        /32 host LOCAL
     |-- 192.168.1.11
        /32 host LOCAL
"""
INTERFACES = """00000000000000000000000000000001 01 80 10 80       lo
fe8000000000000000fc00fffe000001 04 40 20 80     eth0
20010db8000000000000000000000002 04 40 00 82     eth0
20010db8000000010000000000000002 05 40 00 82  docker0
"""


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_nobody_else_reaches_a_loopback_address(host):
    assert console_addresses(host) == []


def test_one_address_is_itself():
    assert console_addresses("192.0.2.7") == ["192.0.2.7"]


def test_a_host_that_is_none_has_none():
    assert console_addresses("no-such-host.invalid") == []


def test_every_address_of_another_machine():
    """In a network namespace, where only its own interface is."""
    machine = OtherMachine()
    try:
        machine.connect()
        with machine.there():
            assert console_addresses("0.0.0.0") == [machine.address]
    finally:
        machine.disconnect()


@pytest.fixture
def proc(tmp_path, monkeypatch):
    for name, text in {"route": ROUTES, "fib_trie": ADDRESSES, "if_inet6": INTERFACES}.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(addresses, "_PROC", tmp_path)
    monkeypatch.setattr(addresses, "_outward_address", lambda: "192.168.1.11")
    return tmp_path


def test_the_one_that_leads_outward_comes_first_and_bridges_to_containers_are_left_out(proc):
    assert console_addresses("0.0.0.0") == ["192.168.1.11", "192.168.1.10"]


def test_with_ipv6(proc):
    assert console_addresses("::") == ["192.168.1.11", "192.168.1.10", "2001:db8::2"]


def test_a_system_that_is_not_linux_is_asked_for_its_own_name(proc, monkeypatch):
    for file in proc.iterdir():
        file.unlink()
    monkeypatch.setattr(socket, "gethostname", lambda: "192.0.2.9")
    assert console_addresses("0.0.0.0") == ["192.168.1.11", "192.0.2.9"]
