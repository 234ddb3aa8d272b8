"""Check another Application Entity: its name, its ports, TLS, AE titles, C-ECHO, and what it would take."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Sequence

from backup_scp.dicom.attributes import BY_KEYWORD, Level
from backup_scp.dicom.query.information_model import Query
from backup_scp.dicom.uid_names import uid_name
from backup_scp.errors import BackupSCPError, DestinationUnreachable, InvalidSelection
from backup_scp.machine.readable import count
from backup_scp.node import remote_aes
from backup_scp.node.health.finding import Finding, Severity
from backup_scp.node.health.surroundings import index_file
from backup_scp.node.opening import is_there, open_index, pending_upgrade
from backup_scp.node.settings import Settings
from backup_scp.ports import Index, RemoteAE
from backup_scp.services.permissions import Right, remote_may

_MOST_STUDIES = 1000  # the newest ones, whose SOP Classes are proposed
_MOST_NAMED = 3
_CLASSES = BY_KEYWORD["SOPClassesInStudy"]


def chosen_remote(settings: Settings, said: str) -> RemoteAE:
    """Return the remote AE to check: by its name, its AE title, or ``AETITLE@HOST:PORT``.

    Raises
    ------
    InvalidSelection
    """
    if remote := remote_aes.find_remote(settings, said):
        return remote
    known = ", ".join(r.name for r in settings.remotes) or "none is configured"
    raise InvalidSelection(f"There is no remote AE {said} ({known}): add a [[remote]], or write AETITLE@HOST:PORT")


def check_remote(settings: Settings, remote: RemoteAE, classes: Sequence[str] = ()) -> Iterator[Finding]:
    """Look up the name, connect, agree on TLS, and C-ECHO; then ask what it takes, and try its port for reports.

    Parameters
    ----------
    classes
        SOP Classes that it should take; none are proposed to one with ``destination = false``.
    """
    what = f"remote {remote.name}"
    try:
        socket.getaddrinfo(remote.host, remote.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # UnicodeError: the name is too long for DNS
        unknown = f"the host name {remote.host} is unknown"
        yield Finding(what, Severity.ACT, unknown, "check its spelling, or write its IP address")
        return
    echoed = _echo(settings, remote, what)
    yield echoed
    if echoed.severity is Severity.OK and classes and remote_may(remote, Right.RECEIVE):
        yield _images(settings, remote, classes)
    if remote.commitment_port:
        yield _commitment_port(settings, remote)


def _echo(settings: Settings, remote: RemoteAE, what: str) -> Finding:
    try:
        remote_aes.echo(settings, remote.ae_title, remote.host, remote.port, tls=remote.tls)
    except DestinationUnreachable as error:
        closed = f"no connection to {remote.host} port {remote.port} ({error.reason})"
        return Finding(what, Severity.ACT, closed, error.fix)
    except BackupSCPError as error:
        sentence, _, fix = str(error).partition("; ")
        titles = f"check that its AE title is {remote.ae_title} and that {settings.node.ae_title} is entered there"
        return Finding(what, Severity.ACT, sentence, fix or titles)
    return Finding(what, Severity.OK, f"{remote.ae_title} at {remote.host}:{remote.port} answers C-ECHO")


def _images(settings: Settings, remote: RemoteAE, classes: Sequence[str]) -> Finding:
    """Propose what is stored here: what it does not take would be missing in a restore or C-MOVE."""
    from backup_scp.dimse.scu.taken_classes import MOST_CLASSES, taken_classes

    what, asked = f"images for {remote.name}", classes[:MOST_CLASSES]
    try:
        taken = taken_classes(remote_aes.local_ae(settings), remote, asked)
    except BackupSCPError as error:
        return Finding(what, Severity.ACT, str(error))
    missing = [each for each in asked if each not in taken]
    if not missing:
        return Finding(what, Severity.OK, f"it takes every kind of image that is stored here ({len(asked)})")
    unwanted = f"if nothing is to be sent there, set destination = false of [[remote]] {remote.name}"
    if not taken:
        return Finding(what, Severity.NOTE, "it takes no kind of image that is stored here", unwanted)
    named = ", ".join(map(uid_name, missing[:_MOST_NAMED]))
    more = f" and {count(len(missing) - _MOST_NAMED, 'other')}" if len(missing) > _MOST_NAMED else ""
    fix = "switch it on there, or restores and C-MOVE to it leave such images out"
    return Finding(what, Severity.NOTE, f"it does not accept {named}{more}", fix)


def _commitment_port(settings: Settings, remote: RemoteAE) -> Finding:
    """Connect to the port at which it waits for Storage Commitment reports, and hang up."""
    from backup_scp.dimse.scu.event_report import unreachable_for_reports
    from backup_scp.dimse.upper_layer.reachability import why_unreachable

    what, timeout_s = f"commitment port of {remote.name}", settings.node.connect_timeout_s
    try:
        socket.create_connection((remote.host, remote.commitment_port), timeout_s).close()
    except OSError as error:
        found = DestinationUnreachable("", *why_unreachable(error, timeout_s))
        sentence, _, fix = unreachable_for_reports(remote, found)
        return Finding(what, Severity.ACT, sentence.removesuffix(f"; {fix}"), fix)
    return Finding(what, Severity.OK, f"port {remote.commitment_port} of {remote.host} is open")


def stored_classes(settings: Settings) -> list[str]:
    """Return the SOP Classes of the newest studies; none while the index cannot be read."""
    file = index_file(settings)
    if file is not None and not is_there(file):
        return []
    with contextlib.suppress(BackupSCPError):  # another check has reported the index
        if pending_upgrade(settings) is None:
            with contextlib.closing(open_index(settings, migrate=False)) as index:
                return _classes_in(index)
    return []


def _classes_in(index: Index) -> list[str]:
    newest = index.newest_matches([Query(Level.STUDY, (), (_CLASSES,))], _MOST_STUDIES)
    found = {each for match in newest.matches for each in match[_CLASSES.keyword].split("\\")}
    return sorted(found - {""})
