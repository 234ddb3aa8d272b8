"""Change entries of ``[[remote]]`` and ``[[copy]]``, and single values, in the text of a settings file.

Comments and order stay.

What was asked for, and nothing else, has changed in the result: this is compared, so that an unusual file is refused
instead of damaged (docs/adr/0060).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from backup_scp.errors import InvalidSettings
from backup_scp.ports import SettingsChange, SettingValue

_MARK = "\ufeff"  # the byte order mark of editors on Windows
_SECTION = re.compile(r"\s*\[")
_BY_HAND = "The settings file is written in a way that only a person can change: edit it by hand"


def changed(text: str, change: SettingsChange) -> str:
    """Return the text with the change.

    Raises
    ------
    InvalidSettings
        It is no TOML, it has no such entry, or it is written in a way that cannot be changed here.
    """
    return _as_written(text, lambda plain: _changed(plain, change))


def with_values(text: str, news: Mapping[str, Mapping[str, SettingValue]]) -> str:
    """Return the text with values in some sections, which are added where they are missing.

    Raises
    ------
    InvalidSettings
        It is no TOML, or it is written in a way that cannot be changed here.
    """
    return _as_written(text, lambda plain: _with_values(plain, news))


def _as_written(text: str, change: Callable[[str], str]) -> str:
    """Change the text without its byte order mark and with plain ends of lines, and put both back."""
    mark, plain = (_MARK, text[1:]) if text.startswith(_MARK) else ("", text)
    is_dos = "\r\n" in plain and "\n" not in plain.replace("\r\n", "")
    after = change(plain.replace("\r\n", "\n") if is_dos else plain)
    return mark + (after.replace("\n", "\r\n") if is_dos else after)


def _changed(plain: str, change: SettingsChange) -> str:
    before = _parsed(plain)
    entries = before.get(change.kind, [])
    if not isinstance(entries, list):
        raise InvalidSettings(_BY_HAND)
    if not change.name:
        after = _with_new(plain, change, entries)
    elif (number := _number(entries, change.name)) is None:
        raise InvalidSettings(f"The settings file has no [[{change.kind}]] with the name {change.name} any more")
    elif change.values is None:
        after = _without(plain, change.kind, number, entries)
    else:
        after = _with_changed(plain, change.kind, number, change.values)
    if _parsed(after) != _expected(before, change):
        raise InvalidSettings(_BY_HAND)
    return after


def _with_values(plain: str, news: Mapping[str, Mapping[str, SettingValue]]) -> str:
    before, after = _parsed(plain), plain
    expected = dict(before)
    for section, values in news.items():
        there = before.get(section, {})
        if not isinstance(there, dict):
            raise InvalidSettings(_BY_HAND)
        expected[section] = there | _plain(values)
        add = _with_section if section in before else _with_new_section
        after = add(after, section, values)
    if _parsed(after) != expected:
        raise InvalidSettings(_BY_HAND)
    return after


def _with_new_section(text: str, section: str, values: Mapping[str, SettingValue]) -> str:
    block = f"[{section}]\n{tomlkit.dumps(_plain(values))}"
    return f"{text.rstrip()}\n\n{block}" if text.strip() else block


def _with_section(text: str, section: str, values: Mapping[str, SettingValue]) -> str:
    try:
        document = tomlkit.parse(text)
        table: Any = document[section]
    except (TOMLKitError, KeyError):
        raise InvalidSettings(_BY_HAND) from None
    return _with_table(document, table, values, rf"\s*\[\s*{section}\s*\]", 0)


def _parsed(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidSettings(f"The settings file is not TOML ({error})") from None


def _number(entries: Sequence[Any], name: str) -> int | None:
    return next((at for at, entry in enumerate(entries) if isinstance(entry, dict) and entry.get("name") == name), None)


def _expected(before: Mapping[str, Any], change: SettingsChange) -> dict[str, Any]:
    """Return the settings that the new text must have."""
    entries = list(before.get(change.kind, []))
    number = _number(entries, change.name) if change.name else None
    if number is None:
        entries.append(_plain(change.values or {}))
    elif change.values is None:
        del entries[number]
    else:
        entries[number] = entries[number] | _plain(change.values)
    others = {name: value for name, value in before.items() if name != change.kind}
    return others | ({str(change.kind): entries} if entries else {})


def _plain(values: Mapping[str, SettingValue]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _with_new(text: str, change: SettingsChange, entries: Sequence[Any]) -> str:
    """Add an entry below the last one of its list, else at the end."""
    block = tomlkit.dumps({str(change.kind): [_plain(change.values or {})]})
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    at = _block(lines, change.kind, len(entries) - 1)[1] if entries else len(lines)
    above = ["\n"] if at and lines[at - 1].strip() else []
    below = ["\n"] if at < len(lines) and lines[at].strip() else []
    return "".join([*lines[:at], *above, block, *below, *lines[at:]])


def _without(text: str, kind: str, number: int, entries: Sequence[Any]) -> str:
    """Take an entry out, with the empty lines below it; comments that stand apart from it stay."""
    lines = text.splitlines(keepends=True)
    if len(_headers(lines, _list_header(kind))) != len(entries):
        raise InvalidSettings(_BY_HAND)
    begin, end = _block(lines, kind, number)
    while end < len(lines) and not lines[end].strip():
        end += 1
    rest = lines[end:]
    kept = lines[:begin]
    while not rest and kept and not kept[-1].strip():
        kept.pop()
    return "".join([*kept, *rest])


def _with_changed(text: str, kind: str, number: int, values: Mapping[str, SettingValue]) -> str:
    """Set values where they stand; new ones come below the last one of the entry."""
    try:
        document: Any = tomlkit.parse(text)
        table = document[kind][number]
    except (TOMLKitError, KeyError, IndexError, TypeError):
        raise InvalidSettings(_BY_HAND) from None
    return _with_table(document, table, values, _list_header(kind), number)


def _with_table(document: Any, table: Any, values: Mapping[str, SettingValue], header: str, number: int) -> str:
    """Set values of a table; ``header`` finds its first line."""
    try:
        new = {name: value for name, value in _plain(values).items() if name not in table}
        for name, value in _plain(values).items():
            if name in table and table[name] != value:
                table[name] = value
        lines = tomlkit.dumps(document).splitlines(keepends=True)
    except (TOMLKitError, KeyError, IndexError, TypeError):
        raise InvalidSettings(_BY_HAND) from None
    if not new:
        return "".join(lines)
    at = _last_value(lines, _header(lines, header, number)) + 1
    if not lines[at - 1].endswith("\n"):
        lines[at - 1] += "\n"
    return "".join([*lines[:at], tomlkit.dumps(new), *lines[at:]])


def _list_header(kind: str) -> str:
    return rf"\s*\[\[\s*{kind}\s*\]\]"


def _headers(lines: Sequence[str], pattern: str) -> list[int]:
    return [number for number, line in enumerate(lines) if re.match(pattern, line)]


def _header(lines: Sequence[str], pattern: str, number: int) -> int:
    try:
        return _headers(lines, pattern)[number]
    except IndexError:
        raise InvalidSettings(_BY_HAND) from None


def _block(lines: Sequence[str], kind: str, number: int) -> tuple[int, int]:
    """Return the first line of an entry and the one behind its last; comments right below its values are its own.

    Unless they stand right above the next section: then they belong to that.
    """
    begin = _header(lines, _list_header(kind), number)
    end = _last_value(lines, begin) + 1
    below = end
    while below < len(lines) and lines[below].lstrip().startswith("#"):
        below += 1
    is_apart = below == len(lines) or not lines[below].strip()
    return begin, below if is_apart else end


def _last_value(lines: Sequence[str], begin: int) -> int:
    """Return the last line of an entry that is neither empty nor a comment."""
    last = begin
    for number in range(begin + 1, len(lines)):
        if _SECTION.match(lines[number]):
            break
        if lines[number].strip() and not lines[number].lstrip().startswith("#"):
            last = number
    return last
