"""The checks of ``check``: they try everything that ``serve`` does, and change nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from backup_scp.errors import ArchiveFull, BackupSCPError, NoArchive, NotOwner
from backup_scp.machine import clock
from backup_scp.machine.addresses import is_loopback
from backup_scp.machine.readable import count, moment, size
from backup_scp.node import remote_aes
from backup_scp.node.health import surroundings
from backup_scp.node.health.access_findings import access
from backup_scp.node.health.certificates import certificate_states
from backup_scp.node.health.clinic_findings import clinics
from backup_scp.node.health.diagnosis import START, closed_folders, is_low
from backup_scp.node.health.finding import Finding, Severity
from backup_scp.node.health.openid_findings import openid_connect
from backup_scp.node.health.remote_checks import check_remote, stored_classes
from backup_scp.node.opening import is_there, open_archive, open_index, pending_upgrade, require_archive, require_owner
from backup_scp.node.run_record import NodeState, RunRecord, look
from backup_scp.node.settings import Settings
from backup_scp.ports import Archive, Index, RemoteAE
from backup_scp.watch.forecast import forecast


def checks(settings: Settings, ask: Callable[[RemoteAE], None] = lambda _: None) -> Iterator[Finding]:
    """Yield a finding for each check, also when nothing is wrong; call ``ask`` before each remote AE is called."""
    node, state = settings.node, look(settings.home)
    port = f"port {node.port}" if node.plain else f"port {settings.tls.port} with TLS"
    yield _ok("settings", f"AE title {node.ae_title}, {port}, data in {settings.home}")
    yield _node(settings, state)
    yield from _ports(settings, state)
    if settings.web.enabled:
        yield _web(settings, state)
        yield from openid_connect(settings, _web_port(state))
    for found in certificate_states(settings, clock.now()):
        if found.trouble:
            yield _act("certificate", found.trouble)
        else:
            yield _ok("certificate", f"{found.section} can be used, until {found.ends_at:%Y-%m-%d}")
    if settings.log_path is not None:
        trouble = surroundings.log_trouble(settings)
        yield _act("log", trouble) if trouble else _ok("log", f"{settings.log_path} can be written")
    try:
        require_owner(settings)
        require_archive(settings)
    except NotOwner as error:
        yield _act("archive", str(error))
    except NoArchive as error:
        yield _not_there(settings, state, error)
    else:
        yield from _storage(settings, state)
    yield from clinics(settings)
    yield from access(settings)
    classes = stored_classes(settings) if settings.remotes else []
    for remote in settings.remotes:
        ask(remote)
        yield from check_remote(settings, remote, classes)


def _ok(what: str, sentence: str) -> Finding:
    return Finding(what, Severity.OK, sentence)


def _act(what: str, sentence: str, fix: str = "") -> Finding:
    return Finding(what, Severity.ACT, sentence, fix)


# -- the node ----------------------------------------------------------------------------------------------------------


def _node(settings: Settings, state: NodeState) -> Finding:
    """Check that a running node answers; a node that does not run is no error."""
    if not state.running or state.record is None:
        return Finding("node", Severity.NOTE, "not running: consoles cannot send", START)
    record = state.record
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(record.host, record.host)  # noqa: S104 - only compared
    port, tls = (record.port, False) if record.port else (record.tls_port, True)
    try:
        lets_us_in = settings.node.trust_this_machine or settings.node.strangers != "refuse"
        if port and lets_us_in and (settings.tls.ca or not tls):  # without a CA we make no TLS connection
            remote_aes.echo(settings, record.ae_title, host, port, tls=tls)
    except BackupSCPError as error:
        return _act("node", f"running since {moment(record.since)}, but does not answer: {error}", "restart it")
    return _ok("node", f"running since {moment(record.since)}. Consoles send to: {record.where}")


def _ports(settings: Settings, state: NodeState) -> Iterator[Finding]:
    running = state.record if state.running else None
    own = _own_ports(running)
    wanted = [settings.node.port] if settings.node.plain else []
    wanted += [settings.tls.port] if settings.tls_files is not None else []
    for port in wanted:
        if port and port in own:
            yield _ok(f"port {port}", f"the running node listens there{_firewall(settings, port)}")
        elif trouble := surroundings.port_trouble(settings.node.host, port):
            yield _act(f"port {port}", trouble)
        elif running is not None:
            others = " and ".join(map(str, sorted(own)))
            told = f"free, but the running node uses others ({others}): the settings have changed"
            yield Finding(f"port {port}", Severity.NOTE, told, "restart the node")
        else:
            yield _ok(f"port {port}", "it is free" if port else "the system chooses one")


def _firewall(settings: Settings, port: int) -> str:
    """Name the firewall, which we cannot ask without rights: where nobody else can call, it is not the reason."""
    if is_loopback(settings.node.host):
        return ""
    return f". If consoles do not reach it, open it in this computer's firewall: {surroundings.firewall_words(port)}"


def _web(settings: Settings, state: NodeState) -> Finding:
    """Check DICOMweb; that it does not answer is no error, since the node stores without it."""
    web, running = settings.web, state.record if state.running else None
    if running is not None and running.web_address:
        return _ok("web", f"DICOMweb answers at {running.web_address}")
    trouble = running.web_trouble if running is not None else ""
    if not trouble and (reason := surroundings.port_trouble(web.host, web.port) if web.port else ""):
        trouble = f"DICOMweb would be off: {reason}"
    if not trouble:
        return _ok("web", f"DICOMweb: port {web.port} is free" if web.port else "DICOMweb: the system chooses a port")
    return Finding("web", Severity.NOTE, trouble, "set another port in [web], or enabled = false")


def _web_port(state: NodeState) -> int:
    """Return the port of the page of a node that runs; 0 without one."""
    address = state.record.web_address if state.running and state.record is not None else ""
    return urlsplit(address).port or 0 if address else 0


def _own_ports(running: RunRecord | None) -> set[int]:
    return {port for port in (running.port, running.tls_port) if port} if running else set()


# -- archive and index -------------------------------------------------------------------------------------------------


def _storage(settings: Settings, state: NodeState) -> Iterator[Finding]:
    archive, index = open_archive(settings), None
    about_index = _pending(settings)
    try:
        if about_index is None:
            index = open_index(settings, migrate=False)
            holdings = index.holdings()
            archive.expect(identity) if (identity := index.archive_identity()) else None
            about_index = _ok("index", f"has {count(holdings.instances, 'image')} ({holdings.versions} versions)")
    except BackupSCPError as error:
        about_index = _act("index", str(error))
        _closed(index)
        index = None
    try:
        yield _archive(settings, archive, index)
        yield from _closed_folders(settings, state)
        yield _free(settings, archive, index)
        yield about_index
        if index is not None:
            yield from _commitments(index)
            if too_few := index.too_few_connections(settings.node.workers):
                yield _act("connections", too_few)
    finally:
        _closed(index)


def _closed(index: Index | None) -> None:
    if index is not None:
        index.close()


def _pending(settings: Settings) -> Finding | None:
    """Report an index that does not exist yet or needs an upgrade; None when it can be read."""
    file = surroundings.index_file(settings)
    if file is not None and not is_there(file):
        return Finding("index", Severity.NOTE, f"{file}does not exist yet: the node creates it when it starts")
    try:
        reason = pending_upgrade(settings)
    except BackupSCPError as error:
        return _act("index", str(error))
    if reason is None:
        return None
    return _act("index", reason) if file is None or "newer" in reason else _ok("index", f"{reason} when it starts")


def _archive(settings: Settings, archive: Archive, index: Index | None) -> Finding:
    """Check the archive: write a few bytes and sync them."""
    folder = settings.archive_path
    try:
        archive.require_ready()
        trouble = index.archive_trouble() if index else None
    except ArchiveFull as error:
        return _act("archive", str(error), f"make room on the disk of {folder}, or move the archive to a larger one")
    except BackupSCPError as error:
        fix = (
            f"check that {folder} is there and can be written. If you moved to a new archive on purpose, run "
            "backup-scp rebuild. If not, reconnect the old drive"
        )
        return _act("archive", str(error), fix)
    if trouble is not None and trouble.ended_at is None:
        fix = "the node tries again with the next image; check the drive (smartctl, cables)"
        return _act("archive", f"{trouble.sentence} at {moment(trouble.began_at)}", fix)
    if reason := surroundings.why_not_writable(settings):
        return _act("archive", reason, "check the disk: is it full, read-only, or another user's?")
    return _ok("archive", f"{folder} can be written")


def _not_there(settings: Settings, state: NodeState, error: NoArchive) -> Finding:
    """Judge that there is no archive: before the first start there is none where a settings file wants it."""
    is_wanted = settings.home_source.startswith("[node] home") and not state.running
    if not is_wanted or surroundings.why_closed(settings.home):
        return _act("archive", str(error))
    told = f"there is none in {settings.home} yet: the node makes it when it starts"
    return Finding(
        "archive", Severity.NOTE, told, "if there were images before: connect their disk, do not start the node"
    )


def _closed_folders(settings: Settings, state: NodeState) -> Iterator[Finding]:
    if closed := surroundings.closed_folders(settings, state):
        yield closed_folders(settings, state, closed)


def _free(settings: Settings, archive: Archive, index: Index | None) -> Finding:
    now = clock.now()
    try:
        free_bytes = archive.free_bytes()
        ahead = forecast(index, free_bytes, settings.archive.reserve_bytes, now) if index else None
    except BackupSCPError as error:
        return _act("free disk", str(error), f"check that {settings.archive_path} is on a connected disk")
    if is_low(free_bytes, settings.archive.reserve_bytes):
        return _act("free disk", f"only {size(free_bytes)} left", "make room, or move the archive")
    said = f"{size(free_bytes)} left" + (f", {ahead.sentence}" if ahead else "")
    if ahead and ahead.is_near(now.date()):
        return _act("free disk", said, "make room, or move the archive")
    return _ok("free disk", said)


def _commitments(index: Index) -> Iterator[Finding]:
    """Report each requester whose Storage Commitment report could not be delivered."""
    owed = []
    with contextlib.suppress(BackupSCPError):  # another check has reported the index
        owed = index.commitments.owed()
    for one in owed:
        if one.error:
            number = count(one.owed + one.given_up, "report")
            yield _act(f"commitment {one.requester.ae_title}", f"{number} not delivered: {one.error}")
