"""What a person types to find studies, turned into queries of the index.

A word without a digit begins a word of the name (any order, without accents), or is a modality.  A word with a digit
begins a Patient ID or an Accession Number (with one or two characters: is it), or is the date of the study or of the
birth.

No database index serves one or two letters: they are looked for among the newest studies only, unless all years are
asked for (``StudyReader.newest_matches``).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import NamedTuple

from backup_scp.dicom.attributes import BY_KEYWORD, Level
from backup_scp.dicom.query.information_model import (
    AllOf,
    Condition,
    DateTimeRange,
    FuzzyName,
    Matching,
    Query,
    Range,
    SingleValue,
    WildCard,
)
from backup_scp.ports import Match, StudyReader

PAGE = 50
"""Studies on one page."""

MOST_PAGES = 20
_SELECTIVE = 3  # characters of a number
_OVERLAP = timedelta(minutes=1)  # an image is received for some time before it can be found
_MOST_WORDS, _MOST_QUERIES = 8, 8
_LONGEST = 200
_FIRST_YEAR = 1800
SHOWN = tuple(
    BY_KEYWORD[keyword]
    for keyword in (
        "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber",
        "ModalitiesInStudy", "StudyDescription", "NumberOfStudyRelatedInstances", "StudyInstanceUID",
    )
)  # fmt: skip
MODALITIES = frozenset(
    {"CR", "CT", "DX", "ES", "IO", "IVOCT", "MG", "MR", "NM", "OP", "OT", "PT", "PX", "RF", "US", "XA"}
)
_DATES = (
    re.compile(r"(?P<y>[0-9]{4})-?(?P<m>[0-9]{2})-?(?P<d>[0-9]{2})"),
    re.compile(r"(?P<d>[0-9]{1,2})[./](?P<m>[0-9]{1,2})[./](?P<y>[0-9]{4})"),
)
_SIGNS = re.compile(r"[*?\\]")


@dataclass(frozen=True, slots=True)
class StudySearch:
    """What is searched for; empty fields match everything.

    Attributes
    ----------
    text
        What was typed into the one field.
    patient_id, accession, born, since, until, modality
        Of the further fields; dates as YYYY-MM-DD.
    made_since
        Only studies that were made since then.
    arrived_since
        Only studies that an image of came since then; the last one comes first.
    page
        From 1.
    is_everywhere
        Whether all years are looked at, however long that takes.
    """

    text: str = ""
    patient_id: str = ""
    accession: str = ""
    born: str = ""
    since: str = ""
    until: str = ""
    modality: str = ""
    made_since: datetime | None = None
    arrived_since: datetime | None = None
    page: int = 1
    is_everywhere: bool = False

    @classmethod
    def of(cls, given: Mapping[str, str], seen_at: datetime | None, now: datetime) -> StudySearch:
        """Read the fields of a form; what cannot be understood is left out.

        Parameters
        ----------
        seen_at
            When somebody last had seen all; None for never.
        """
        fields = {name: given.get(name, "").strip()[:_LONGEST] for name in FIELDS}
        number = given.get("page", "")
        page = int(number) if re.fullmatch(r"[1-9][0-9]?", number) else 1
        return cls(
            given.get("q", "").strip()[:_LONGEST],
            **fields,
            made_since=_made_since(given.get("when", ""), now),
            arrived_since=(seen_at or _midnight(now)) - _OVERLAP if given.get("when") == "unread" else None,
            page=min(page, MOST_PAGES),
            is_everywhere=given.get("years") == "all",
        )

    @property
    def queries(self) -> list[Query]:
        """The queries whose answers together are the result."""
        own = list(self._conditions())
        found = [[*own, *words] for words in itertools.islice(_readings(self.text), _MOST_QUERIES)]
        return [
            Query(Level.STUDY, tuple(combined), SHOWN)
            for conditions in found
            if (combined := _combined(conditions)) is not None
        ]

    def _conditions(self) -> Iterator[Condition]:
        if self.patient_id:
            yield _beginning("PatientID", self.patient_id)
        if self.accession:
            yield _beginning("AccessionNumber", self.accession)
        if self.modality:
            yield _is("ModalitiesInStudy", self.modality.upper())
        if born := _day(self.born):
            yield _is("PatientBirthDate", born)
        if self.made_since is not None:
            local = self.made_since.astimezone()
            since = (f"{local:%Y%m%d}", f"{local:%H%M%S}")
            yield Condition(BY_KEYWORD["StudyDate"], DateTimeRange(BY_KEYWORD["StudyTime"], since, None))
        elif self.since or self.until:
            yield Condition(BY_KEYWORD["StudyDate"], Range(_day(self.since) or None, _day(self.until) or None))


FIELDS = ("patient_id", "accession", "born", "since", "until", "modality")
"""The further fields of the form."""


class FoundStudies(NamedTuple):
    """One page of studies.

    Attributes
    ----------
    studies
        The studies, the newest first.
    has_more
        Whether more follow.
    is_cut
        Whether older studies may match too, and were not looked at.
    """

    studies: list[Match]
    has_more: bool
    is_cut: bool


def found(index: StudyReader, search: StudySearch) -> FoundStudies:
    """Return one page of studies.

    Raises
    ------
    IndexUnavailable
    """
    queries = search.queries
    if not queries:
        return FoundStudies([], has_more=False, is_cut=False)
    newest = index.newest_matches(
        queries,
        PAGE + 1,
        skip=(search.page - 1) * PAGE,
        arrived_since=search.arrived_since,
        in_all=search.is_everywhere,
    )
    return FoundStudies(newest.matches[:PAGE], len(newest.matches) > PAGE, newest.is_cut)


def _readings(text: str) -> Iterator[list[Condition]]:
    """Yield each way in which the words may be meant."""
    words = text.replace(",", " ").replace("^", " ").split()[:_MOST_WORDS]
    for meant in itertools.product(*map(_meanings, words)):
        names = [name for name, _ in meant if name]
        conditions = [condition for _, condition in meant if condition is not None]
        if names:
            conditions.append(Condition(BY_KEYWORD["PatientName"], FuzzyName(" ".join(names))))
        yield conditions


def _meanings(word: str) -> list[tuple[str, Condition | None]]:
    """Return what one word may mean: a part of the name, or a condition."""
    if not any(character.isdecimal() for character in word):
        plain = _SIGNS.sub("", word)
        as_name: list[tuple[str, Condition | None]] = [(plain, None)] if plain else [("", None)]
        is_modality = word.upper() in MODALITIES
        return [*([("", _is("ModalitiesInStudy", word.upper()))] if is_modality else []), *as_name]
    if day := _day(word):
        return [("", _is("StudyDate", day)), ("", _is("PatientBirthDate", day)), *_numbers(word)]
    return _numbers(word)


def _numbers(word: str) -> list[tuple[str, Condition | None]]:
    return [("", _beginning("PatientID", word)), ("", _beginning("AccessionNumber", word))]


def _beginning(keyword: str, text: str) -> Condition:
    if len(text) < _SELECTIVE:
        return _is(keyword, text)  # a fifth of all may begin with one digit
    return Condition(BY_KEYWORD[keyword], WildCard(f"{_SIGNS.sub('?', text)}*"))


def _is(keyword: str, value: str) -> Condition:
    return Condition(BY_KEYWORD[keyword], SingleValue(value))


def _combined(conditions: list[Condition]) -> list[Condition] | None:
    """Return at most one condition for each attribute; None when two contradict."""
    by_attribute: dict[str, Matching] = {}
    for condition in conditions:
        keyword, matching = condition.attribute.keyword, condition.matching
        before = by_attribute.setdefault(keyword, matching)
        if before == matching:
            continue
        together = _both(keyword, before, matching)
        if together is None:
            return None
        by_attribute[keyword] = together
    return [Condition(BY_KEYWORD[keyword], matching) for keyword, matching in by_attribute.items()]


def _both(keyword: str, one: Matching, other: Matching) -> Matching | None:
    if keyword == "ModalitiesInStudy" and isinstance(one, SingleValue) and isinstance(other, SingleValue):
        return AllOf((one.value, other.value))
    if keyword == "StudyDate":
        day, interval = (one, other) if isinstance(one, SingleValue) else (other, one)
        if isinstance(day, SingleValue) and isinstance(interval, Range) and _is_in(day.value, interval):
            return day
    return None


def _is_in(day: str, interval: Range) -> bool:
    return (interval.first or "") <= day <= (interval.last or "99999999")


def _day(text: str) -> str:
    """Return a date as DICOM writes it; empty for what is none."""
    for form in _DATES:
        if parts := form.fullmatch(text):
            try:
                day = date(int(parts["y"]), int(parts["m"]), int(parts["d"]))
            except ValueError:
                return ""
            return f"{day:%Y%m%d}" if day.year >= _FIRST_YEAR else ""  # a Patient ID such as 00010203
    return ""


def _made_since(when: str, now: datetime) -> datetime | None:
    if when == "today":
        return _midnight(now)
    if when == "week":
        return _midnight(now) - timedelta(days=_midnight(now).weekday())
    return None


def _midnight(now: datetime) -> datetime:
    return now.astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
