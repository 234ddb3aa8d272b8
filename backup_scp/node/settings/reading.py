"""Read the TOML file, then the environment, and turn msgspec's errors into plain sentences."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec

from backup_scp.errors import InvalidSettings
from backup_scp.machine.ownership import our_uid, owner_of, user_name, words_to_type
from backup_scp.node.settings.known import (
    CONFIG,
    EXPLAINED,
    HOME,
    LISTS,
    PREFIX,
    TABLES,
    require_known_keys,
    require_known_variable,
)
from backup_scp.node.settings.openid_section import OpenIDSettings
from backup_scp.node.settings.place_in_file import with_line
from backup_scp.node.settings.sections import Sections
from backup_scp.node.settings.values import Settings, require_path, require_usable

DEFAULT_HOME = "backup-scp-data"
_HOMES = (HOME, f"{PREFIX}NODE__HOME")
SYSTEM_FILE = Path("/etc/backup-scp/backup-scp.toml")
"""The settings file when none is named, so that a command finds the service's archive from any working folder."""


def find_file(named: Path | None, environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return the settings file: the named one, else BACKUP_SCP_CONFIG, else the system's, else that in the data folder.

    The last two count if they exist.  An empty BACKUP_SCP_CONFIG means no file at all.
    """
    if named is not None:
        return named
    variable = environment.get(CONFIG)
    if variable is not None:
        return Path(variable) if variable else None
    try:
        if SYSTEM_FILE.is_file():
            return SYSTEM_FILE
    except PermissionError:
        return SYSTEM_FILE  # reading it reports the error
    file = file_in_home(environment)
    with suppress(PermissionError):  # the data folder of another user: the code that needs it reports this
        return file if file.is_file() else None
    return None


def file_in_home(environment: Mapping[str, str]) -> Path:
    """Return the settings file in the folder of all data, which the environment or the default names."""
    named = (environment.get(variable) for variable in _HOMES)
    return Path(next(filter(None, named), DEFAULT_HOME)).expanduser().absolute() / SYSTEM_FILE.name


def load(file: Path | None = None, environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings: defaults, then ``file``, then the environment.

    Raises
    ------
    InvalidSettings
        The text has the place, the error, and what to do.
    """
    text = _read_text(file) if file else ""
    try:
        return load_text(text, file, environment)
    except InvalidSettings as error:
        raise InvalidSettings(with_line(str(error), file, text)) from None


def load_text(text: str, file: Path | None, environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings as ``load`` does when this is the text of the file.

    Raises
    ------
    InvalidSettings
        The text has the place, the error, and what to do.
    """
    raw = _parse(text, file)
    _check(raw, f"{file}: ")
    _override(raw, environment)
    sections = _check(raw, "Environment: ")
    home, home_source = _home(file, sections, environment)
    place = file.absolute() if file else None
    settings = Settings(home=home, home_source=home_source, file=place, **msgspec.structs.asdict(sections))
    require_usable(settings)
    return settings


def read_saved(text: str) -> Sections:
    """Read settings that a copy has.

    Raises
    ------
    InvalidSettings
    """
    import tomllib

    try:
        return _check(tomllib.loads(text), "")
    except tomllib.TOMLDecodeError as error:
        raise InvalidSettings(f"They are no TOML ({error})") from None


def _home(file: Path | None, sections: Sections, environment: Mapping[str, str]) -> tuple[Path, str]:
    """Find the folder of all data, and the setting that names it.

    A relative path in the file is relative to the file's folder, so it does not depend on the working folder.
    """
    for variable in _HOMES:
        if folder := environment.get(variable):
            return Path(folder).expanduser().absolute(), variable
    if sections.node.home and file is not None:
        require_path(sections.node.home, "[node] home")
        return file.absolute().parent / Path(sections.node.home).expanduser(), f"[node] home in {file}"
    return Path(DEFAULT_HOME).absolute(), ""


def _check(raw: dict[str, Any], source: str) -> Sections:
    """Convert the raw values to sections; raise for unknown names and invalid values."""
    require_known_keys(raw, source)
    sections = _convert(raw, source)
    for place, text in _texts(raw):
        if found := _CONTROL.search(text):
            raise InvalidSettings(
                f'{source}{_plain_place(place)}: it holds a control character ({found[0]!a}). In "double quotes" '
                "a backslash begins one: write a Windows path in 'single quotes'"
            )
    return sections


def _texts(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text, with its place as msgspec writes it."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _texts(each, f"{place}.{key}" if place else key)
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from _texts(each, f"{place}[{number}]")


def _convert(raw: dict[str, Any], source: str) -> Sections:
    try:
        return msgspec.convert(raw, Sections)
    except msgspec.ValidationError as error:
        raise InvalidSettings(source + _sentence(str(error))) from error


def _read_text(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except PermissionError:
        raise InvalidSettings(_closed(file)) from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InvalidSettings(f"The settings file {file} cannot be read ({reason}): check --config") from error
    except UnicodeDecodeError as error:
        raise InvalidSettings(f"The settings file {file} is not UTF-8 text: save it as UTF-8") from error


def _parse(text: str, file: Path | None) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(text.removeprefix("\ufeff"))  # editors on Windows write a byte order mark
    except tomllib.TOMLDecodeError as error:
        hint = "text stands in quotes, a Windows path in 'single quotes'"
        raise InvalidSettings(f"The settings file {file} is not TOML ({error}): {hint}") from error


def _closed(file: Path) -> str:
    owner, sentence = owner_of(file), f"The settings file {file} cannot be read (Permission denied)"
    if owner is None:
        return sentence
    us = user_name(our_uid() or 0)
    return f"{sentence}: it belongs to {owner.name}, and you are {us}: type  {words_to_type(owner)}"


def _override(raw: dict[str, Any], environment: Mapping[str, str]) -> None:
    for variable, text in environment.items():
        if not variable.startswith(PREFIX):
            continue
        require_known_variable(variable, text)
        section, separator, key = variable.removeprefix(PREFIX).lower().partition("__")
        if variable in LISTS:
            raw[LISTS[variable]] = _list(variable, text)
        elif separator:
            table = raw.setdefault(section, {})
            if isinstance(table, dict):  # the check after this refuses what is no table
                table[key] = _scalar(variable, section, key, text)


def _scalar(variable: str, section: str, key: str, text: str) -> Any:
    sections = {field.name: field.type for field in msgspec.structs.fields(Sections)}
    wanted = {field.name: field.type for field in msgspec.structs.fields(sections[section])}
    try:
        is_text = wanted[key] not in {tuple[str, ...], OpenIDSettings}
        given = text if is_text else msgspec.json.decode(text)
        return msgspec.convert(given, wanted[key], strict=False)
    except msgspec.DecodeError as error:
        raise InvalidSettings(f"{variable}: {_sentence(str(error), f'{section}.{key}')}") from error


_EXAMPLES = {
    "remote": '[{"name": "console", "ae_title": "DR1", "host": "192.168.1.20"}]',
    "copy": '[{"name": "drive", "url": "file:///media/backup"}]',
}


def _list(variable: str, text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        example = _EXAMPLES[LISTS[variable]]
        raise InvalidSettings(f"{variable} is not JSON: write a list such as {example}") from error


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_PLACE = re.compile(r" - at `\$\.?(?P<place>[^`]*)`$")
_WORDS = (
    (r"Object missing required field `(.+)`", r"\1 is missing"),
    (r"Object contains unknown field `(.+)`", r"there is no setting \1"),
    (r", got `.*", ""),
    (r"`str` of length <= (\d+)", r"at most \1 characters"),
    (r"`str` of length >= 1", "some text"),
    (r"`int` >= (\d+)", r"a whole number, at least \1"),
    (r"`int` <= (\d+)", r"a whole number, at most \1"),
    (r"`float` >= (.+)", r"a number, at least \1"),
    (r"`float` > (.+)", r"a number above \1"),
    ("`int`", "a whole number"),
    ("`float`", "a number"),
    ("`str`", "text in quotes"),
    ("`bool`", "true or false"),
    ("`object`", "a section in [brackets]"),
    ("`array`", "a list"),
)


def _sentence(message: str, setting: str = "") -> str:
    """Turn msgspec's message into a plain sentence: the place first, no names of Python types.

    Parameters
    ----------
    setting
        Section and key, where the message names no place.
    """
    found = _PLACE.search(message)
    what = _PLACE.sub("", message)
    if what.startswith("Invalid enum value"):
        what = f"expected {_choices(found['place'] if found else setting)}"
    for pattern, words in _WORDS:
        what = re.sub(pattern, words, what)
    what = what[:1].lower() + what[1:]
    if found and found["place"] in LISTS.values():
        what += f": write [[{found['place']}]] in double brackets"
    place = _plain_place(found["place"]) if found else ""
    return f"{place + ': ' if place else ''}{what}; {EXPLAINED}"


def _choices(place: str) -> str:
    """Return the values that a setting can have, in words; the place is as msgspec writes it."""
    of_key: Any = Sections
    for key in re.findall(r"[a-z_]\w*", place):
        kind = next((part for part in get_args(of_key) if part is not ...), of_key)  # of a list
        of_key = next(field.type for field in msgspec.structs.fields(kind) if field.name == key)
    options = list(_options(of_key))
    return " or ".join(filter(None, [", ".join(options[:-1]), options[-1]]))


def _options(kind: Any) -> Iterator[str]:
    if get_origin(kind) is Literal:
        yield from (f'"{value}"' for value in get_args(kind))
    elif kind is bool:
        yield "true, false"
    else:
        for part in get_args(kind):
            yield from _options(part)


def _plain_place(place: str) -> str:
    """Write ``node.port`` as ``[node] port``, and ``remote[1].host`` as ``[[remote]] number 2, host``."""
    if found := re.fullmatch(r"(\w+)\[(\d+)\]\.?(.*)", place):
        return f"[[{found[1]}]] number {int(found[2]) + 1}" + (f", {found[3]}" if found[3] else "")
    section, _, key = place.partition(".")
    if table := next((table for table in TABLES if f"{place}.".startswith(f"{table}.")), ""):
        inner = re.sub(r"\[(\d+)\]\.?", lambda found: f" number {int(found[1]) + 1}, ", place.removeprefix(table))
        section, key = table, inner.strip(".").removesuffix(", ")
    return f"[{section}] {key}".strip() if section else ""
