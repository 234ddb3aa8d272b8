"""Check the system around the node: disks, owners, ports; each test leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import stat
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from backup_scp.machine.addresses import EVERY_ADDRESS
from backup_scp.machine.folders import try_to_write
from backup_scp.node.opening import index_path, is_there
from backup_scp.node.run_record import NodeState
from backup_scp.node.settings import Settings

_MOST_FOLDERS = 1000  # folders to look at: the 256 of an archive and some studies; a disk with a cold cache is slow
_ROOT = 0
_ADMIN_FOLDERS = ("/usr/sbin", "/sbin")  # not in everybody's PATH
_FIREWALLS = (
    ("ufw", "sudo ufw allow {port}/tcp"),
    ("firewall-cmd", "sudo firewall-cmd --permanent --add-port={port}/tcp && sudo firewall-cmd --reload"),
    ("netsh", "netsh advfirewall firewall add rule name=backup-scp dir=in action=allow protocol=TCP localport={port}"),
)
_FIREWALL = "sudo nft list ruleset  shows whether it lets port {port} in"


def index_file(settings: Settings) -> Path | None:
    """Return the file of an SQLite index; None for a database server."""
    if not settings.index_is_embedded:
        return None
    return index_path(settings)


def why_not_writable(settings: Settings) -> str:
    """Return why the disk of the archive or of the index cannot be written now; empty when it can.

    It detects a read-only file system, a completely full one, and folders without permission.
    """
    file = index_file(settings)
    disks = [(settings.archive_path, "archive")] + ([(file.parent, "index")] if file else [])
    for folder, whose in disks:
        if reason := why_closed(folder):
            return f"The disk of the {whose} cannot be written: {reason} ({folder})"
    return ""


def why_closed(folder: Path) -> str:
    """Return why no file can be created in a folder, or in the parent where it will be created; else empty."""
    while not is_there(folder) and folder != folder.parent:
        folder = folder.parent
    try:
        try_to_write(folder)
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""


def closed_folders(settings: Settings, state: NodeState) -> list[str]:
    """List folders of the archive that belong to another user, so that the node cannot write into them."""
    user = _user_of_node(settings, state)
    if user is None or user == _ROOT:
        return []
    folders = islice(_folders(settings.archive_path), _MOST_FOLDERS)
    return [path for path, found in folders if found.st_uid != user and not _is_open_to_others(found)]


def _user_of_node(settings: Settings, state: NodeState) -> int | None:
    """Return the user of the running node; when none runs, the owner of the archive."""
    if sys.platform == "win32":
        return None
    if state.running and state.record is not None:
        return state.record.user
    with contextlib.suppress(OSError):
        return settings.archive_path.stat().st_uid
    return None


def _is_open_to_others(found: os.stat_result) -> bool:
    return bool(found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def _folders(archive: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Walk the two upper levels of an archive's folders, the first level first."""
    above: list[Path] = [archive]
    for _ in range(2):
        here, above = above, []
        for folder in here:
            with contextlib.suppress(OSError), os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        above.append(Path(entry.path))
                        yield entry.path, entry.stat(follow_symlinks=False)


def port_trouble(host: str, port: int) -> str:
    """Return why no listener can use a port; empty when one can.  It binds the port for a moment, without listening."""
    from backup_scp.dimse.association.listener import NOT_OPENED, why_not_open

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            if sys.platform != "win32":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host not in EVERY_ADDRESS))
            probe.bind((host, port))
    except NOT_OPENED as error:
        return why_not_open(host, port, error)
    return ""


def firewall_words(port: int) -> str:
    """Return the command that opens a port in the firewall that this computer has."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_ADMIN_FOLDERS))
    return next((words for tool, words in _FIREWALLS if shutil.which(tool, path=path)), _FIREWALL).format(port=port)


def log_trouble(settings: Settings) -> str:
    """Return why the log file cannot be written; empty when it can, or when there is none."""
    path = settings.log_path
    if path is None:
        return ""
    if is_there(path):
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_APPEND))
        except OSError as error:
            return f"[log] file: {path} cannot be written ({error.strerror}): choose another"
        return ""
    reason = why_closed(path.parent)
    return f"[log] file: {path} cannot be made ({reason}): choose another" if reason else ""
