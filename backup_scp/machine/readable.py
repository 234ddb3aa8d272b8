"""Numbers, sizes and times as a person reads them."""

from __future__ import annotations

from datetime import datetime


def size(number_of_bytes: float) -> str:
    """Write a size in the unit that suits it: ``1.4 GB``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if number_of_bytes < 1000:
            return f"{number_of_bytes:.0f} bytes" if unit == "bytes" else f"{number_of_bytes:.1f} {unit}"
        number_of_bytes /= 1000
    return f"{number_of_bytes:.1f} TB"


def count(number: int, noun: str) -> str:
    """Write a number with its noun: ``1 study``, ``2 studies``."""
    if number == 1:
        return f"1 {noun}"
    if noun.endswith("y"):
        return f"{number} {noun[:-1]}ies"
    return f"{number} {noun if noun.endswith('s') else noun + 's'}"


def moment(value: datetime | None) -> str:
    """Write a time as this computer's clock shows it, with its offset from UTC, in which the log is written."""
    return value.astimezone().isoformat(" ", "seconds") if value else "never"
