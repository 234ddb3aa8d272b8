"""Timeouts of the network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """How long the network may take.

    Attributes
    ----------
    connect_s
        For the TCP connection of our own Associations, at each address of the host.
    association_s
        For ARTIM (PS3.8 9.1.5), and for the answer to our own A-ASSOCIATE-RQ.
    idle_s
        For a peer that is silent between messages.
    network_s
        For a peer that stops within a message, or does not answer one.
    busy_s
        For a remote AE that rejects further Associations as transient.
    """

    connect_s: float = 10.0
    association_s: float = 30.0
    idle_s: float = 600.0
    network_s: float = 60.0
    busy_s: float = 10.0
