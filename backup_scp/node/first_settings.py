"""What ``setup`` finds on this machine, and checks of an answer before it becomes a setting."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from backup_scp.errors import BackupSCPError, InvalidSettings
from backup_scp.machine.addresses import console_addresses, is_container
from backup_scp.machine.disks import Disk, disks, existing, is_network_share
from backup_scp.machine.ownership import our_uid
from backup_scp.machine.readable import size
from backup_scp.node.health.surroundings import port_trouble, why_closed
from backup_scp.node.opening import index_path, open_archive
from backup_scp.node.reloading import RELOAD, RESTART, changed, require_live
from backup_scp.node.run_record import NodeState, look
from backup_scp.node.settings import DEFAULT_HOME, SYSTEM_FILE, Settings, file_in_home, find_file
from backup_scp.node.settings.known import CONFIG, HOME
from backup_scp.node.settings.values import require_path

SERVICE_HOME = Path("/var/lib/backup-scp")
"""The folder of all data of the systemd service: its unit sets it, whatever the settings say."""

SERVICE = "backup-scp"
"""The name of the service, of its user and of that user's group."""

_UNITS = (Path("/etc/systemd/system"), Path("/usr/lib/systemd/system"), Path("/lib/systemd/system"))
_LEAST_BYTES = 2_000_000_000  # twice what the archive keeps free
_FORMS = {
    "ntfy": re.compile(r"(.*\.)?ntfy\..+"),
    "teams": re.compile(r".*\.(office|azure|powerplatform)\.com"),
    "slack": re.compile(r"hooks\.slack\.com"),
}


def settings_file(named: Path | None, environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return the file that ``setup`` writes; None when it lies in the folder of all data, which nobody has named.

    Raises
    ------
    InvalidSettings
        The environment wants no settings file.
    """
    if named is None and environment.get(CONFIG) == "":
        raise InvalidSettings(f"The variable {CONFIG} is set and empty, so the node reads no settings file: unset it")
    if (file := find_file(named, environment)) is not None:
        return file.absolute()
    if environment.get(HOME):
        return file_in_home(environment)
    return SYSTEM_FILE if our_uid() == 0 else None


def default_home() -> Path:
    """Return the folder of all data of a node for which nobody has named one."""
    return SERVICE_HOME if our_uid() == 0 else Path(DEFAULT_HOME).absolute()


def is_service() -> bool:
    """Tell whether the node is installed as a service of systemd."""
    return any((folder / f"{SERVICE}.service").is_file() for folder in _UNITS)


def has_images(settings: Settings) -> bool:
    """Tell whether there is an archive or an index already, which other settings would leave behind."""
    if settings.index_is_embedded and index_path(settings).exists():
        return True
    try:
        return settings.archive_path.exists() and next(open_archive(settings).locations(), None) is not None
    except BackupSCPError:
        return True  # something is there, and cannot be read


def folder_for_images(answer: str, *, has_index: bool) -> Path:
    """Return the folder that was named; on the top of a disk a folder there.

    Parameters
    ----------
    has_index
        Whether the index will be there too.

    Raises
    ------
    InvalidSettings
        It cannot be used; the text says why.
    """
    folder = _folder(answer)
    if why := why_closed(folder):
        raise InvalidSettings(
            f"Nothing can be written in {folder} ({why}): name another folder, or give yourself the right"
        )
    if has_index and is_network_share(folder):
        raise InvalidSettings(
            f"{folder} is on a share of another computer, where the index would be damaged: name a folder on a "
            "disk of this computer. Images alone may be there: url of [archive] in the settings file"
        )
    free = shutil.disk_usage(existing(folder)).free
    if free < _LEAST_BYTES:
        raise InvalidSettings(f"Only {size(free)} are free there: name a folder on another disk")
    return folder


def folder_for_copy(answer: str, settings: Settings) -> Path:
    """Return the folder that was named for a copy; on the top of a drive a folder there.

    Raises
    ------
    InvalidSettings
        It cannot be used; the text says why.
    """
    from backup_scp.copies.drive.drive_marker import shared_disk

    folder = _folder(answer)
    try:
        if not folder.parent.is_dir():
            raise InvalidSettings(f"There is no folder {folder.parent}: connect the drive, or press Enter")
        reason = shared_disk(folder, existing(settings.archive_path))
    except OSError as error:
        raise InvalidSettings(
            f"{folder} cannot be read ({error.strerror}): connect the drive, or press Enter"
        ) from None
    if reason:
        raise InvalidSettings(f"{folder} is on {reason}: a copy there would be lost with it. Is the drive mounted?")
    return folder


def _folder(answer: str) -> Path:
    require_path(answer, "The folder")
    with suppress(RuntimeError):  # ~nobody
        folder = Path(os.path.abspath(Path(answer).expanduser()))  # noqa: PTH100 - without what .. leads to
        if folder.exists() and not folder.is_dir():
            raise InvalidSettings(f"{folder} is a file: name a folder")
        return folder / SERVICE if os.path.ismount(folder) else folder
    raise InvalidSettings(f"{answer}: there is no such user")


def drives(settings: Settings) -> list[Disk]:
    """Return the disks on which neither the system nor the images are."""
    own = {Path("/").stat().st_dev}
    with suppress(OSError):
        own.add(existing(settings.archive_path).stat().st_dev)
    return [disk for disk in disks() if disk.device not in own]


def port_number(answer: str) -> int:
    """Return the number that was written.

    Raises
    ------
    InvalidSettings
    """
    if not (answer.isascii() and answer.isdigit() and 0 < int(answer[:6]) < 65536):
        raise InvalidSettings("Write a whole number from 1 to 65535")
    return int(answer)


def port_of(answer: str, settings: Settings, state: NodeState) -> int:
    """Return the port that was named, which is free, or is the running node's own.

    Raises
    ------
    InvalidSettings
    """
    port = port_number(answer)
    is_ours = state.running and state.record is not None and port in {state.record.port, state.record.tls_port}
    if not is_ours and (trouble := port_trouble(settings.node.host, port)):
        raise InvalidSettings(trouble)
    return port


def running(settings: Settings) -> NodeState:
    """Tell whether a node runs on the folder of the settings."""
    return look(settings.home)


def webhook_form(url: str) -> str:
    """Return the form of messages that a webhook probably wants, by its host."""
    host = urlsplit(url).hostname or ""
    return next((form for form, pattern in _FORMS.items() if pattern.fullmatch(host)), "json")


def where_to_send(settings: Settings) -> Sequence[str]:
    """Return the three things to type at a console: AE title, address and port."""
    node = settings.node
    addresses = console_addresses(node.host)
    address = " or ".join(addresses) or "(other computers cannot reach this one: set host in [node])"
    if addresses and is_container():
        address = "that of the computer around this container"
    port = f"{node.port}" if node.plain else f"{settings.tls.port}, with TLS"
    return node.ae_title, address, port


def give_to_service(file: Path) -> None:
    """Let the service's group read a new file of root, where there is such a group; others cannot."""
    if sys.platform == "win32" or our_uid() != 0:
        return
    import grp

    with suppress(KeyError, OSError):
        os.chown(file, -1, grp.getgrnam(SERVICE).gr_gid)


def words_for_start(before: Settings, after: Settings, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return what to type so that a node uses the settings."""
    if running(before).running:
        try:
            require_live(before, after)
        except InvalidSettings:
            return [f"A node runs here with other settings: {RESTART}"]
        return [f"A node runs here: {RELOAD}"] if changed(before, after) else []
    if after.home == SERVICE_HOME and is_service():
        return [*_words_for_folder(after), f"Start the node: sudo systemctl enable --now {SERVICE}"]
    file = after.file
    found = find_file(None, environment)
    is_found = file is None or (found is not None and found.absolute() == file)
    return [f"Start the node: backup-scp {'' if is_found else f'--config {shlex.quote(str(file))} '}serve"]


def _words_for_folder(settings: Settings) -> list[str]:
    """Return how the service gets a folder outside of its own."""
    folder = settings.archive_path
    if folder.is_relative_to(settings.home):
        return []
    quoted = shlex.quote(str(folder))
    line = f"ReadWritePaths={quoted.replace('%', '%%')}"
    return [
        f"Give the folder to the service: sudo install -d -m 0700 -o {SERVICE} -g {SERVICE} {quoted}",
        f"Let it write there: sudo systemctl edit {SERVICE}, with two lines: [Service], {line}",
    ]
