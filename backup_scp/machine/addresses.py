"""List the network addresses of this machine, as a technician enters them at a console."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
from collections.abc import Iterable
from pathlib import Path

EVERY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - only compared with
"""Values of ``host`` that mean every address of this machine."""

_PROC = Path("/proc/thread-self/net")
_IN_CONTAINER = (Path("/.dockerenv"), Path("/run/.containerenv"))
_ELSEWHERE = "192.0.2.1"  # RFC 5737: an unused address; connecting a datagram socket sends nothing
_OF_CONTAINERS = re.compile(r"(docker|br-|veth|virbr|podman|cni|lxc|lxd)")
_LOCAL_ADDRESS = re.compile(r"\|-- (?P<address>[0-9.]+)\n\s+/32 host LOCAL")


def console_addresses(host: str) -> list[str]:
    """List the addresses at which other computers reach a listener on ``host``; the likeliest first.

    Returns
    -------
    list of str
        Empty when only this machine can reach it.
    """
    found = _own_addresses(with_ipv6=host == "::") if host in EVERY_ADDRESS else _resolved(host)
    return [address for address in found if not _is_of_this_machine_alone(address)]


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine under its own loopback address, so that nothing leaves it."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return host.lower() == "localhost"


def is_address(host: str) -> bool:
    """Tell whether a host is an IP address, not a name."""
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host)
        return True
    return False


def is_container() -> bool:
    """Tell whether this process runs in a container, whose addresses no console can reach."""
    return any(path.exists() for path in _IN_CONTAINER)


def _own_addresses(*, with_ipv6: bool) -> list[str]:
    listed = _listed_by_linux(with_ipv6=with_ipv6) or _resolved(socket.gethostname(), only_ipv4=not with_ipv6)
    outward = _outward_address()
    return _distinct([*([outward] if outward else []), *listed])


def _outward_address() -> str | None:
    """Return the source address that this machine uses to call a distant host."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((_ELSEWHERE, 9))
        return str(probe.getsockname()[0])
    return None


def _listed_by_linux(*, with_ipv6: bool) -> list[str]:
    """Read the addresses of Linux' interfaces, without bridges to containers."""
    found: list[str] = []
    with contextlib.suppress(OSError):
        inner = _networks_of_containers((_PROC / "route").read_text())
        local = _LOCAL_ADDRESS.findall((_PROC / "fib_trie").read_text())
        found += [address for address in local if not any(ipaddress.ip_address(address) in net for net in inner)]
    if with_ipv6:
        with contextlib.suppress(OSError):
            found += _global_ipv6((_PROC / "if_inet6").read_text())
    return found


def _networks_of_containers(routes: str) -> list[ipaddress.IPv4Network]:
    networks = []
    for line in routes.splitlines()[1:]:
        interface, destination, _, _, _, _, _, mask, *_ = line.split()
        if _OF_CONTAINERS.match(interface) and int(mask, 16):
            networks.append(ipaddress.IPv4Network((_network_order(destination), str(_dotted(mask))), strict=False))
    return networks


def _network_order(hexadecimal: str) -> bytes:
    return bytes.fromhex(hexadecimal)[::-1]  # Linux prints the address as a little-endian word


def _dotted(hexadecimal: str) -> ipaddress.IPv4Address:
    return ipaddress.IPv4Address(_network_order(hexadecimal))


def _global_ipv6(interfaces: str) -> list[str]:
    return [
        str(ipaddress.IPv6Address(bytes.fromhex(digits)))
        for digits, _, _, scope, _, name in map(str.split, interfaces.splitlines())
        if scope == "00" and not _OF_CONTAINERS.match(name)
    ]


def _resolved(host: str, *, only_ipv4: bool = False) -> list[str]:
    family = socket.AF_INET if only_ipv4 else socket.AF_UNSPEC
    with contextlib.suppress(OSError, UnicodeError):
        entries = socket.getaddrinfo(host, None, family, socket.SOCK_STREAM)
        return _distinct(str(entry[4][0]).partition("%")[0] for entry in entries)
    return []


def _is_of_this_machine_alone(address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    # Keep 169.254.x.x: a console may be connected by a direct cable.  Drop fe80::, which needs an interface's name.
    return parsed.is_loopback or parsed.is_unspecified or (parsed.version == 6 and parsed.is_link_local)


def _distinct(addresses: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(addresses))
