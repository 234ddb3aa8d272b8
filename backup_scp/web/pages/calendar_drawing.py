"""Places for the bars of a calendar: the template draws them as SVG."""

from __future__ import annotations

from dataclasses import dataclass

from backup_scp.web.pages.intake_calendar import ConsoleDay, ConsoleDays, DayKind
from backup_scp.web.pages.page_texts import PageTexts

WIDTH, HEIGHT, BAR = 22, 64, 16


@dataclass(frozen=True, slots=True)
class DayBar:
    """One day.

    Attributes
    ----------
    x, y, height
        Its bar, in units of the drawing.
    habit_y
        Where the mark of the habit stands; None without one.
    label
        The day in a word, below the bar; empty for most days.
    kind
        The day against its habit.
    title
        What it says.
    is_weekend
        Whether it is a Saturday or Sunday.
    """

    x: int
    y: float
    height: float
    habit_y: float | None
    label: str
    kind: DayKind
    title: str
    is_weekend: bool


@dataclass(frozen=True, slots=True)
class CalendarDrawing:
    """One console.

    Attributes
    ----------
    name
        Of the console.
    bars
        Its days.
    summary
        The same in one sentence, for those who do not see it.
    today
        Studies of today so far.
    is_odd
        Whether yesterday or the day before was below the habit.
    """

    name: str
    bars: list[DayBar]
    summary: str
    today: int
    is_odd: bool


def drawing(console: ConsoleDays, words: PageTexts) -> CalendarDrawing:
    """Compute the places of the bars of one console."""
    bars = [_bar(number, day, console.most, words) for number, day in enumerate(console.days)]
    odd = [day for day in console.days if day.kind in {DayKind.LOW, DayKind.SILENT}]
    today = console.days[-1].studies
    total = sum(day.studies for day in console.days)
    summary = words("calendar.summary", name=console.name, days=len(bars), total=total, today=today, odd=len(odd))
    return CalendarDrawing(console.name, bars, summary, today, any(day in odd for day in console.days[-3:-1]))


def _bar(number: int, day: ConsoleDay, most: float, words: PageTexts) -> DayBar:
    height = round(max(2.0, HEIGHT * day.studies / most), 1) if day.studies else 0.0
    habit_y = round(HEIGHT - HEIGHT * day.habit / most, 1) if day.habit >= 1 else None
    title = words(f"calendar.{day.kind}", day=_date(day), studies=day.studies, habit=round(day.habit))
    label = f"{day.day.day}." if day.day.weekday() == 0 else ""
    return DayBar(
        x=number * WIDTH + (WIDTH - BAR) // 2,
        y=round(HEIGHT - height, 1),
        height=height,
        habit_y=habit_y,
        label=label if day.kind is not DayKind.TODAY else words("calendar.today_mark"),
        kind=day.kind,
        title=title,
        is_weekend=day.day.weekday() >= 5,
    )


def _date(day: ConsoleDay) -> str:
    return day.day.isoformat()
