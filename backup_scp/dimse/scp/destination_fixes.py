"""Say what to do about a Move Destination that did not take images."""

from __future__ import annotations

from backup_scp.dimse.messages.dimse_status import meaning_of
from backup_scp.errors import (
    BackupSCPError,
    DestinationUnreachable,
    InstanceRefused,
    InstanceUnconfirmed,
    NoRoom,
    NothingAccepted,
)
from backup_scp.ports import RemoteAE


def fix_of_destination(remote: RemoteAE, error: BackupSCPError) -> str:
    """Return what to do about the error with which a Move Destination did not take an image."""
    check = f"backup-scp check {remote.name}  tries to reach it"
    name = remote.ae_title
    if isinstance(error, DestinationUnreachable):
        return f"is {name} on, and does it listen at {remote.host} port {remote.port}?  {check}"
    if isinstance(error, NoRoom):
        return f"make room at {name}, then send the images again"
    if isinstance(error, InstanceUnconfirmed):
        return f"look into the log of {name}; {check}"
    if isinstance(error, NothingAccepted) or (isinstance(error, InstanceRefused) and not error.status):
        return f"{name} does not take such images: switch them on there, or choose another destination"
    if isinstance(error, InstanceRefused) and (meaning := meaning_of(error.status)):
        return f"{name} says: {meaning}. Look into its log"
    return check
