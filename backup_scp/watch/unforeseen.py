"""Tell of an error that nobody foresaw without its text, which may hold a patient's data."""

from __future__ import annotations

from pathlib import Path


def place_of(error: Exception) -> str:
    """Name an error's type and where it was raised."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    if place is None:
        return type(error).__name__
    return f"{type(error).__name__} in {Path(place.tb_frame.f_code.co_filename).name}, line {place.tb_lineno}"
