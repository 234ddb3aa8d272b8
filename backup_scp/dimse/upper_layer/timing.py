"""How long the network may take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """How long the network may take.

    Attributes
    ----------
    connect_s
        TCP connection of our own associations, at each address that the host has.
    association_s
        ARTIM (PS3.8 9.1.5), and the answer to our own association requests.
    idle_s
        A peer that says nothing between messages.
    network_s
        A peer that stops in the middle of a message, or does not answer one.
    busy_s
        A remote AE that takes no further association for the moment.
    """

    connect_s: float = 10.0
    association_s: float = 30.0
    idle_s: float = 600.0
    network_s: float = 60.0
    busy_s: float = 10.0
