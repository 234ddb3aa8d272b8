"""backup-scp check."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from backup_scp import clock
from backup_scp.cli.options import ConfigOption, JSONOption, settings_of
from backup_scp.cli.output import count, expected, moment, print_json, say, size
from backup_scp.errors import ArchiveFull, BackupSCPError, NoArchive, NotOwner

if TYPE_CHECKING:
    from backup_scp.ports import Archive, Index, RemoteAE
    from backup_scp.settings import Settings

_LOW_BYTES = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked; its sentence holds the fix where it is not well."""

    what: str
    ok: bool
    sentence: str


def check(context: typer.Context, json: JSONOption = False, config: ConfigOption = None) -> None:
    """Check settings, archive, index and remote AEs; say what to fix.

    Writes a few bytes to the archive and takes them away again. Exit code 1 when anything is not well.
    """
    settings = settings_of(context, config)
    findings = []
    for finding in _findings(settings):
        findings.append(finding)
        if not json:
            say(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.what}: {finding.sentence}")
    if json:
        print_json(findings)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def _findings(settings: Settings) -> Iterator[Finding]:
    node = settings.node
    port = f"port {node.port}" if node.plain else f"port {settings.tls.port} with TLS"
    yield Finding("settings", True, f"AE title {node.ae_title}, {port}, data in {settings.home}")
    from backup_scp.storage import require_archive, require_owner

    try:
        require_owner(settings)
        require_archive(settings)
    except (NoArchive, NotOwner) as error:
        yield Finding("archive", False, str(error))
    else:
        yield from _storage(settings)
        yield from _commitments(settings)
    for remote in settings.remotes:
        yield _remote(settings, remote)


def _storage(settings: Settings) -> Iterator[Finding]:
    from backup_scp.storage import Storage, open_archive

    with ExitStack() as stack:
        try:
            storage = stack.enter_context(Storage(settings))
            holdings = storage.index.holdings()
        except BackupSCPError as error:
            archive, index = open_archive(settings), None
            about_index = Finding("index", False, str(error))
        else:
            archive, index = storage.archive, storage.index
            knows = f"knows {holdings.versions} versions of {holdings.instances} SOP Instances"
            about_index = Finding("index", True, knows)
        yield _archive(settings, archive, index)
        yield _free(settings, archive, index)
        yield about_index
        if index and (too_few := index.too_few_connections(settings.node.workers)):
            yield Finding("connections", False, too_few)


def _archive(settings: Settings, archive: Archive, index: Index | None) -> Finding:
    """Write a few bytes, and see that the disk keeps them."""
    from backup_scp.custody import Custody
    from backup_scp.ports import Heading

    try:
        if index and not index.is_empty():  # else there is nothing yet that it could be the archive of
            Custody(archive, index).require_own()
        archive.distrust("It was not tried yet")
        staged = archive.stage(Heading("", "", "1.2.840.10008.1.2"))
        try:
            staged.write(b"check")
        finally:
            staged.discard()
        trouble = index.archive_trouble() if index else None
    except BackupSCPError as error:
        return Finding("archive", False, f"{error}; {_remedy(error, settings)}")
    if trouble is not None and trouble.ended_at is None:
        remedy = "the node tries again with the next image; look at the drive (smartctl, cables)"
        return Finding("archive", False, f"{trouble.sentence} at {moment(trouble.began_at)}; {remedy}")
    return Finding("archive", True, f"{settings.archive_path} can be written")


def _remedy(error: BackupSCPError, settings: Settings) -> str:
    if isinstance(error, ArchiveFull):
        return f"make room on the disk of {settings.archive_path}, or move the archive to a larger one"
    return (
        f"check that {settings.archive_path} is there and can be written. If this archive is to take the place of "
        "the one that the index knows, run backup-scp rebuild"
    )


def _free(settings: Settings, archive: Archive, index: Index | None) -> Finding:
    from backup_scp.forecast import forecast

    now = clock.now()
    try:
        free_bytes = archive.free_bytes()
        ahead = forecast(index, free_bytes, settings.archive.reserve_bytes, now) if index else None
    except BackupSCPError as error:
        return Finding("free disk", False, f"{error}; check that {settings.archive_path} is on a connected disk")
    if free_bytes < max(_LOW_BYTES, settings.archive.reserve_bytes):
        return Finding("free disk", False, f"only {size(free_bytes)} left: make room, or move the archive")
    said = f"{size(free_bytes)} left" + (f", {expected(ahead)}" if ahead else "")
    if ahead and ahead.is_near(now.date()):
        return Finding("free disk", False, f"{said}: make room, or move the archive")
    return Finding("free disk", True, said)


def _commitments(settings: Settings) -> Iterator[Finding]:
    """Tell of each requester whose Storage Commitment report could not be delivered."""
    from backup_scp.storage import open_index

    try:
        index = open_index(settings)
        try:
            owed = index.commitments.owed()
        finally:
            index.close()
    except BackupSCPError:
        return  # the index has been found to be unwell
    for one in owed:
        if one.error:
            number = count(one.owed + one.given_up, "report")
            yield Finding(f"commitment {one.requester.ae_title}", False, f"{number} not delivered: {one.error}")


def _remote(settings: Settings, remote: RemoteAE) -> Finding:
    """Look up the name, connect, C-ECHO; the first step that fails tells where to look."""
    from backup_scp import remotes

    what = f"remote {remote.name}"
    try:
        socket.getaddrinfo(remote.host, remote.port, type=socket.SOCK_STREAM)
    except OSError:
        return Finding(what, False, f"the host {remote.host} is not known: check its spelling, or write its IP address")
    try:
        socket.create_connection((remote.host, remote.port), timeout=settings.node.connect_timeout_s).close()
    except OSError as error:
        reason = error.strerror or "no answer"
        return Finding(
            what,
            False,
            f"no connection to {remote.host} port {remote.port} ({reason}): is it on, is this its own DICOM port, "
            "and does its firewall let this computer in?",
        )
    try:
        remotes.echo(settings, remote.ae_title, remote.host, remote.port, tls=remote.tls)
    except BackupSCPError as error:
        return Finding(
            what,
            False,
            f"{error}; check that its AE title is {remote.ae_title} and that {settings.node.ae_title} is entered there",
        )
    return Finding(what, True, f"{remote.ae_title} at {remote.host}:{remote.port} answers C-ECHO")
