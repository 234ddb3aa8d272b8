"""Options that select images, shared by ``find`` and ``restore``.

When an option is given several times, one of its values must match.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Annotated

import typer

from backup_scp.errors import InvalidSelection
from backup_scp.machine import clock

if TYPE_CHECKING:
    from backup_scp.dicom.query.information_model import Condition, Matching
    from backup_scp.ports import SiteScope

_DAY = r"[0-9]{4}(?:-[0-9]{2}-[0-9]{2}|[0-9]{4})"
_DAYS = re.compile(rf"(?P<first>{_DAY})?(?P<range> *- *)?(?P<last>{_DAY})?")
_SEVERAL = "May be given several times."


def day(text: str) -> str:
    """Parse a date, 2026-01-31, 20260131 or today; return YYYYMMDD."""
    if text == "today":
        return clock.now().astimezone().strftime("%Y%m%d")
    if re.fullmatch(_DAY, text):
        try:
            return date.fromisoformat(text).strftime("%Y%m%d")
        except ValueError:
            raise typer.BadParameter(f"there is no day {text}") from None
    raise typer.BadParameter("write the date as 2026-01-31, 20260131 or today")


def days(text: str) -> str:
    """Parse a date or range; return it as in DICOM: YYYYMMDD, or YYYYMMDD-YYYYMMDD, whose ends may be open."""
    found = _DAYS.fullmatch(text.strip())
    if (
        found is None
        or not (found["first"] or found["last"])
        or bool(found["first"] and found["last"]) > bool(found["range"])
    ):
        raise typer.BadParameter("write 2026-01-31, or a range 20260101-20260131, 20260101- or -20260131")
    first, last = (day(end) if end else "" for end in (found["first"], found["last"]))
    if first and last and first > last:
        raise typer.BadParameter(f"no day is from {first} to {last}: the earlier date comes first")
    return f"{first}-{last}" if found["range"] else first or last


@dataclass(frozen=True, slots=True)
class SelectionOptions:
    """The options that select images.  Different ones narrow the selection; of several values of one, any matches."""

    study: Annotated[
        list[str] | None, typer.Option("--study", metavar="UID", help=f"Study Instance UID. {_SEVERAL}")
    ] = None
    patient_id: Annotated[
        list[str] | None,
        typer.Option("--patient-id", metavar="ID", help=f"Patient ID; * and ? are wild cards. {_SEVERAL}"),
    ] = None
    name: Annotated[
        list[str] | None,
        typer.Option(
            "--name", metavar="NAME", help=f"Patient's name, FAMILY^GIVEN; * and ? are wild cards. {_SEVERAL}"
        ),
    ] = None
    accession: Annotated[
        list[str] | None, typer.Option("--accession", metavar="NUMBER", help=f"Accession Number. {_SEVERAL}")
    ] = None
    study_date: Annotated[
        list[str] | None,
        typer.Option(
            "--study-date",
            metavar="DATES",
            parser=days,
            help=f"Study Date 2026-01-31 or 20260131, or 20260101-20260131, 20260101-, -20260131. {_SEVERAL}",
        ),
    ] = None
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="DATE", parser=day, help="Studies of this Study Date or later: 2026-01-31, or today."
        ),
    ] = None
    until: Annotated[
        str | None,
        typer.Option(
            "--until", metavar="DATE", parser=day, help="Studies of this Study Date or earlier: 2026-01-31, or today."
        ),
    ] = None
    modality: Annotated[
        list[str] | None, typer.Option("--modality", metavar="CODE", help=f"Modality: DX, CR, CT ... {_SEVERAL}")
    ] = None
    instance: Annotated[
        list[str] | None,
        typer.Option("--instance", metavar="UID", help=f"One image, by its SOP Instance UID. {_SEVERAL}"),
    ] = None
    site: Annotated[
        list[str] | None,
        typer.Option("--site", metavar="NAME", help=f"Images of this clinic; '' is those without one. {_SEVERAL}"),
    ] = None

    @property
    def scope(self) -> SiteScope:
        """The clinics that were named; all when none was."""
        from backup_scp.ports import SEES_ALL, SiteScope

        return SEES_ALL if self.site is None else SiteScope.of(self.site)

    def conditions(self, modality: str = "Modality") -> tuple[Condition, ...]:
        """Convert the options to conditions of a query.

        Parameters
        ----------
        modality
            The keyword that is matched with ``--modality``.

        Raises
        ------
        InvalidSelection
            The range ends before it begins.
        """
        from backup_scp.dicom.attributes import BY_KEYWORD
        from backup_scp.dicom.query.information_model import AnyOf, Condition, Range

        if self.since and self.until and self.since > self.until:
            raise InvalidSelection(
                f"No day is since {self.since} and until {self.until}: the earlier date belongs to --since"
            )
        wanted = {
            "PatientID": self.patient_id,
            "PatientName": self.name,
            "AccessionNumber": self.accession,
            "StudyDate": self.study_date,
            modality: self.modality,
            "StudyInstanceUID": self.study,
            "SOPInstanceUID": self.instance,
        }
        made = []
        for keyword, values in wanted.items():
            if matchings := tuple(_matching(keyword, value) for value in _given(values)):
                matching = matchings[0] if len(matchings) == 1 else AnyOf(matchings)
                made.append(Condition(BY_KEYWORD[keyword], matching))
        if self.since or self.until:
            made.append(Condition(BY_KEYWORD["StudyDate"], Range(self.since, self.until)))
        return tuple(made)


def _given(values: Iterable[str] | None) -> list[str]:
    return [value for value in values or () if value]


def _matching(keyword: str, value: str) -> Matching:
    from backup_scp.dicom.query.information_model import Range, SingleValue, WildCard

    if keyword == "StudyDate":
        first, dash, last = value.partition("-")
        return Range(first or None, last or None) if dash else SingleValue(first)
    if ("*" in value or "?" in value) and not keyword.endswith("UID"):
        return WildCard(value)
    return SingleValue(value)
