"""SQL for the negotiated kinds of matching: date with time, and fuzzy person names (PS3.4 C.5.1.1)."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable

import sqlalchemy as sa

from backup_scp.dicom.attributes import Attribute
from backup_scp.dicom.query.information_model import DateTimeRange
from backup_scp.dicom.value_representation import last_time_key
from backup_scp.index.reading.deferred import Expression, defer, value_of
from backup_scp.index.schema.dialect import Dialect, Text
from backup_scp.index.schema.search_keys import folded, key_columns, key_of

MOST_WORDS = 32
"""Maximum number of words of a component group, which has at most 64 characters (PS3.5 6.2, PN)."""

LONGEST_WORD = 512
"""Maximum number of characters of a folded component group in the index."""

_SEPARATORS = "^,-"
_STARS = re.compile(r"\*+")


def in_date_time_range(attribute: Attribute, wanted: DateTimeRange, column: Callable[[str], Expression]) -> Expression:
    """Match a date and its time as one combined value (PS3.4 C.2.2.2.5).

    An entity on the first or last day without a time matches, since it may lie in the range; one without a date does
    not.  A range with an invalid end matches nothing.
    """
    date, time = (column(key_columns(each)[0]) for each in (attribute, wanted.time))
    clauses = [value_of(operator.gt, date, "")]
    if wanted.first:
        day, moment = key_of(attribute, wanted.first[0]), key_of(wanted.time, wanted.first[1])
        if not day or not moment:
            return defer(sa.false)
        later = value_of(operator.gt, date, day), value_of(operator.eq, time, ""), value_of(operator.ge, time, moment)
        clauses += [value_of(operator.ge, date, day), defer(sa.or_, *later)]
    if wanted.last:
        day, moment = key_of(attribute, wanted.last[0]), last_time_key(wanted.last[1])
        if not day or not moment:
            return defer(sa.false)
        earlier = value_of(operator.lt, date, day), value_of(operator.le, time, moment)
        clauses += [value_of(operator.le, date, day), defer(sa.or_, *earlier)]
    return defer(sa.and_, *clauses)


def words_of(name: str) -> str:
    """Fold one component group of a fuzzy key; return its distinct words, joined by spaces."""
    words = re.split(rf"[{re.escape(_SEPARATORS)} ]+", folded(name))
    return " ".join(dict.fromkeys(word for word in words if word.strip("*")))


def has_words(dialect: Dialect, group: Expression, words: str) -> Expression:
    """Match a folded component group in which, for each word, some word begins with it.

    The group then contains each word.  The SQL states this too, because PostgreSQL's trigram index serves only that.
    """
    wanted = words.split(" ")
    if len(wanted) > MOST_WORDS or max(map(len, wanted)) > LONGEST_WORD:
        return defer(sa.false)

    def like(text: Expression, word: str) -> Expression:
        return value_of(dialect.like, text, dialect.pattern(_STARS.sub("*", word)))

    spaced = defer(_spaced, group)
    return defer(
        sa.and_, *(like(group, f"*{word}*") for word in wanted), *(like(spaced, f"* {word}*") for word in wanted)
    )


def _spaced(group: Text) -> Text:
    """Return a group with a space before each word."""
    spaced: Text = sa.literal(" ").concat(group)
    for separator in _SEPARATORS:
        spaced = sa.func.replace(spaced, separator, " ", type_=sa.Text())
    return spaced
