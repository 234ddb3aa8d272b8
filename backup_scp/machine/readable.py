"""Format numbers, sizes and times for people."""

from __future__ import annotations

from datetime import datetime


def size(number_of_bytes: float) -> str:
    """Format a size with a suitable unit: ``1.4 GB``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if number_of_bytes < 1000:
            return f"{number_of_bytes:.0f} bytes" if unit == "bytes" else f"{number_of_bytes:.1f} {unit}"
        number_of_bytes /= 1000
    return f"{number_of_bytes:.1f} TB"


def count(number: int, noun: str) -> str:
    """Format a number with its noun: ``1 study``, ``2 studies``."""
    if number == 1:
        return f"1 {noun}"
    if noun.endswith("y"):
        return f"{number} {noun[:-1]}ies"
    return f"{number} {noun if noun.endswith('s') else noun + 's'}"


def moment(value: datetime | None) -> str:
    """Format a time in this computer's time zone, with its offset from UTC, since the log is in UTC."""
    return value.astimezone().isoformat(" ", "seconds") if value else "never"


def duration(seconds: float) -> str:
    """Format a time that something takes: ``45 s``, ``12 min``, ``2 h 10 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
