"""Say of each copy where it is, how old it is, and what to type to get everything back from it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from backup_scp.machine.readable import count, duration, moment, size
from backup_scp.node.settings import CopySettings
from backup_scp.ports import CopyState, DrillResult

_ORDER = ("file", "rclone", "s3", "dicomweb", "dicom")
"""The kinds of places, the quickest first."""


@dataclass(frozen=True, slots=True)
class PlanCopy:
    """A copy in the plan.

    Attributes
    ----------
    name
        In the settings.
    place
        Where it is, in words.
    is_off_site
        Whether a fire in the building leaves it.
    is_sealed
        Whether the recovery key is needed.
    holds
        What it has, and how old that is, in a sentence for each drive.
    command
        What to type on the new computer.
    needs
        What must be at hand for it.
    drill
        The last drill, in a sentence; empty without one.
    proved_at
        When a drill has proved last that it comes back; null when none has.
    everything_s
        Seconds until everything is back, from that drill; null when it is not known.
    """

    name: str
    place: str
    is_off_site: bool
    is_sealed: bool
    holds: tuple[str, ...]
    command: str
    needs: tuple[str, ...]
    drill: str
    proved_at: datetime | None
    everything_s: float | None


def plan_copies(
    copies: Sequence[CopySettings], states: Sequence[CopyState], drills: Sequence[DrillResult]
) -> tuple[PlanCopy, ...]:
    """Return the copies in the order in which to try them: those that need no network first."""
    in_order = sorted(copies, key=lambda copy: _ORDER.index(_kind(copy)))
    return tuple(
        _planned(
            copy,
            [state for state in states if state.name == copy.name],
            [result for result in drills if result.copy == copy.name],
        )
        for copy in in_order
    )


def _kind(copy: CopySettings) -> str:
    return copy.url.partition(":")[0].partition("+")[0]


def _planned(copy: CopySettings, states: Sequence[CopyState], drills: Sequence[DrillResult]) -> PlanCopy:
    last = max(drills, key=lambda result: result.ended_at, default=None)
    proved = max(
        (result for result in drills if result.passed and result.came_back),
        key=lambda result: result.ended_at,
        default=None,
    )
    return PlanCopy(
        name=copy.name,
        place=_place(copy),
        is_off_site=copy.is_off_site,
        is_sealed=bool(copy.encrypt),
        holds=tuple(map(_holds, states)) or ("It was never reached",),
        command=_command(copy),
        needs=tuple(_needs(copy)),
        drill=_drill(last) if last else "",
        proved_at=proved.ended_at if proved else None,
        everything_s=proved.everything_s if proved else None,
    )


def _place(copy: CopySettings) -> str:
    where = copy.url.partition("://")[2] or copy.url
    return {
        "file": f"external drive, mounted at {where}",
        "s3": f"bucket {where}" + (f" at {copy.endpoint}" if copy.endpoint else " at AWS"),
        "rclone": f"cloud storage, {copy.url}",
        "dicom": f"PACS {where}",
        "dicomweb": f"PACS {where}",
    }[_kind(copy)]


def _holds(state: CopyState) -> str:
    who = f"drive {state.label or state.medium}: " if state.medium else ""
    complete = f"everything until {moment(state.complete_at)}" if state.complete_at else "not everything yet"
    due = f"; {count(state.due, 'image')} not there" if state.due else ""
    return f"{who}{count(state.held, 'image')}, {size(state.held_bytes)}, {complete}{due}"


def _drill(result: DrillResult) -> str:
    if not result.passed:
        return f"{moment(result.ended_at)}: FAILED with {count(result.problem_count, 'problem')}"
    if result.compared:
        return f"{moment(result.ended_at)}: {count(result.compared, 'image')} intact, but sealed: tried without the key"
    took = f"; everything takes about {duration(result.everything_s)}" if result.everything_s is not None else ""
    return f"{moment(result.ended_at)}: {count(result.came_back, 'image')} came back, byte for byte{took}"


def _command(copy: CopySettings) -> str:
    kind = _kind(copy)
    source = copy.url.removeprefix("dicom://")
    if kind == "file":
        source = source.removeprefix("file://").replace("*", "DRIVE")
    words = ["backup-scp", "recover", shlex.quote(source)]
    if kind == "s3":
        words += ["--endpoint", copy.endpoint] if copy.endpoint else []
        words += ["--region", copy.region] if copy.region else []
        words += ["--access-key", "ID", "--secret-key-file", "FILE"]
    if kind == "rclone":
        words += ["--rclone-config", "FILE"]
    if copy.encrypt:
        words += ["--key", "FILE"]
    return " ".join(words)


def _needs(copy: CopySettings) -> Iterator[str]:
    kind = _kind(copy)
    if kind == "file":
        yield "the drive"
        if "*" in copy.url:
            yield "for DRIVE the folder at which the computer shows it"
    if kind == "s3":
        yield "access key and secret key of the bucket"
    if kind == "rclone":
        yield "rclone.conf, or the login of the cloud account"
    if kind in {"dicom", "dicomweb"}:
        yield "somebody at the other PACS who lets the new computer in"
    if copy.encrypt:
        yield "the recovery key, on paper in its envelope"
