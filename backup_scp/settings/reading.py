"""One TOML file, then the environment; what msgspec says of them in a person's words."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from backup_scp.errors import InvalidSettings
from backup_scp.settings.sections import Sections
from backup_scp.settings.values import Settings, require_usable

PREFIX = "BACKUP_SCP_"
HOME = "BACKUP_SCP_HOME"
REMOTE = "BACKUP_SCP_REMOTE"
DEFAULT_HOME = "backup-scp-data"


def load(file: Path | None = None, environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings: defaults, then ``file``, then the environment.

    Raises
    ------
    InvalidSettings
        With the place, what is wrong with it, and what to do.
    """
    raw = _read_toml(file) if file else {}
    _convert(raw, f"{file}: ")
    _override(raw, environment)
    sections = _convert(raw, "Environment: ")
    home = Path(environment.get(HOME) or DEFAULT_HOME).expanduser().absolute()
    settings = Settings(home=home, **{name: getattr(sections, name) for name in Sections.__struct_fields__})
    require_usable(settings)
    return settings


def _convert(raw: dict[str, Any], source: str) -> Sections:
    try:
        return msgspec.convert(raw, Sections)
    except msgspec.ValidationError as error:
        raise InvalidSettings(source + _sentence(str(error))) from error


def _read_toml(file: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(file.read_text("utf-8-sig"))  # editors on Windows begin a file with a byte order mark
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InvalidSettings(f"The settings file {file} cannot be read ({reason}): check --config") from error
    except UnicodeDecodeError as error:
        raise InvalidSettings(f"The settings file {file} is not UTF-8 text: save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        hint = "text stands in quotes, a Windows path in 'single quotes'"
        raise InvalidSettings(f"The settings file {file} is not TOML ({error}): {hint}") from error


def _override(raw: dict[str, Any], environment: Mapping[str, str]) -> None:
    for variable, text in environment.items():
        if variable == REMOTE:
            raw["remote"] = _remote_list(text)
        elif variable.startswith(PREFIX) and "__" in variable:
            section, key, value = _scalar(variable, text)
            table = raw.setdefault(section, {})
            if isinstance(table, dict):  # what is not a table is refused with the rest
                table[key] = value


def _scalar(variable: str, text: str) -> tuple[str, str, Any]:
    section, _, key = variable.removeprefix(PREFIX).lower().partition("__")
    fields = {field.name: field for field in msgspec.structs.fields(Sections)}
    if section not in fields or section == "remote":
        raise InvalidSettings(f"{variable}: there is no section [{section}] that it could set; {_KNOWN}")
    wanted = {field.name: field.type for field in msgspec.structs.fields(fields[section].type)}
    if key not in wanted:
        raise InvalidSettings(f"{variable}: [{section}] has no setting {key}; it has {', '.join(wanted)}")
    try:
        return section, key, msgspec.convert(text, wanted[key], strict=False)
    except msgspec.ValidationError as error:
        raise InvalidSettings(f"{variable}: {_sentence(str(error))}") from error


def _remote_list(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        example = '[{"name": "console", "ae_title": "DR1", "host": "192.168.1.20"}]'
        raise InvalidSettings(f"{REMOTE} is not JSON: write a list such as {example}") from error


_KNOWN = "the sections are " + ", ".join(f"[{name}]" for name in Sections.__struct_fields__ if name != "remote")
_PLACE = re.compile(r" - at `\$\.?(?P<place>[^`]*)`$")
_WORDS = (
    (r"Object contains unknown field `(.+)`", r"there is no setting \1"),
    (r"Object missing required field `(.+)`", r"\1 is missing"),
    (r"Invalid enum value .*", "expected DEBUG, INFO, WARNING or ERROR"),  # [log] level is the only one
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
    ("`array`", "a list: write [[remote]] in double brackets"),
)


def _sentence(message: str) -> str:
    """Turn msgspec's words into a person's: the place first, no types of a programming language."""
    found = _PLACE.search(message)
    what = _PLACE.sub("", message)
    for pattern, words in _WORDS:
        what = re.sub(pattern, words, what)
    what = what[:1].lower() + what[1:]
    place = _plain_place(found["place"]) if found else ""
    if not place:
        what = what.replace("no setting", "no section")
    return f"{place + ': ' if place else ''}{what}; conf/backup-scp.toml explains every setting"


def _plain_place(place: str) -> str:
    """``node.port`` as ``[node] port``, ``remote[1].host`` as ``[[remote]] number 2, host``."""
    if found := re.fullmatch(r"remote\[(\d+)\]\.?(.*)", place):
        return f"[[remote]] number {int(found[1]) + 1}" + (f", {found[2]}" if found[2] else "")
    section, _, key = place.partition(".")
    return f"[{section}] {key}".strip() if section else ""
