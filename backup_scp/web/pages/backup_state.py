"""The state of the backup: what ``backup-scp status --json`` prints, as far as the pages show it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Struct

from backup_scp.ports import CopyState, DrillResult, Holdings, OwedReports, Rejection, Task
from backup_scp.watch.alert_state import SentAlert
from backup_scp.watch.forecast import Forecast

# They need a person as the others do; but here images are lost, or cannot come in.
_AT_ONCE = frozenset({"changes", "damage", "index", "maintenance", "node", "owner", "recovery", "refused", "storing"})


class Sign(StrEnum):
    """What is seen from across the room."""

    WELL = "well"
    SOON = "soon"  # somebody must act, and no image is lost or refused
    NOW = "now"


class StateFinding(Struct, frozen=True):
    """A problem, or a note; see ``Finding`` in ``docs/cli.md``."""

    what: str
    severity: str
    sentence: str
    fix: str = ""
    can_wait: bool = False
    aspect: str = ""
    subject: str = ""

    @property
    def sign(self) -> Sign:
        """How urgent it is."""
        if self.severity != "act":
            return Sign.WELL
        return Sign.NOW if self.what in _AT_ONCE and not self.can_wait else Sign.SOON


class StateMaintenance(Struct, frozen=True):
    """The thread that looks after the archive."""

    alive: bool = True
    active_at: datetime | None = None


class StateCertificate(Struct, frozen=True):
    """The certificates of one section of the settings."""

    section: str
    ends_at: datetime | None


class StateRecord(Struct, frozen=True):
    """The run of the node."""

    version: str
    since: datetime
    ae_title: str
    web_trouble: str = ""
    process: int | None = None
    listening: bool = True
    maintenance: StateMaintenance = StateMaintenance()


class StateNode(Struct, frozen=True):
    """Whether the node runs."""

    running: bool
    record: StateRecord | None = None


class BackupState(Struct, frozen=True):
    """The state of the backup at one moment; see ``status`` in ``docs/cli.md``."""

    ae_title: str
    node: StateNode
    findings: list[StateFinding]
    index_trouble: str = ""
    holdings: Holdings | None = None
    free_bytes: int | None = None
    forecast: Forecast | None = None
    refusing: str = ""
    rejections: list[Rejection] = []
    tasks: dict[str, Task] = {}
    copies: list[CopyState] = []
    drills: list[DrillResult] = []
    commitments: list[OwedReports] = []
    certificates: list[StateCertificate] = []
    told: list[SentAlert] = []

    @property
    def sign(self) -> Sign:
        """The most urgent sign of all findings."""
        signs = {finding.sign for finding in self.findings}
        return next((sign for sign in (Sign.NOW, Sign.SOON) if sign in signs), Sign.WELL)

    @property
    def to_do(self) -> list[StateFinding]:
        """What a person must do, the most urgent first."""
        order = (Sign.NOW, Sign.SOON)
        return sorted(
            (one for one in self.findings if one.sign is not Sign.WELL), key=lambda one: order.index(one.sign)
        )

    @property
    def notes(self) -> list[StateFinding]:
        """What a person may want to look at; not what was refused."""
        return [one for one in self.findings if one.sign is Sign.WELL and one.what != "refused"]

    @property
    def refused(self) -> list[StateFinding]:
        """What was refused, with the fix."""
        return [one for one in self.findings if one.what == "refused"]


def state_of(status: Any) -> BackupState:
    """Read the object that ``status --json`` prints."""
    return msgspec.convert(msgspec.to_builtins(status, builtin_types=(datetime,)), BackupState)
