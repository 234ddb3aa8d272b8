"""Derive findings from the facts: what a person must do, and what a person may want to check."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from backup_scp import __version__
from backup_scp.machine.ownership import chown_words, user_name
from backup_scp.machine.readable import count, moment, size
from backup_scp.node.health.clinic_findings import clinics
from backup_scp.node.health.copy_findings import copies
from backup_scp.node.health.drill_findings import drills
from backup_scp.node.health.facts import Known, NodeFacts
from backup_scp.node.health.finding import Finding, Severity
from backup_scp.node.health.refused import refused
from backup_scp.node.health.silence_findings import silences
from backup_scp.node.run_record import AuditLogState, NodeState
from backup_scp.node.settings import Settings
from backup_scp.ports import RECOVERY, OwedReports

_LEAST_ROOM_BYTES = 100_000_000
_OVERDUE = timedelta(days=1)
_WAITED = timedelta(hours=1)
_STUCK = timedelta(hours=1)
_RELEASED = datetime(2026, 1, 1, tzinfo=UTC)  # a correct clock is later than this
START = "start it with  backup-scp serve  (beside systemd: sudo systemctl start backup-scp)"
_RESTART = "restart the node, and read its log"


def findings(facts: NodeFacts) -> list[Finding]:
    """List the problems, the most serious first; empty when there is nothing to do."""
    found = [*_node(facts), *_storing(facts), *_clock(facts), *_index(facts), *_recovery(facts)]
    found += [*clinics(facts.settings), *_alerts(facts), *_syslog(facts)]
    if facts.known is not None:
        known = facts.known
        found += [*_damage(known), *_changes(known), *_disk(facts, known)]
        found += refused(known.rejections, facts.settings, facts.at)
        found += copies(facts.settings, known.copies, facts.at)
        found += drills(facts.settings, known.copies, known.drills, facts.at)
        found += silences(facts.settings, known.silences)
        found += [_owed(one, facts) for one in known.commitments if one.error or one.given_up]
    return sorted(found, key=lambda finding: finding.severity is not Severity.ACT)


def _act(what: str, sentence: str, fix: str = "", *, aspect: str = "", subject: str = "", number: int = 0) -> Finding:
    return Finding(what, Severity.ACT, sentence, fix, aspect=aspect, subject=subject, number=number)


def _note(what: str, sentence: str, fix: str = "", *, aspect: str = "") -> Finding:
    return Finding(what, Severity.NOTE, sentence, fix, aspect=aspect)


def is_low(free_bytes: int, reserve_bytes: int) -> bool:
    """Tell whether a disk is nearly full: at least half of its free space is the reserve."""
    return free_bytes < (2 * reserve_bytes or _LEAST_ROOM_BYTES)


# -- the node ----------------------------------------------------------------------------------------------------------


def _node(facts: NodeFacts) -> Iterator[Finding]:
    record = facts.node.record
    if not facts.node.running:
        crashed = f". It ended unexpectedly, after {moment(record.alive_at)}" if record else ""
        yield _act("node", f"The node is NOT RUNNING: consoles cannot send{crashed}", START, aspect="ended")
        return
    if record is None:
        return
    if not record.listening:
        deaf = "The node runs, but accepts no connections: consoles cannot send"
        yield _act("node", deaf, _RESTART, aspect="deaf")
    if record.is_silent(facts.at):
        silent = f"The node has shown no activity since {moment(record.alive_at)}"
        yield _act("node", silent, _RESTART, aspect="silent")
    if record.version != __version__:
        versions = f"The running node is version {record.version}, installed is {__version__}"
        yield _note("node", versions, "restart the node", aspect="version")
    if record.web_trouble:
        yield _note("web", record.web_trouble)
    if record.audit_log.failing_since is not None:
        yield _audit_log(record.audit_log, record.audit_log.failing_since)
    yield from _maintenance(facts)


def _audit_log(state: AuditLogState, since: datetime) -> Finding:
    lost = f", {state.lost} further ones found no room there" if state.lost else ""
    waits = f"{count(state.waiting, 'entry')} waited in memory{lost}. Images are stored as usual"
    told = f"Since {moment(since)} the audit log cannot be written: {waits}"
    fix = "make room on the disk of the data folder, and let the node's user write into its folder audit"
    return _act("audit", told, fix, aspect="not written")


def _maintenance(facts: NodeFacts) -> Iterator[Finding]:
    """Report problems of the maintenance thread."""
    record = facts.node.record
    assert record is not None, "the node runs"  # noqa: S101 - for the type checker
    state = record.maintenance
    last = f"since {moment(state.active_at)}" if state.active_at else "since it was started"
    if not state.alive:
        ended = f"The maintenance thread has ended: no file is checked {last}"
        yield _act("maintenance", ended, _RESTART, aspect="ended")
    elif state.active_at is not None and record.alive_at - state.active_at > _STUCK:
        stuck = f"The maintenance thread makes no progress {last}"
        yield _act("maintenance", stuck, f"check the drive; {_RESTART}", aspect="stuck")
    elif state.trouble:
        blocked = f"Maintenance is blocked: {state.trouble}"
        yield _act("maintenance", blocked, "backup-scp check says more", aspect="blocked")


# -- what can be stored ------------------------------------------------------------------------------------------------


def _storing(facts: NodeFacts) -> Iterator[Finding]:
    if facts.refusing:
        yield _act("storing", f"NOTHING CAN BE STORED NOW. {facts.refusing}", "backup-scp check says more")
    elif facts.known is not None and facts.known.trouble is not None and facts.known.trouble.ended_at is not None:
        trouble = facts.known.trouble
        between = f"From {moment(trouble.began_at)} to {moment(trouble.ended_at)} nothing was stored"
        drive = "check the drive (smartctl, cables)"
        yield _note("storing", f"{between}. {trouble.sentence}", drive, aspect="was not")
    if facts.left_by_a_crash:
        left = count(facts.left_by_a_crash, "image")
        yield _note("staging", f"{left} came just before a node died: its next start adds them", START)
    if facts.closed_folders:
        yield closed_folders(facts.settings, facts.node, facts.closed_folders)
    for one in facts.certificates:
        if one.trouble:
            yield _act("certificate", one.trouble, subject=one.section)


def closed_folders(settings: Settings, state: NodeState, closed: list[str]) -> Finding:
    """Report archive folders that the node cannot write into: their owner, and the command that repairs it."""
    archive, number = settings.archive_path, len(closed)
    user = state.record.user if state.running and state.record else archive.stat().st_uid
    name = user_name(user or 0)
    several = f"{count(number, 'folder')} of the archive {'belongs' if number == 1 else 'belong'} to another user"
    sentence = f"{several} than {name}, the user of the node: images for these folders are refused ({closed[0]})"
    return _act("owner", sentence, chown_words(name, str(archive), options="-R"))


def _disk(facts: NodeFacts, known: Known) -> Iterator[Finding]:
    if facts.free_bytes is None or facts.refusing:
        return
    make_room = "make room, or move the archive to a larger disk"
    if is_low(facts.free_bytes, facts.settings.archive.reserve_bytes):
        yield _act("disk", f"Only {size(facts.free_bytes)} are left on the archive's disk", make_room, aspect="low")
    elif known.forecast is not None and known.forecast.is_near(facts.at.date()):
        yield _act(
            "disk", f"The archive's disk will be full about {known.forecast.full_on}", make_room, aspect="filling"
        )


# -- what is held ------------------------------------------------------------------------------------------------------


def _index(facts: NodeFacts) -> Iterator[Finding]:
    if facts.index_trouble:
        yield _act("index", facts.index_trouble, "backup-scp check says more")
    task = facts.known.tasks.get("rebuild") if facts.known else None
    if task is None:
        return
    why = f" ({task.note})" if task.note else ""
    so_far = f"{count(task.done, 'image')} so far, started {moment(task.began_at)}"
    incomplete = "Searches are incomplete until it is done. No images have been lost"
    if facts.node.running:
        sentence = f"The index is INCOMPLETE: the node rebuilds it from the files, {so_far}{why}. {incomplete}"
        yield _act("index", sentence, "wait; backup-scp status shows its progress", aspect="rebuild")
    else:
        sentence = f"The index is INCOMPLETE: its rebuild was interrupted, {so_far}{why}. {incomplete}"
        yield _act("index", sentence, "run  backup-scp rebuild", aspect="rebuild")


def _recovery(facts: NodeFacts) -> Iterator[Finding]:
    task = facts.known.tasks.get(RECOVERY) if facts.known else None
    if task is None:
        return
    sentence = f"The archive is being recovered from a copy since {moment(task.began_at)}: {task.note or 'it begins'}"
    here = "What is not here yet is read through the copy: leave it connected"
    runs = facts.node.running
    fix = "wait; backup-scp status shows its progress" if runs else START
    yield Finding("recovery", Severity.ACT, f"{sentence}. {here}", fix, can_wait=runs)


def _damage(known: Known) -> Iterator[Finding]:
    held = known.holdings
    if held.damaged:
        fix = "send them again from the console or another archive, then run  backup-scp verify"
        yield _act("damage", f"DAMAGED: {count(held.damaged, 'image')}", fix, number=held.damaged)
    if held.flagged:
        yield _note("flagged", f"Flagged: {count(held.flagged, 'image')}, listed above")


def _changes(known: Known) -> Iterator[Finding]:
    for storm in known.storms:
        who = " ".join(filter(None, storm.sender)) or "an import"
        yield _act("changes", f"ALARM: {storm.sentence}", subject=who, number=storm.studies)


def _clock(facts: NodeFacts) -> Iterator[Finding]:
    if facts.at < _RELEASED:
        said = f"This computer's clock says {moment(facts.at)}"
        yield _act("clock", said, "set it: images are dated by it", aspect="unset")
    if facts.known is not None and facts.known.clock_doubt.images:
        doubt = facts.known.clock_doubt
        yield (_note if doubt.is_over else _act)("clock", doubt.sentence, aspect="future")


def _syslog(facts: NodeFacts) -> Iterator[Finding]:
    """Report a syslog server that takes nothing; after an hour a person must look."""
    state = facts.forwarded
    if not facts.settings.audit.syslog or not state.trouble or state.since is None:
        return
    told = f"Since {moment(state.since)} the audit log waits: {state.trouble}"
    is_long = facts.at - state.since > _WAITED
    fix = f"{state.fix}\nbackup-scp audit test"
    yield _act("audit", told, fix, subject=state.server) if is_long else _note("audit", told, fix)


def _alerts(facts: NodeFacts) -> Iterator[Finding]:
    """Report a channel that takes no message; after a day a person must look."""
    troubles = facts.alert_troubles.values()
    if not troubles or not facts.settings.alerts.has_channel:
        return
    since = min(trouble.since for trouble in troubles)
    why = ". ".join(trouble.sentence for trouble in troubles)
    told = f"Since {moment(since)} nobody can be told by every channel. {why}"
    yield (_act if facts.at - since > _OVERDUE else _note)("alerts", told, "backup-scp alerts test")


def _owed(owed: OwedReports, facts: NodeFacts) -> Finding:
    """Report undelivered Storage Commitment reports; for an AE that is not configured only as a note."""
    who = f"{owed.requester.ae_title or 'a web client'} at {owed.requester.address}"
    number = count(owed.owed + owed.given_up, "Storage Commitment report")
    is_known = any(remote.ae_title == owed.requester.ae_title for remote in facts.settings.remotes)
    is_late = bool(owed.given_up or (owed.owed and facts.at - owed.since > _OVERDUE))
    severity = Severity.ACT if is_known and is_late else Severity.NOTE
    sentence = f"{number} for {who} not delivered since {moment(owed.since)}"
    return Finding("commitment", severity, sentence, owed.error, subject=who, number=owed.owed + owed.given_up)
