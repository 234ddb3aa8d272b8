"""The state of the backup in the text format of Prometheus (version 0.0.4)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from backup_scp.web.pages.backup_state import BackupState, Sign
from backup_scp.web.pages.state_feed import StateSnapshot

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SIGNS = {Sign.WELL: 0, Sign.SOON: 1, Sign.NOW: 2}


class _Sample(NamedTuple):
    value: float
    labels: dict[str, str] = {}  # noqa: RUF012 - never changed


class _Metric(NamedTuple):
    name: str
    text: str
    samples: Iterable[_Sample]


def metrics_of(snapshot: StateSnapshot) -> str:
    """Return all metrics; what is not known is left out."""
    return "".join(line for metric in _metrics(snapshot) for line in _lines(metric))


def _lines(metric: _Metric) -> Iterator[str]:
    samples = list(metric.samples)
    if not samples:
        return
    name = f"backup_scp_{metric.name}"
    yield f"# HELP {name} {metric.text}\n# TYPE {name} gauge\n"
    for value, labels in samples:
        inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        yield f"{name}{{{inside}}} {value}\n" if inside else f"{name} {value}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _metrics(snapshot: StateSnapshot) -> Iterator[_Metric]:
    state, held = snapshot.state, snapshot.state.holdings
    yield _Metric("sign", "0 all is well, 1 a person must act soon, 2 now.", [_Sample(_SIGNS[state.sign])])
    yield _Metric("findings", "Findings by severity and subject.", _findings(state))
    yield _Metric("state_timestamp_seconds", "When the state was asked for.", [_at(snapshot.at)])
    if held is not None:
        numbers = {"patients", "studies", "series", "instances", "versions", "flagged", "damaged", "never_verified"}
        for name in sorted(numbers):
            yield _Metric(name, f"See holdings.{name} in docs/cli.md.", [_Sample(getattr(held, name))])
        yield _Metric("stored_bytes", "Bytes of all versions.", [_Sample(held.size_bytes)])
        yield _Metric("last_received_timestamp_seconds", "Last image.", _known(held.last_received_at))
        yield _Metric("last_verified_timestamp_seconds", "Last image read again.", _known(held.last_verified_at))
    if state.free_bytes is not None:
        yield _Metric("free_bytes", "Free bytes on the archive's disk.", [_Sample(state.free_bytes)])
    if state.forecast is not None and state.forecast.full_on is not None:
        days = (state.forecast.full_on - snapshot.at.astimezone().date()).days
        yield _Metric("disk_full_days", "Days until the archive's disk is full.", [_Sample(days)])
    yield _Metric("storing", "1 when an image would be accepted now.", [_Sample(0 if state.refusing else 1)])
    yield from _copies(state)
    yield from _work(snapshot)
    today = [_Sample(console.days[-1].studies, {"console": console.name}) for console in snapshot.days]
    yield _Metric("studies_today", "Studies whose first image came today, by console.", today)
    refused = [
        _Sample(one.count, {"caller": one.calling_ae_title, "address": one.address, "service": str(one.service)})
        for one in state.rejections
    ]
    yield _Metric("refused", "Refused requests that nobody has settled.", _summed(refused))


def _findings(state: BackupState) -> Iterator[_Sample]:
    kinds = sorted({(one.severity, one.what) for one in state.findings})
    for severity, what in kinds:
        number = sum((one.severity, one.what) == (severity, what) for one in state.findings)
        yield _Sample(number, {"severity": severity, "what": what})


def _copies(state: BackupState) -> Iterator[_Metric]:
    labels = [{"copy": one.name, "drive": one.label or one.medium} for one in state.copies]
    for name, text in (("held", "Versions there."), ("due", "Versions not there yet."), ("damaged", "Found damaged.")):
        samples = [_Sample(getattr(one, name), own) for one, own in zip(state.copies, labels, strict=True)]
        yield _Metric(f"copy_{name}", text, samples)
    for name, text in (
        ("seen_at", "Last reached."),
        ("complete_at", "Last complete."),
        ("compared_at", "Last compared."),
    ):
        times = [(getattr(one, name), own) for one, own in zip(state.copies, labels, strict=True)]
        known = [_at(at, own) for at, own in times if at is not None]
        yield _Metric(f"copy_{name.removesuffix('_at')}_timestamp_seconds", text, known)
    drills = [(one, {"copy": one.copy, "drive": one.label or one.medium}) for one in state.drills]
    yield _Metric(
        "drill_passed", "1 when the last drill passed.", [_Sample(int(one.passed), own) for one, own in drills]
    )
    yield _Metric("drill_timestamp_seconds", "Last drill.", [_at(one.ended_at, own) for one, own in drills])
    whole = [_Sample(one.everything_s, own) for one, own in drills if one.everything_s is not None]
    yield _Metric("recovery_seconds", "Seconds until everything would be back, by the last drill.", whole)


def _work(snapshot: StateSnapshot) -> Iterator[_Metric]:
    works = [(one, {"work": one.name}) for one in snapshot.work.values()]
    yield _Metric("work_done", "Images done of long work that runs.", [_Sample(one.done, own) for one, own in works])
    yield _Metric("work_total", "Images of it altogether.", [_Sample(one.total, own) for one, own in works])
    ready = [_at(one.ready_at, own) for one, own in works if one.ready_at is not None]
    yield _Metric("work_ready_timestamp_seconds", "When it will be ready at the rate of now.", ready)


def _summed(samples: Iterable[_Sample]) -> Iterator[_Sample]:
    """Add samples with the same labels, which Prometheus does not take twice."""
    totals: dict[tuple[tuple[str, str], ...], float] = {}
    for value, labels in samples:
        key = tuple(labels.items())
        totals[key] = totals.get(key, 0) + value
    for key, value in totals.items():
        yield _Sample(value, dict(key))


def _at(moment: datetime, labels: dict[str, str] | None = None) -> _Sample:
    return _Sample(round(moment.timestamp(), 3), labels or {})


def _known(moment: datetime | None) -> list[_Sample]:
    return [] if moment is None else [_at(moment)]
