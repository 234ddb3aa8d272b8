r"""Attribute Matching of PS3.4 C.2.2.2 in the simplest code: no index, no SQL.

Where the standard leaves a choice, this is what the node says that it does:

- person names match without regard to case, accents and width; ``DOE^`` is ``DOE``; a key with one component group is
  looked for in each group, of several each is looked for in its own (of other people than the patient: in each);
- everything else is case-sensitive; dates, times and numbers match by what they mean, else as they are written;
- ``10`` is ``1000``, and the last time of a range includes what it leaves open;
- stars alone are universal in every VR, and so are the delimiters of a name (``*^*``);
- a list is any of its values, and universal where it has wild cards;
- an attribute of several values matches when one of them does.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Mapping
from hashlib import sha256

from pydicom.datadict import dictionary_VM

from backup_scp.dicom.attributes import BY_KEYWORD, UNIQUE_KEY, Attribute

Values = dict[str, str]

WILD_CARD_VRS = ("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT")  # C.2.2.2.4
MULTIPLE_VALUE_VRS = ("AE", "AS", "AT", "CS", "LO", "PN", "SH", "UC")  # C.2.2.2.8
ONE_TEXT_VRS = ("LT", "ST", "UR", "UT")  # PS3.5 6.2: no backslash separates anything in them
INDEXED = ("PatientID", "IssuerOfPatientID", "AccessionNumber", "StudyID")


def without_padding(text: str, vr: str) -> str:
    if vr in ONE_TEXT_VRS:
        return text.partition("\0")[0].rstrip()
    return "\\".join(value.partition("\0")[0].strip() for value in text.split("\\"))


def first_value(attribute: Attribute, text: str) -> str:
    """What a writer of C strings has left over behind its NUL is not there, also where it has a backslash."""
    listed = has_several_values(attribute) or attribute.vr == "UI"
    return text if listed else text.partition("\0")[0]


def shortened(text: str) -> str:
    """A value of more than 512 bytes keeps its beginning, and ends in its digest (ADR 4)."""
    if len(text.encode()) <= 512:
        return text
    return text.encode()[: 512 - 67].decode(errors="ignore") + "…" + sha256(text.encode()).hexdigest()


def as_held(attribute: Attribute, text: str) -> str:
    text = without_padding(first_value(attribute, text), attribute.vr)[:1024].rstrip(
        " "
    )  # only so much of a long value is held
    return shortened(text) if is_indexed(attribute) else text


def is_indexed(attribute: Attribute) -> bool:
    return attribute.keyword in INDEXED or attribute in UNIQUE_KEY.values()


def entity_matches(row: Values, keys: Mapping[str, str], negotiated: Collection[str]) -> bool:
    combined = _date_times(keys) if "date_time" in negotiated else {}
    for keyword, key in keys.items():
        if keyword.removesuffix("Time") + "Date" in combined:
            continue
        if keyword in combined:
            if not _in_date_time_range(row, keyword, *combined[keyword]):
                return False
        elif not value_matches(BY_KEYWORD[keyword], row[keyword], key, negotiated):
            return False
    return True


def value_matches(attribute: Attribute, stored: str, key: str, negotiated: Collection[str] = ()) -> bool:
    vr = attribute.vr
    key = without_separators(vr, without_padding(first_value(attribute, key), vr))
    values = [key] if vr in ONE_TEXT_VRS else [value for value in key.split("\\") if value]
    wild = vr in WILD_CARD_VRS and bool(set("*?") & set(key))
    if "empty_values" in negotiated and key == '""':
        return not stored  # C.2.2.2.7
    if not any(value.strip("* ^=" if vr == "PN" else "* ") for value in values) or (wild and len(values) > 1):
        return True  # C.2.2.2.3
    if (ends := range_of(vr, key)) is not None:
        return not any(ends) or in_range(vr, stored, *ends)
    values = list(dict.fromkeys(values))
    if len(values) > 1 and vr != "UI" and not has_several_values(attribute):
        values.insert(0, key)  # a backslash in a value of Multiplicity 1 is a part of it
    every = "multiple_values" in negotiated and vr in MULTIPLE_VALUE_VRS and has_several_values(attribute)
    if vr == "PN":
        return name_matches(attribute, stored, values, wild=wild, every=every, fuzzy="fuzzy_names" in negotiated)
    several = stored.split("\\") if has_several_values(attribute) else [stored]
    if wild:
        return any(like(each, values[0]) for each in several)  # C.2.2.2.4
    found = [any(same(attribute, each, value) for each in several) for value in values]  # C.2.2.2.1, C.2.2.2.2
    return all(found) if every else any(found)  # C.2.2.2.8


def has_several_values(attribute: Attribute) -> bool:
    return dictionary_VM(attribute.tag) != "1"


def same(attribute: Attribute, stored: str, value: str) -> bool:
    meanings: dict[str, Callable[[str], object]] = {"DA": day, "TM": moment, "IS": integer, "DS": decimal}
    meaning = meanings.get(attribute.vr)
    if meaning is None or meaning(value) is None:
        return stored == (shortened(value) if is_indexed(attribute) else value)
    return meaning(stored) == meaning(value)


def like(text: str, pattern: str) -> bool:
    """``*`` is any run of characters, none too; ``?`` is one."""
    reached = {0}
    for sign in pattern:
        if sign == "*":
            reached = set(range(min(reached), len(text) + 1))
        else:
            reached = {n + 1 for n in reached if n < len(text) and sign in ("?", text[n])}
        if not reached:
            return False
    return len(text) in reached


# Numbers, dates and times: PS3.5 6.2


def integer(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[+-]?[0-9]+", text) else None


def decimal(text: str) -> float | None:
    return float(text) if re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text) else None


def day(text: str) -> str | None:
    text = text.rstrip(".")
    found = re.fullmatch(r"([0-9]{4})[./-]?([0-9]{2})[./-]?([0-9]{2})", text)
    found = found or re.fullmatch(r"([0-9]{4})([0-9]{2})([0-9]{2})" + TIME_OF_DT, text)
    return "".join(found.groups()) if found else None


TIME_OF_DT = r"(?:[0-9]{2}){1,3}(?:\.[0-9]*)?(?:[+-][0-9]{4})?"


def moment(text: str, rest: str = "000000000000") -> int | None:
    """Return microseconds from digits of HHMMSSFFFFFF; missing digits are taken from ``rest``."""
    text = text.rstrip(".")
    if re.fullmatch(r"[0-9]{8}" + TIME_OF_DT, text):
        text = re.split("[+-]", text[8:])[0].rstrip(".")
    if not re.fullmatch(r"[0-9]{2}(:?[0-9]{2}(:?[0-9]{2}(\.[0-9]+)?)?)?", text):
        return None
    digits = text.replace(":", "").replace(".", "")[:12]
    return int(digits + rest[len(digits) :])


def without_separators(vr: str, key: str) -> str:
    """Hyphens inside of a date written YYYY-MM-DD make no range."""
    if vr == "DA":
        return re.sub(r"([0-9]{4})[./-]([0-9]{2})[./-]([0-9]{2})", r"\1\2\3", key)
    return key.replace(":", "") if vr == "TM" else key


def range_of(vr: str, key: str) -> tuple[str, str] | None:
    """Range Matching, C.2.2.2.5."""
    if vr not in ("DA", "TM"):
        return None
    key = without_separators(vr, key)
    if re.fullmatch(r"[0-9]{8}" + TIME_OF_DT, key):
        return None
    first, hyphen, last = key.partition("-")
    return (first.strip(), last.strip()) if hyphen and "-" not in last else None


def in_range(vr: str, stored: str, first: str, last: str) -> bool:
    def meaning(text: str, rest: str = "000000000000") -> str | int | None:
        return day(text) if vr == "DA" else moment(text, rest)

    value, low, high = meaning(stored), meaning(first), meaning(last, "235959999999")
    if value is None or (first and low is None) or (last and high is None):
        return False
    return (not first or low <= value) and (not last or value <= high)  # type: ignore[operator]


def _date_times(keys: Mapping[str, str]) -> dict[str, tuple[tuple[str, str], tuple[str, str]]]:
    """Give the dates whose range makes one with that of their time: both have the same ends."""
    combined = {}
    for keyword, key in keys.items():
        time = keyword.removesuffix("Date") + "Time"
        if keyword.endswith("Date") and keys.get(time):
            dates, times = range_of("DA", key.strip()), range_of("TM", keys[time].strip())
            if dates and times and any(dates) and [bool(d) for d in dates] == [bool(t) for t in times]:
                combined[keyword] = (dates, times)
    return combined


def _in_date_time_range(row: Values, keyword: str, dates: tuple[str, str], times: tuple[str, str]) -> bool:
    """Without a time, any time of the day may match; without a date, nothing matches."""
    stored, time = day(row[keyword]), moment(row[keyword.removesuffix("Date") + "Time"])
    if stored is None:
        return False
    for date, at, is_last in ((dates[0], times[0], False), (dates[1], times[1], True)):
        if date:
            end, end_time = day(date), moment(at, "235959999999" if is_last else "000000000000")
            if end is None or end_time is None:
                return False
            if stored == end and time is not None and time != end_time and (time > end_time) == is_last:
                return False
            if stored != end and (stored > end) == is_last:
                return False
    return True


# Person names: PS3.5 6.2.1


def folded(text: str) -> str:
    """Take away case, accents and width, but make no sign of matching out of what only looks like one."""
    out = ""
    for character in unicodedata.normalize("NFC", text):
        plain = unicodedata.normalize("NFKD", character)
        if character.isascii() or not set(plain) & set("*?^=\\"):
            out += "".join(c for c in plain if not unicodedata.combining(c))
        else:
            out += character
    return unicodedata.normalize("NFC", out.casefold()).lstrip(" ").rstrip("^ ")


def groups_of(name: str) -> list[str]:
    return [folded(group) for group in name.split("=", 2)]


def name_matches(attribute: Attribute, stored: str, values: list[str], *, wild: bool, every: bool, fuzzy: bool) -> bool:
    is_patient = attribute.keyword == "PatientName"
    people = [[shortened(g) for g in groups_of(name)] for name in ([stored] if is_patient else stored.split("\\"))]
    if len(values) > 1 and not every:
        wanted = {shortened(group) for value in values for group in groups_of(value)} - {""}
        return any(group in wanted for groups in people for group in groups)
    if fuzzy and len(values) == 1:
        wanted_words = [group if words_of(group) else "" for group in groups_of(values[0])]
        return _one_name_matches(people, wanted_words, has_words, by_place=is_patient)
    holds = name_like if wild else lambda group, key: group == shortened(key)
    return all(_one_name_matches(people, groups_of(value), holds, by_place=is_patient) for value in values)


def _one_name_matches(
    people: list[list[str]], wanted: list[str], holds: Callable[[str, str], bool], *, by_place: bool
) -> bool:
    if not any(wanted):
        return False
    if by_place and len(wanted) > 1:
        (groups,) = people
        return all(holds(group, key) for group, key in zip([*groups, "", ""], wanted, strict=False) if key)
    return all(any(holds(group, key) for groups in people for group in groups if group) for key in wanted if key)


def name_like(group: str, pattern: str) -> bool:
    """Delimiters at the end of a name may be left out: ``DOE^*`` matches ``DOE`` as well."""
    whole = pattern.rstrip("*")
    shorter = whole.rstrip("^ ")
    return like(group, pattern) or (whole != pattern and whole.endswith("^") and like(group, shorter or "*"))


def has_words(group: str, key: str) -> bool:
    """Each word of the key, in any order, begins a word of the name; a star goes over blanks."""
    return all(like(" " + re.sub("[ ^,-]", " ", group), f"* {word}*") for word in words_of(key))


def words_of(key: str) -> list[str]:
    return [word for word in re.split("[ ^,-]+", key) if word.strip("*")]
