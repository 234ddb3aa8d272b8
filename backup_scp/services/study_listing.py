"""List all studies of another PACS, also of one that cuts its answers.

Many PACS give at most some hundred answers, and often say nothing of it.  So all studies are asked for in spans of
Study Dates, which become shorter until an answer is certain.  An answer is certain when another one was longer: a PACS
that cuts does so at one number.  The longest answer of all is asked for again in two halves; a day in two halves of a
day.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, timedelta

from backup_scp.ports import Answers, KeepStudy, RemoteStudy, Span

Find = Callable[[Span, KeepStudy], Answers[RemoteStudy]]

_FEW = 10  # no PACS cuts at fewer answers
_ROUND = 50  # a limit is a round number
_OLDEST, _LATEST = date(1900, 1, 1), date(9999, 12, 31)
_FIRST_DAYS = 28
_DAY_S = 24 * 60 * 60
_SHORTEST_S = 60
_ONE_DAY = timedelta(days=1)


class StudyListing:
    """Lists the studies of another PACS.

    Parameters
    ----------
    name
        Of the PACS, for sentences.
    find
        Asks it.
    since, until
        Study Dates as YYYYMMDD, both included; empty for no limit.  Studies without a date belong to no limit.

    Attributes
    ----------
    doubts
        Why studies may be missing in the list, in sentences.
    """

    def __init__(self, name: str, find: Find, since: str = "", until: str = "") -> None:
        self._name = name
        self._find = find
        self._since, self._until = since, until
        self._studies: dict[str, RemoteStudy] = {}
        self._longest = _FEW
        self._ignores_dates = False
        self.doubts: list[str] = []

    def studies(self, today: date) -> list[RemoteStudy]:
        """Return the studies, newest first, those without a date last.

        Raises
        ------
        DestinationUnavailable
        """
        oldest = _day(self._since) or _OLDEST
        latest = _day(self._until) or _LATEST
        self._slices(oldest, latest, today)
        if not self._since and oldest <= latest and not self._ignores_dates:
            self._slice(Span("", _text(oldest - _ONE_DAY)))
        if not self._since and not self._until:
            self._all_others()
        return sorted(self._studies.values(), key=lambda study: (_date(study), study.time), reverse=True)

    def _slices(self, oldest: date, latest: date, today: date) -> None:
        """Ask for all days, the newest first; empty years in long spans."""
        if latest > today:
            self._slice(Span(_text(max(oldest, today + _ONE_DAY)), _text(latest)))
        last, days = min(latest, today), _FIRST_DAYS
        while last >= oldest and not self._ignores_dates:
            first = max(oldest, last - timedelta(days=min(days, (last - oldest).days + 1) - 1))
            before = self._longest
            total = self._slice(Span(_text(first), _text(last)))
            days = max(1, days // 2) if total >= before else days * 2 if total < before // 2 else days
            last = first - _ONE_DAY

    def _slice(self, span: Span) -> int:
        """Ask for a span, and for its halves while the answer is not certain; return the length of the answer."""
        answers = self._ask(span)
        if not self._is_certain(answers) and not self._ignores_dates:
            first, last = _day(span.first), _day(span.last)
            if first is None or last is None:
                self._doubt(answers, f"studies before {_OLDEST:%Y}")
            elif first < last:
                middle = first + (last - first) // 2
                self._slice(Span(_text(middle + _ONE_DAY), span.last))
                self._slice(Span(span.first, _text(middle)))
            else:
                self._times(answers, span.first, 0, _DAY_S)
        return answers.total

    def _times(self, answers: Answers[RemoteStudy], day: str, begin_s: int, end_s: int) -> None:
        """Ask for the halves of a part of a day, while the answer is not certain."""
        middle_s = (begin_s + end_s) // 2
        for first_s, last_s in ((middle_s, end_s - 1), (begin_s, middle_s - 1)):
            span = Span(day, day, _time(first_s), _time(last_s))
            part = self._ask(span)
            if any(study.time and not span.from_time <= _six(study.time) <= span.to_time for study in part.found):
                self._doubt(answers, f"studies of {day}, which cannot be asked for by Study Time,")
                return
            if not self._is_certain(part):
                if last_s - first_s < _SHORTEST_S:
                    self._doubt(part, f"studies of {day}")
                else:
                    self._times(part, day, first_s, last_s + 1)

    def _all_others(self) -> None:
        """Ask for what has no Study Date, or one that no span holds: with all studies, of which these are kept."""
        known = len(self._studies)
        answers = self._find(Span(), lambda study: study.study_instance_uid not in self._studies)
        self._keep(answers.found)
        if answers.cut or answers.total < known:
            said = f", {answers.cut}" if answers.cut else ""
            self.doubts.append(
                f"{self._name} does not list all studies at once ({answers.total:,} of them{said}): studies without a "
                "Study Date may be missing here. Raise its limit of answers, and run the command again"
            )

    def _ask(self, span: Span) -> Answers[RemoteStudy]:
        answers = self._find(span, lambda _: True)
        if any(_date(study) and not _is_in(span, _date(study)) for study in answers.found):
            self._ignores_dates = True
        self._keep(answers.found)
        if self._ignores_dates and not self._is_certain(answers):
            self._doubt(answers, "studies, because it does not look at Study Dates,")
        return answers

    def _keep(self, studies: list[RemoteStudy]) -> None:
        wanted = Span(self._since, self._until)
        for study in studies:
            if (self._since or self._until) and not _is_in(wanted, _date(study)):
                continue
            self._studies.setdefault(study.study_instance_uid, study)

    def _is_certain(self, answers: Answers[RemoteStudy]) -> bool:
        is_certain = not answers.cut and answers.total < self._longest
        self._longest = max(self._longest, answers.total)
        return is_certain

    def _doubt(self, answers: Answers[RemoteStudy], what: str) -> None:
        if not answers.cut and answers.total % _ROUND:
            return  # long, and most probably all
        said = f" ({answers.cut})" if answers.cut else ""
        self.doubts.append(
            f"{self._name} gives {answers.total:,} answers at most{said}: {what} may be missing here. "
            "Raise that limit there, and run the command again"
        )


def _date(study: RemoteStudy) -> str:
    """Return the Study Date; empty when it is no date."""
    return study.date if re.fullmatch(r"[0-9]{8}", study.date) else ""


def _six(time: str) -> str:
    return time[:6].ljust(6, "0")


def _is_in(span: Span, day: str) -> bool:
    return bool(day) and span.first <= day <= (span.last or "99999999")


def _day(text: str) -> date | None:
    return date.fromisoformat(text) if text else None


def _text(day: date) -> str:
    return f"{day.year:04}{day:%m%d}"


def _time(second: int) -> str:
    return f"{second // 3600:02}{second // 60 % 60:02}{second % 60:02}"
