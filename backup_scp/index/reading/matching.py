"""Conditions as SQL, as PS3.4 C.2.2.2 defines matching.

Text is compared case-sensitively, person names without case and accents; dates, times and numbers by what they mean.
A range of times includes what its last value leaves open: ``-1159`` ends at 11:59:59.999999.  Where the text of a
condition has no such meaning (a date of ``yesterday``), a single value is compared as text and a range matches nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import sqlalchemy as sa

from backup_scp.dicom.attributes import Attribute
from backup_scp.dicom.query.information_model import (
    AllOf,
    AnyOf,
    Condition,
    DateTimeRange,
    Empty,
    FuzzyName,
    OneItem,
    Range,
    SingleValue,
    UIDList,
    WildCard,
)
from backup_scp.dicom.sop_instance import VALUE_CHARACTERS
from backup_scp.dicom.value_representation import last_time_key
from backup_scp.index.reading.extended_matching import has_words, in_date_time_range, words_of
from backup_scp.index.schema.dialect import Clause, Dialect, Text
from backup_scp.index.schema.search_keys import (
    PATIENT_NAME,
    PATIENT_NAME_GROUPS,
    Key,
    folded,
    folded_group,
    integer_key,
    key_columns,
    key_of,
    stored_value,
)
from backup_scp.index.schema.stored_text import stored_text
from backup_scp.index.schema.trigrams import trigrams

MOST_VALUES = 100
"""Of Multiple Value Matching; no entity has as many, and SQLite joins at most 1000 conditions by AND."""

LONGEST_PATTERN = VALUE_CHARACTERS
"""Characters other than ``*``: no value that was read is longer; SQLite takes patterns of 50,000 bytes."""

LONG_PATTERN = 64
"""Characters other than ``*``, from which on the length of a value is looked at first: a pattern takes a database at
most the product of both lengths, and few values are long (PS3.5 Table 6.2-1)."""

ROW = "id"
"""The column that a ``ColumnOf`` gives for the study row itself."""

ColumnOf = Callable[[str], Text]
"""Give the column, or the expression, of one column name."""


@dataclass(frozen=True, slots=True)
class Matcher:
    """Makes SQL of the conditions of one query.

    Parameters
    ----------
    dialect
        The engine's.
    column
        Where to find an attribute's columns, by ``Attribute.column`` and ``key_columns``.
    """

    dialect: Dialect
    column: ColumnOf

    def clause(self, condition: Condition) -> Clause:
        """Make SQL of one condition."""
        attribute, matching = condition.attribute, condition.matching
        match matching:
            case SingleValue() | UIDList():
                values = [matching.value] if isinstance(matching, SingleValue) else list(matching.values)
                return self._any_of(attribute, values)
            case WildCard(pattern):
                return self._wild_card(attribute, pattern)
            case Range(first, last):
                return self._range(attribute, first, last)
            case AnyOf(matchings):
                return sa.or_(*(self.clause(Condition(attribute, one)) for one in matchings))
            case OneItem(conditions):
                return self.dialect.some_item(self.column(attribute.column), partial(self._all, conditions))
            case _:
                return self._negotiated(attribute, matching)

    # Sequence, C.2.2.2.6

    def items_that_match(self, condition: Condition) -> Text:
        """Give the items of a sequence that are answered: those that match."""
        matching, sequence = condition.matching, self.column(condition.attribute.column)
        conditions = matching.conditions if isinstance(matching, OneItem) else ()
        return self.dialect.items_that(sequence, partial(self._all, conditions))

    def _all(self, conditions: Iterable[Condition], item: ColumnOf) -> Clause:
        matcher = Matcher(self.dialect, item)
        return sa.and_(sa.true(), *map(matcher.clause, conditions))

    # What has to be negotiated, C.5.1.1

    def _negotiated(self, attribute: Attribute, matching: AllOf | Empty | FuzzyName | DateTimeRange) -> Clause:
        match matching:
            case AllOf(values):
                held = len(values) <= MOST_VALUES
                return sa.and_(*(self._any_of(attribute, [value]) for value in values)) if held else sa.false()
            case Empty():
                return self._text(attribute) == ""
            case FuzzyName(name):
                matches = self._name(attribute, name, words_of, self._has_words)
                words = (word for group in stored_text(name).split("=", 2) for word in words_of(group).split())
                return self._narrowed(attribute, (f"*{word}*" for word in words), matches)
            case DateTimeRange():
                return in_date_time_range(attribute, matching, self.column)

    def _has_words(self, text: Text, words: str) -> Clause:
        return has_words(self.dialect, text, words)

    # Single value and list, C.2.2.2.1 and C.2.2.2.2

    def _any_of(self, attribute: Attribute, values: list[str]) -> Clause:
        if attribute.vr == "PN":
            return self._any_name(attribute, values)
        texts = [_counted(value) if attribute.computed else stored_value(attribute, value) for value in values]
        columns = key_columns(attribute)
        if not columns:
            return self._text_among(attribute, texts)
        keyed = [(text, key_of(attribute, text)) for text in texts]
        clauses = [self._among(self.column(columns[0]), keys)] if (keys := [k for _, k in keyed if _is_key(k)]) else []
        if plain := [text for text, key in keyed if not _is_key(key)]:
            clauses.append(self._among(self.column(attribute.column), plain))
        return sa.or_(*clauses)

    def _text_among(self, attribute: Attribute, texts: list[str]) -> Clause:
        text = self._text(attribute)
        if not attribute.has_several_values:
            return self._among(text, texts)
        if len(texts) == 1 and "\\" not in texts[0]:
            return self.dialect.one_value_is(text, texts[0])
        several = [value for given in texts for value in given.split("\\")]
        return self.dialect.some_value(text, lambda value: self._among(value, several))

    def _among(self, text: Text, values: list[Key] | list[str]) -> Clause:
        return text == values[0] if len(values) == 1 else self.dialect.among(text, values)

    def _text(self, attribute: Attribute) -> Text:
        """Give the column to compare as text; computed numbers are numbers in the database."""
        column = self.column(attribute.column)
        return column if isinstance(column.type, sa.Text) else sa.cast(column, sa.Text)

    # Person names: C.2.2.2.1, any case; any of the three component groups

    def _any_name(self, attribute: Attribute, values: list[str]) -> Clause:
        if len(values) == 1:
            return self._name(attribute, values[0], folded_group, lambda text, value: text == value)
        groups = [key for value in values for group in value.split("=") if (key := folded_group(stored_text(group)))]
        if attribute is PATIENT_NAME:
            return sa.or_(*(self.dialect.among(self.column(name), groups) for name in PATIENT_NAME_GROUPS))
        return self.dialect.some_value(self._names(attribute), lambda name: self.dialect.among(name, groups))

    def _name(
        self, attribute: Attribute, name: str, fold: Callable[[str], str], holds: Callable[[Text, str], Clause]
    ) -> Clause:
        """One group is looked for in each group; of several each is looked for in its own, empty ones aside."""
        groups = [fold(group) for group in stored_text(name).split("=", 2)]
        wanted = [(position, group) for position, group in enumerate(groups) if group]
        if not wanted:
            return sa.false()
        if attribute is not PATIENT_NAME:
            names = self._names(attribute)
            return sa.and_(
                *(self.dialect.some_value(names, lambda each, g=group: holds(each, g)) for _, group in wanted)  # type: ignore[misc]
            )
        if len(groups) == 1:
            return sa.or_(*(holds(self.column(column), groups[0]) for column in PATIENT_NAME_GROUPS))
        return sa.and_(*(holds(self.column(PATIENT_NAME_GROUPS[position]), group) for position, group in wanted))

    def _names(self, attribute: Attribute) -> Text:
        return self.column(key_columns(attribute)[0])

    # Wild card, C.2.2.2.4

    def _wild_card(self, attribute: Attribute, pattern: str) -> Clause:
        if not pattern.strip("*"):
            return sa.true()
        if len(pattern) - pattern.count("*") > 3 * LONGEST_PATTERN:  # a name has three component groups
            return sa.false()
        if attribute.vr == "PN":
            matches = self._name(attribute, pattern, _folded_pattern, self._name_like)
            groups = (_without_delimiters(_folded_pattern(group)) for group in stored_text(pattern).split("=", 2))
            return self._narrowed(attribute, groups, matches)
        pattern = stored_text(pattern)
        if attribute.has_several_values:
            return self.dialect.some_value(self._text(attribute), lambda value: self._like(value, pattern))
        return self._like(self._text(attribute), pattern)

    def _narrowed(self, attribute: Attribute, patterns: Iterable[str], matches: Clause) -> Clause:
        """Let the trigrams of folded patterns find the rows that may match, where there is nothing better."""
        if attribute is not PATIENT_NAME:
            return matches
        narrow = self.dialect.narrow_by_name(self.column(ROW), trigrams(patterns))
        return matches if narrow is None else sa.and_(narrow, matches)

    def _name_like(self, text: Text, pattern: str) -> Clause:
        """``D?E^*`` finds ``DOE`` too, which is ``DOE^`` written shorter (PS3.5 6.2.1)."""
        shorter = _without_delimiters(pattern)
        if not shorter.strip("*"):
            return sa.true()
        like = self._like(text, pattern)
        return like if shorter == pattern else sa.or_(like, self._like(text, shorter))

    def _like(self, text: Text, pattern: str) -> Clause:
        """Match a pattern; what comes before its first wild card is a range too, which any database index serves."""
        pattern = _shortest(pattern)
        if (characters := len(pattern) - pattern.count("*")) > LONGEST_PATTERN:
            return sa.false()
        prefix = re.split(r"[*?]", pattern, maxsplit=1)[0]
        if prefix == pattern:
            return text == pattern
        clauses = [text >= prefix] if prefix else []
        if after := _after(prefix):
            clauses.append(text < after)
        if characters >= LONG_PATTERN:
            clauses.append(sa.func.length(text) >= characters)
        if pattern != f"{prefix}*":
            clauses.append(self.dialect.like(text, pattern))
        return sa.and_(*clauses)

    # Range, C.2.2.2.5

    def _range(self, attribute: Attribute, first: str | None, last: str | None) -> Clause:
        if first is None and last is None:
            return sa.true()
        columns = key_columns(attribute)
        if attribute.vr == "PN" or not columns:
            return sa.false()
        key, clauses = self.column(columns[0]), []
        for text, until in ((first, False), (last, True)):
            if text is None:
                continue
            end = last_time_key(text) if until and attribute.vr == "TM" else key_of(attribute, text)
            if not _is_key(end):
                return sa.false()
            clauses.append(key <= end if until else key >= end)
        if first is None and attribute.vr in {"DA", "TM"}:
            clauses.append(key > "")
        return sa.and_(*clauses)


def _is_key(key: Key) -> bool:
    return key is not None and key != ""


def _folded_pattern(pattern: str) -> str:
    return folded(pattern).lstrip(" ").rstrip("^ ")


def _without_delimiters(pattern: str) -> str:
    """Give the pattern of the names that leave out what they may: ``D*E^*`` without ``^*``; others as they are."""
    whole = pattern.rstrip("*")
    return whole.rstrip("^ ") if whole != pattern and whole.endswith("^") else pattern


def _counted(text: str) -> str:
    """Write a number as the database does that has counted; other values stay."""
    number = integer_key(text)
    return text if number is None else str(number)


def _shortest(pattern: str) -> str:
    """Give the same pattern with each run of wild cards in its one shortest form: first the ``?``, then one ``*``."""
    return re.sub(r"[*?]+", lambda run: "?" * run[0].count("?") + "*" * ("*" in run[0]), pattern)


def _after(prefix: str) -> str:
    """Give the least text, by code points, that is greater than every text with this prefix; empty if there is none."""
    while prefix:
        prefix, last = prefix[:-1], ord(prefix[-1])
        if last < 0x10FFFF:
            return prefix + chr(0xE000 if last == 0xD7FF else last + 1)
    return ""
