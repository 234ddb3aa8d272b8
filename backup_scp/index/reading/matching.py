"""Translate conditions to SQL, with matching as in PS3.4 C.2.2.2.

Text is compared case-sensitively, person names without case and accents, dates, times and numbers by value.  A range of
times includes the digits that its last value leaves out: ``-1159`` ends at 11:59:59.999999.  When a condition is no
valid value (the date ``yesterday``), a single value is compared as text, and a range matches nothing.
"""

from __future__ import annotations

import operator
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
from backup_scp.index.reading.deferred import Expression, defer, given, value_of
from backup_scp.index.reading.extended_matching import has_words, in_date_time_range, words_of
from backup_scp.index.schema.dialect import Clause, Dialect, ItemValue, Text
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
from backup_scp.index.schema.trigrams import match_of, named_like, trigrams

MOST_VALUES = 100
"""Limit for Multiple Value Matching; no entity has as many values, and SQLite joins at most 1000 conditions by AND."""

LONGEST_PATTERN = VALUE_CHARACTERS
"""Limit of characters other than ``*``: no stored value is longer, and SQLite's limit is 50,000 bytes."""

LONG_PATTERN = 64
"""For patterns with more characters than this (without ``*``), the SQL first compares the length of the value: the
time for a pattern grows with the product of both lengths, and few values are long (PS3.5 Table 6.2-1)."""

ROW = "id"
"""Column name by which a ``ColumnOf`` returns the id of the study row."""

ColumnOf = Callable[[str], Expression]
"""Returns the column or expression for a column name."""

_NOTHING, _EVERYTHING = defer(sa.false), defer(sa.true)


@dataclass(frozen=True, slots=True)
class Matcher:
    """Translates the conditions of one query to SQL.

    Parameters
    ----------
    dialect
        The engine's dialect.
    column
        Returns the columns of an attribute, by ``Attribute.column`` and ``key_columns``.
    narrows
        Whether trigrams may narrow the rows of a search for a name.
    """

    dialect: Dialect
    column: ColumnOf
    narrows: bool = True

    def clause(self, condition: Condition) -> Expression:
        """Translate one condition."""
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
                return defer(sa.or_, *(self.clause(Condition(attribute, one)) for one in matchings))
            case OneItem(conditions):
                sequence = self.column(attribute.column).with_values()
                return given(self.dialect.some_item(sequence, partial(self._all, conditions)))
            case _:
                return self._negotiated(attribute, matching)

    # Sequence, C.2.2.2.6

    def items_that_match(self, condition: Condition) -> Text:
        """Select the items of a sequence that match; only these are returned."""
        matching, sequence = condition.matching, self.column(condition.attribute.column).with_values()
        conditions = matching.conditions if isinstance(matching, OneItem) else ()
        return self.dialect.items_that(sequence, partial(self._all, conditions))

    def _all(self, conditions: Iterable[Condition], item: ItemValue) -> Clause:
        matcher = Matcher(self.dialect, lambda keyword: given(item(keyword)))
        return sa.and_(sa.true(), *(matcher.clause(condition).with_values() for condition in conditions))

    # Negotiated matching, C.5.1.1

    def _negotiated(self, attribute: Attribute, matching: AllOf | Empty | FuzzyName | DateTimeRange) -> Expression:
        match matching:
            case AllOf(values):
                held = len(values) <= MOST_VALUES
                return defer(sa.and_, *(self._any_of(attribute, [value]) for value in values)) if held else _NOTHING
            case Empty():
                return value_of(operator.eq, self._text(attribute), "")
            case FuzzyName(name):
                matches = self._name(attribute, name, words_of, self._has_words)
                words = (word for group in stored_text(name).split("=", 2) for word in words_of(group).split())
                return self._narrowed(attribute, (f"*{word}*" for word in words), matches)
            case DateTimeRange():
                return in_date_time_range(attribute, matching, self.column)

    def _has_words(self, text: Expression, words: str) -> Expression:
        return has_words(self.dialect, text, words)

    # Single value and list, C.2.2.2.1 and C.2.2.2.2

    def _any_of(self, attribute: Attribute, values: list[str]) -> Expression:
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
        return defer(sa.or_, *clauses)

    def _text_among(self, attribute: Attribute, texts: list[str]) -> Expression:
        text = self._text(attribute)
        if not attribute.has_several_values:
            return self._among(text, texts)
        if len(texts) == 1 and "\\" not in texts[0]:
            return value_of(self.dialect.one_value_is, text, f"\\{texts[0]}\\")
        several = [value for values in texts for value in values.split("\\")]
        return self._some_value(text, lambda value: self._among(value, several))

    def _some_value(self, text: Expression, holds: Callable[[Expression], Expression]) -> Expression:
        return given(self.dialect.some_value(text.with_values(), lambda value: holds(given(value)).with_values()))

    def _among(self, text: Expression, values: list[Key] | list[str]) -> Expression:
        return value_of(operator.eq, text, values[0]) if len(values) == 1 else self._listed(text, values)

    def _text(self, attribute: Attribute) -> Expression:
        return defer(as_text, self.column(attribute.column))

    # Person names: C.2.2.2.1, any case; any of the three component groups

    def _any_name(self, attribute: Attribute, values: list[str]) -> Expression:
        if len(values) == 1:
            return self._name(attribute, values[0], folded_group, partial(value_of, operator.eq))
        groups = [key for value in values for group in value.split("=") if (key := folded_group(stored_text(group)))]
        if attribute is PATIENT_NAME:
            return defer(sa.or_, *(self._listed(self.column(name), groups) for name in PATIENT_NAME_GROUPS))
        return self._some_value(self._names(attribute), lambda name: self._listed(name, groups))

    def _listed(self, text: Expression, values: Iterable[object]) -> Expression:
        return given(self.dialect.among(text.with_values(), values))

    def _name(
        self,
        attribute: Attribute,
        name: str,
        fold: Callable[[str], str],
        holds: Callable[[Expression, str], Expression],
    ) -> Expression:
        """Match a name: a single group matches any group; several each match their own group, except empty ones."""
        groups = [fold(group) for group in stored_text(name).split("=", 2)]
        wanted = [(position, group) for position, group in enumerate(groups) if group]
        if not wanted:
            return _NOTHING
        if attribute is not PATIENT_NAME:
            names = self._names(attribute)
            return defer(
                sa.and_,
                *(self._some_value(names, lambda each, g=group: holds(each, g)) for _, group in wanted),  # type: ignore[misc]
            )
        if len(groups) == 1:
            return defer(sa.or_, *(holds(self.column(column), groups[0]) for column in PATIENT_NAME_GROUPS))
        return defer(sa.and_, *(holds(self.column(PATIENT_NAME_GROUPS[position]), group) for position, group in wanted))

    def _names(self, attribute: Attribute) -> Expression:
        return self.column(key_columns(attribute)[0])

    # Wild card, C.2.2.2.4

    def _wild_card(self, attribute: Attribute, pattern: str) -> Expression:
        if not pattern.strip("*"):
            return _EVERYTHING
        if len(pattern) - pattern.count("*") > 3 * LONGEST_PATTERN:  # times 3: a name has three component groups
            return _NOTHING
        if attribute.vr == "PN":
            matches = self._name(attribute, pattern, _folded_pattern, self._name_like)
            groups = (_without_delimiters(_folded_pattern(group)) for group in stored_text(pattern).split("=", 2))
            return self._narrowed(attribute, groups, matches)
        pattern = stored_text(pattern)
        if attribute.has_several_values:
            return self._some_value(self._text(attribute), lambda value: self._like(value, pattern))
        return self._like(self._text(attribute), pattern)

    def _narrowed(self, attribute: Attribute, patterns: Iterable[str], matches: Expression) -> Expression:
        """Narrow the rows by the trigrams of folded patterns, when no better database index applies."""
        can_narrow = self.narrows and attribute is PATIENT_NAME and self.dialect.has_trigrams
        if not can_narrow or not (wanted := trigrams(patterns)):
            return matches
        return defer(sa.and_, value_of(named_like, self.column(ROW), match_of(wanted)), matches)

    def _name_like(self, text: Expression, pattern: str) -> Expression:
        """Match a name pattern; ``D?E^*`` also matches ``DOE``, which is short for ``DOE^`` (PS3.5 6.2.1)."""
        shorter = _without_delimiters(pattern)
        if not shorter.strip("*"):
            return _EVERYTHING
        like = self._like(text, pattern)
        return like if shorter == pattern else defer(sa.or_, like, self._like(text, shorter))

    def _like(self, text: Expression, pattern: str) -> Expression:
        """Match a pattern; its text before the first wild card is also a range, which a database index serves."""
        pattern = _shortest(pattern)
        if (characters := len(pattern) - pattern.count("*")) > LONGEST_PATTERN:
            return _NOTHING
        prefix = re.split(r"[*?]", pattern, maxsplit=1)[0]
        if prefix == pattern:
            return value_of(operator.eq, text, pattern)
        clauses = [value_of(operator.ge, text, prefix)] if prefix else []
        if after := _after(prefix):
            clauses.append(value_of(operator.lt, text, after))
        if characters >= LONG_PATTERN:
            clauses.append(value_of(operator.ge, defer(_length, text), characters))
        if pattern != f"{prefix}*":
            clauses.append(value_of(self.dialect.like, text, self.dialect.pattern(pattern)))
        return defer(sa.and_, *clauses)

    # Range, C.2.2.2.5

    def _range(self, attribute: Attribute, first: str | None, last: str | None) -> Expression:
        if first is None and last is None:
            return _EVERYTHING
        columns = key_columns(attribute)
        if attribute.vr == "PN" or not columns:
            return _NOTHING
        key, clauses = self.column(columns[0]), []
        for text, until in ((first, False), (last, True)):
            if text is None:
                continue
            end = last_time_key(text) if until and attribute.vr == "TM" else key_of(attribute, text)
            if not _is_key(end):
                return _NOTHING
            clauses.append(value_of(operator.le if until else operator.ge, key, end))
        if first is None and attribute.vr in {"DA", "TM"}:
            clauses.append(value_of(operator.gt, key, ""))
        return defer(sa.and_, *clauses)


def as_text(column: Text) -> Text:
    """Return the column as text; computed numbers are numbers in the database."""
    return column if isinstance(column.type, sa.Text) else sa.cast(column, sa.Text)


def _length(text: Text) -> Text:
    return sa.func.length(text)


def _is_key(key: Key) -> bool:
    return key is not None and key != ""


def _folded_pattern(pattern: str) -> str:
    return folded(pattern).lstrip(" ").rstrip("^ ")


def _without_delimiters(pattern: str) -> str:
    """Return a pattern without its trailing ``^*``, which a name may omit (``D*E^*``); others unchanged."""
    whole = pattern.rstrip("*")
    return whole.rstrip("^ ") if whole != pattern and whole.endswith("^") else pattern


def _counted(text: str) -> str:
    """Format a number as the database formats a count; return other values unchanged."""
    number = integer_key(text)
    return text if number is None else str(number)


def _shortest(pattern: str) -> str:
    """Shorten each run of wild cards in a pattern to an equal one: first the ``?``, then one ``*``."""
    return re.sub(r"[*?]+", lambda run: "?" * run[0].count("?") + "*" * ("*" in run[0]), pattern)


def _after(prefix: str) -> str:
    """Return the least text, by code points, after all texts with this prefix; empty if there is none."""
    while prefix:
        prefix, last = prefix[:-1], ord(prefix[-1])
        if last < 0x10FFFF:
            return prefix + chr(0xE000 if last == 0xD7FF else last + 1)
    return ""
