"""Read addresses and networks, IPv4 within IPv6 (``::ffff:a.b.c.d``) as IPv4."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


@lru_cache(maxsize=1024)
def address_of(text: str) -> Address:
    """Read an address without its zone (``%eth0``)."""
    parsed = ipaddress.ip_address(text.partition("%")[0])
    return getattr(parsed, "ipv4_mapped", None) or parsed


@lru_cache(maxsize=1024)
def network_of(text: str) -> Network:
    """Read an address or network.

    Raises
    ------
    ValueError
        It is neither.
    """
    network = ipaddress.ip_network(text, strict=False)
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        within = int(network.network_address) & 0xFFFFFFFF
        return ipaddress.IPv4Network((within, network.prefixlen - _MAPPED.prefixlen))
    return network
