"""What a started node reports to the user who started it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from backup_scp.machine.addresses import console_addresses
from backup_scp.node.accounts_setup import first_link
from backup_scp.node.node import Node
from backup_scp.node.run_record import RunRecord
from backup_scp.node.settings import Settings


@dataclass(frozen=True, slots=True)
class Ready:
    """What the started node reports.

    Attributes
    ----------
    record
        Start, addresses and AE title of this run.
    addresses
        Addresses of this computer at which consoles reach it; empty when no other computer can.
    archive
        The folder of the images.
    index
        ``SQLite`` or ``PostgreSQL``.
    remarks
        Notes that need no action.
    troubles
        Why nothing can be stored now; empty when the node can store.
    first_link
        Where the first administrator is made, once, within an hour; empty when there is one, or only this computer
        reaches the page.
    """

    record: RunRecord
    addresses: list[str]
    archive: str
    index: str
    remarks: list[str]
    troubles: list[str]
    first_link: str = ""


class Teller(Protocol):
    """Reports to the user who started the node."""

    def ready(self, ready: Ready) -> None:
        """Report that the node serves from now on."""

    def stopping(self) -> None:
        """Report that the node was told to stop."""

    def stopped(self) -> None:
        """Report that the node has ended."""


def ready(settings: Settings, node: Node, record: RunRecord) -> Ready:
    """Return what the node reports when it serves."""
    return Ready(
        record=record,
        addresses=console_addresses(settings.node.host),
        archive=str(settings.archive_path),
        index="SQLite" if settings.index_is_embedded else "PostgreSQL",
        remarks=list(node.remarks),
        troubles=list(node.troubles),
        first_link=first_link(settings, urlsplit(record.web_address).port or 0) if record.web_address else "",
    )
