"""The state of the backup as Prometheus reads it, in the format that it asks for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, time
from typing import NamedTuple

from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.process_collector import ProcessCollector

from backup_scp.machine import clock
from backup_scp.ports import RemoteAE
from backup_scp.web.pages.backup_state import BackupState, Sign, StateNode
from backup_scp.web.pages.device_labels import DeviceLabels
from backup_scp.web.pages.state_feed import StateSnapshot

_PREFIX = "backup_scp_"
_SIGNS = {Sign.WELL: 0, Sign.SOON: 1, Sign.NOW: 2}
_COUNTS = {
    "patients": "Patients with images here.",
    "studies": "Studies here.",
    "series": "Series here.",
    "instances": "Different images here.",
    "versions": "Versions of images here: other content under the same UID counts again.",
    "flagged": "Versions that a person may want to look at.",
    "damaged": "Versions whose file changed or is gone.",
    "never_verified": "Versions that were never compared with their digest.",
}


class _Sample(NamedTuple):
    value: float | None
    labels: Mapping[str, str] = {}


class StateMetrics:
    """Yields the metrics of one moment; what is not known is left out.

    Parameters
    ----------
    snapshot
        The state at that moment.
    remotes
        The devices of the settings.
    """

    def __init__(self, snapshot: StateSnapshot, remotes: Sequence[RemoteAE]) -> None:
        self._snapshot = snapshot
        self._devices = DeviceLabels(remotes)

    def collect(self) -> Iterator[Metric]:
        """Yield all of them."""
        state = self._snapshot.state
        yield from _node(state.node)
        yield from _signs(self._snapshot, self._devices)
        yield from _kept(state)
        yield from _disk(state)
        yield from _copies(state)
        yield from _drills(state)
        yield from _work(self._snapshot)
        yield from _consoles(self._snapshot, self._devices)
        yield from _commitments(state, self._devices)


def metrics_of(snapshot: StateSnapshot, remotes: Sequence[RemoteAE] = (), accept: str = "") -> tuple[bytes, str]:
    """Return all metrics, and their media type: OpenMetrics where ``accept`` asks for it."""
    encode, media_type = choose_encoder(accept)
    return encode(StateMetrics(snapshot, remotes)), media_type


def _gauge(name: str, text: str, samples: Iterable[_Sample]) -> Iterator[Metric]:
    """Yield a metric; samples without a value are left out, and those with the same labels are added."""
    totals: dict[tuple[tuple[str, str], ...], float] = {}
    for value, labels in samples:
        if value is not None:
            key = tuple(labels.items())
            totals[key] = totals.get(key, 0) + value
    if not totals:
        return
    family = GaugeMetricFamily(_PREFIX + name, text, labels=[label for label, _ in next(iter(totals))])
    for labelled, total in totals.items():
        family.add_metric([value for _, value in labelled], total)
    yield family


def _one(name: str, text: str, value: float | None) -> Iterator[Metric]:
    return _gauge(name, text, [_Sample(value)])


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else round(moment.timestamp(), 3)


def _node(node: StateNode) -> Iterator[Metric]:
    record = node.record
    yield from _one("running", "1 while the node runs.", int(node.running))
    if record is None or not node.running:
        return
    yield InfoMetricFamily(f"{_PREFIX}build", "The version of the node that runs.", {"version": record.version})
    yield from _one("start_timestamp_seconds", "When the node was started.", _seconds(record.since))
    yield from _one("listening", "1 while the node accepts connections.", int(record.listening))
    alive, active_at = record.maintenance.alive, record.maintenance.active_at
    yield from _one("maintenance_alive", "1 while the maintenance thread runs.", int(alive))
    active = "When the maintenance thread last made progress or waited for work."
    yield from _one("maintenance_active_timestamp_seconds", active, _seconds(active_at))
    if (process := record.process) is not None:
        yield from ProcessCollector(f"{_PREFIX}node", lambda: process, registry=None).collect()


def _signs(snapshot: StateSnapshot, devices: DeviceLabels) -> Iterator[Metric]:
    state = snapshot.state
    yield from _one("sign", "0 all is well, 1 a person must act soon, 2 now.", _SIGNS[state.sign])
    found = [(one.severity, one.what, one.aspect, devices.of_finding(one.what, one.subject)) for one in state.findings]
    names = ("severity", "what", "aspect", "subject")
    samples = [_Sample(1, dict(zip(names, each, strict=True))) for each in sorted(found)]
    yield from _gauge("findings", "Findings of status: act, or a note.", samples)
    yield from _one("state_timestamp_seconds", "When the state was asked for.", _seconds(snapshot.at))
    yield from _one("time_seconds", "This computer's clock.", _seconds(clock.now()))
    yield from _one("storing", "1 when an image would be accepted now.", int(not state.refusing))
    yield from _one("index_up", "1 when the index answers.", int(not state.index_trouble))
    ends = [_Sample(_seconds(one.ends_at), {"section": one.section}) for one in state.certificates]
    yield from _gauge("certificate_end_timestamp_seconds", "When the first certificate of a section ends.", ends)


def _kept(state: BackupState) -> Iterator[Metric]:
    held = state.holdings
    if held is None:
        return
    for name, text in _COUNTS.items():
        yield from _one(name, text, getattr(held, name))
    yield from _one("stored_bytes", "Bytes of all versions.", held.size_bytes)
    yield from _one("last_received_timestamp_seconds", "Last image.", _seconds(held.last_received_at))
    yield from _one("last_verified_timestamp_seconds", "Last image read again.", _seconds(held.last_verified_at))


def _disk(state: BackupState) -> Iterator[Metric]:
    yield from _one("free_bytes", "Free bytes on the archive's disk.", state.free_bytes)
    full_on = None if state.forecast is None else state.forecast.full_on
    full_at = None if full_on is None else datetime.combine(full_on, time()).astimezone()
    full = "When the archive's disk will be full, as images come in; absent for more than ten years."
    yield from _one("disk_full_timestamp_seconds", full, _seconds(full_at))


def _copies(state: BackupState) -> Iterator[Metric]:
    labelled = [(one, {"copy": one.name, "drive": one.label or one.medium}) for one in state.copies]
    for name, text in (
        ("held", "Versions there."),
        ("held_bytes", "Their bytes there."),
        ("due", "Versions not there yet."),
        ("failed", "Versions that could not be written there, and are tried again."),
        ("damaged", "Versions found damaged there, which are written again."),
    ):
        yield from _gauge(f"copy_{name}", text, [_Sample(getattr(one, name), own) for one, own in labelled])
    for name, text in (
        ("seen_at", "Last reached."),
        ("complete_at", "Last complete."),
        ("compared_at", "Last compared."),
        ("oldest_due", "When the oldest image that is not there yet was received."),
    ):
        times = [_Sample(_seconds(getattr(one, name)), own) for one, own in labelled]
        yield from _gauge(f"copy_{name.removesuffix('_at')}_timestamp_seconds", text, times)
    usable = [_Sample(int(not one.trouble), own) for one, own in labelled]
    yield from _gauge("copy_usable", "1 while the place can be used; a drive that is away cannot.", usable)


def _drills(state: BackupState) -> Iterator[Metric]:
    drills = [(one, {"copy": one.copy, "drive": one.label or one.medium}) for one in state.drills]
    passed = [_Sample(int(one.passed), own) for one, own in drills]
    yield from _gauge("drill_passed", "1 when the last drill passed.", passed)
    ended = [_Sample(_seconds(one.ended_at), own) for one, own in drills]
    yield from _gauge("drill_timestamp_seconds", "Last drill.", ended)
    whole = [_Sample(one.everything_s, own) for one, own in drills]
    yield from _gauge("recovery_seconds", "Seconds until everything would be back, by the last drill.", whole)


def _work(snapshot: StateSnapshot) -> Iterator[Metric]:
    works = [(one, {"work": one.name}) for one in snapshot.work.values()]
    done = [_Sample(one.done, own) for one, own in works]
    yield from _gauge("work_done", "Images done of long work that runs.", done)
    whole = [_Sample(one.total, own) for one, own in works]
    yield from _gauge("work_images", "Images of it altogether.", whole)
    ready = [_Sample(_seconds(one.ready_at), own) for one, own in works]
    yield from _gauge("work_ready_timestamp_seconds", "When it will be ready at the rate of now.", ready)


def _consoles(snapshot: StateSnapshot, devices: DeviceLabels) -> Iterator[Metric]:
    """Yield what consoles send and what was refused to callers."""
    labelled = [(one, {"console": devices.of_console(one.name)}) for one in snapshot.days]
    today = [_Sample(one.days[-1].studies, own) for one, own in labelled]
    yield from _gauge("studies_today", "Studies whose first image came today, by console.", today)
    last: dict[str, datetime] = {}
    for one, own in labelled:
        last[own["console"]] = max(one.last_at, last.get(own["console"], one.last_at))
    came = [_Sample(_seconds(at), {"console": console}) for console, at in last.items()]
    yield from _gauge("console_last_image_timestamp_seconds", "Last image of a console, within twelve weeks.", came)
    refused = []
    for each in snapshot.state.rejections:
        service, ae_title, address, _ = each.settled_by
        own = {"remote": devices.of_caller(ae_title, address), "service": str(service)}
        refused.append(_Sample(each.count, own))
    yield from _gauge("refused", "Refused requests that nobody has settled, by device.", refused)


def _commitments(state: BackupState, devices: DeviceLabels) -> Iterator[Metric]:
    owed = [(one, devices.of_caller(one.requester.ae_title, one.requester.address)) for one in state.commitments]
    for name, text in (
        ("waiting", "Storage Commitment requests whose images are being checked."),
        ("owed", "Storage Commitment reports that could not be delivered yet."),
        ("given_up", "Storage Commitment reports that are no longer sent."),
    ):
        samples = [_Sample(getattr(one, name), {"remote": remote}) for one, remote in owed]
        yield from _gauge(f"commitments_{name}", text, samples)
