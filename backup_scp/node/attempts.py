"""Try a device or a copy of the settings in a process of its own, which can be ended when a drive or server hangs."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import suppress
from typing import Literal

import msgspec
from msgspec import Struct

from backup_scp.errors import BackupSCPError, DestinationUnavailable, ResourceLimitation, Unavailable
from backup_scp.node.copy_places import open_place
from backup_scp.node.copy_setup import chosen
from backup_scp.node.health.finding import Severity
from backup_scp.node.health.remote_checks import check_remote
from backup_scp.node.opening import OpenStores
from backup_scp.node.place_check import check_place
from backup_scp.node.settings import Settings
from backup_scp.ports import PlaceAnswer

MODULE = "backup_scp.cli.attempt"
LONGEST_S = 90.0
_KILLED_S = 2.0
_places = threading.BoundedSemaphore(2)


class Attempt(Struct, frozen=True):
    """What such a process reads.

    Attributes
    ----------
    settings
        All settings, as they are in the file.
    kind
        ``remote``: C-ECHO.  ``copy``: what ``copies check`` does.  ``place``: whether the settings of a copy can be
        used; nothing is reached.
    name
        Of the ``[[remote]]`` or ``[[copy]]``.
    """

    settings: Settings
    kind: Literal["remote", "copy", "place"]
    name: str


def carry_out(attempt: Attempt) -> list[PlaceAnswer]:
    """Try it in this process; may hang as long as a drive does.

    Raises
    ------
    BackupSCPError
    """
    settings, name = attempt.settings, attempt.name
    if attempt.kind == "copy":
        return check_place(settings, name)
    if attempt.kind == "place":
        with suppress(Unavailable), OpenStores(settings, create=True) as storage:  # a database that does not answer
            for copy in chosen(settings, name):
                open_place(settings, copy, storage.index)
        return []
    found = [one for remote in settings.remotes if remote.name == name for one in check_remote(settings, remote)]
    steps = {f"remote {name}": "C-ECHO"}
    return [
        PlaceAnswer(steps.get(one.what, one.what), one.sentence, one.severity is not Severity.ACT, one.fix)
        for one in found
    ]


def run(attempt: Attempt, longest_s: float = LONGEST_S) -> list[PlaceAnswer]:
    """Try it in a process of its own.

    Raises
    ------
    ResourceLimitation
        Two others are being tried.
    DestinationUnavailable
        There was no result in this time.
    """
    if not _places.acquire(blocking=False):
        raise ResourceLimitation("Two others are being tried just now: wait a moment")
    try:
        return _answers(attempt, longest_s)
    finally:
        _places.release()


def _answers(attempt: Attempt, longest_s: float) -> list[PlaceAnswer]:
    process = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-m", MODULE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        output, _ = process.communicate(msgspec.json.encode(attempt, enc_hook=str), longest_s)
        return msgspec.json.decode(output, type=list[PlaceAnswer])
    except subprocess.TimeoutExpired:
        raise DestinationUnavailable(f"No answer within {longest_s:g} s") from None
    except msgspec.MsgspecError:
        raise DestinationUnavailable(f"The test ended with exit code {process.returncode}, without a result") from None
    finally:
        process.kill()
        with suppress(subprocess.TimeoutExpired):  # a drive that hangs holds the process
            process.wait(_KILLED_S)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def answered(attempt: Attempt) -> list[PlaceAnswer]:
    """Try it in this process; an error is an answer as well."""
    try:
        return carry_out(attempt)
    except BackupSCPError as error:
        return [PlaceAnswer("Can it be used?", str(error), is_well=False)]
