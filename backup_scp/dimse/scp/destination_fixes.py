"""Say what to do about a Move Destination that did not take images."""

from __future__ import annotations

import shlex

from backup_scp.dimse.messages.dimse_status import meaning_of
from backup_scp.errors import (
    BackupSCPError,
    InstanceRefused,
    InstanceUnconfirmed,
    NoRoom,
    NothingAccepted,
)
from backup_scp.ports import RemoteAE


def told_of_destination(remote: RemoteAE, error: BackupSCPError) -> tuple[str, str]:
    """Return why a Move Destination did not take an image, and what to do."""
    reason, _, fix = str(error).partition("; ")
    check = f"backup-scp check {shlex.quote(remote.name)}  tries to reach it"
    name = remote.ae_title
    if isinstance(error, NoRoom):
        return reason, f"make room at {name}, then send the images again"
    if isinstance(error, InstanceUnconfirmed):
        return reason, f"look into the log of {name}. {check}"
    if isinstance(error, NothingAccepted) or (isinstance(error, InstanceRefused) and not error.status):
        return reason, f"{name} does not take such images: switch them on there, or choose another destination"
    if isinstance(error, InstanceRefused) and (meaning := meaning_of(error.status)):
        return reason, f"{name} says: {meaning}. Look into its log"
    between = " " if fix.endswith("?") else ". "
    return reason, between.join(filter(None, (fix, check)))
