"""Read the settings for a command, and act as the owner of the archive that they name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backup_scp.node.settings import Settings


def open_settings(file: Path | None, *, creates: bool = False, logs: bool = True) -> Settings:
    """Read the settings, act as the archive's owner, and start the log.

    Parameters
    ----------
    file
        As the command line names it; None for the environment's or the system's.
    creates
        Whether the command may create an archive, which then belongs to the owner of the folder of all data.
    logs
        Whether the command may write to the log file.

    Raises
    ------
    InvalidSettings
    NotOwner
        Archive and index belong to two users, or to a user that root cannot become.
    """
    from backup_scp.cli.log import configure
    from backup_scp.node.settings import find_file, load

    settings = load(find_file(file))
    _act_as_owner(settings, creates=creates)
    if logs:
        configure(settings, daemon=False)
    return settings


def _act_as_owner(settings: Settings, *, creates: bool) -> None:
    """Change from root to the archive's owner (ADR 0026), so that the node can use files that this command creates."""
    from backup_scp.machine.ownership import become, our_uid

    if our_uid() != 0:
        return
    from backup_scp.node.opening import foreign_owner, is_there, not_owner

    # When the archive's folder exists and is still empty, every command creates an index beside it.
    owner = foreign_owner(settings, of_home=creates or is_there(settings.archive_path))
    if owner is not None and not become(owner):
        raise not_owner(owner)
