"""Check the names of settings: raise for a misspelt one, and suggest the likely name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from backup_scp.errors import InvalidSettings
from backup_scp.node.settings.remote_section import RemoteSettings
from backup_scp.node.settings.sections import CopySettings, Sections

PREFIX = "BACKUP_SCP_"
HOME = "BACKUP_SCP_HOME"
CONFIG = "BACKUP_SCP_CONFIG"

SMTP_PASSWORD = "BACKUP_SCP_SMTP_PASSWORD"  # noqa: S105 - its name
"""The variable with the password for e-mail; the settings name a file instead."""

_TEST_PREFIX = "BACKUP_SCP_TEST_"
EXPLAINED = "conf/backup-scp.toml explains every setting"

# Kubernetes and Docker set such variables for a service with the name backup-scp.
_OF_A_PLATFORM = re.compile(r".*_SERVICE_(HOST|PORT)(_.*)?|.*_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?")
_ADDRESS_OF_A_PLATFORM = re.compile(r"(tcp|udp|sctp)://")

_LISTS = {
    name: [field.name for field in msgspec.structs.fields(kind)]
    for name, kind in (("remote", RemoteSettings), ("copy", CopySettings))
}
LISTS = {f"{PREFIX}{name}".upper(): name for name in _LISTS}
"""The variables that replace a whole list, and the list of each."""

_SECTIONS = {
    field.name: [key.name for key in msgspec.structs.fields(field.type)]
    for field in msgspec.structs.fields(Sections)
    if field.name not in _LISTS
}
TABLES = {
    f"{field.name}.{key.name}": [each.name for each in msgspec.structs.fields(key.type)]
    for field in msgspec.structs.fields(Sections)
    if field.name not in _LISTS
    for key in msgspec.structs.fields(field.type)
    if isinstance(key.type, type) and issubclass(key.type, msgspec.Struct)
}
"""The settings of tables inside a section, by the table's name."""

_VARIABLES = {f"{PREFIX}{section}__{key}".upper() for section, keys in _SECTIONS.items() for key in keys}


def require_known_keys(raw: Mapping[str, Any], source: str) -> None:
    """Raise for sections and keys that do not exist.

    Raises
    ------
    InvalidSettings
        The text has ``source``, the place, and the likely name.
    """
    for name, table in raw.items():
        if name in _LISTS:
            _require_known_in_list(name, table, source)
        elif name not in _SECTIONS:
            raise InvalidSettings(f"{source}{_no_section(name, table)}; {EXPLAINED}")
        elif isinstance(table, dict):
            _require_known(table, _SECTIONS[name], f"{source}[{name}]")
            for key, inner in table.items():
                if isinstance(inner, dict) and (keys := TABLES.get(f"{name}.{key}")):
                    _require_known(inner, keys, f"{source}[{name}.{key}]")


def require_known_variable(name: str, value: str) -> None:
    """Raise for a variable with our prefix that is no setting and that no container platform has set.

    Raises
    ------
    InvalidSettings
    """
    if name in _VARIABLES | {HOME, CONFIG, SMTP_PASSWORD, *LISTS} or name.startswith(_TEST_PREFIX):
        return
    if _OF_A_PLATFORM.fullmatch(name) or _ADDRESS_OF_A_PLATFORM.match(value):
        return
    section, separator, key = name.removeprefix(PREFIX).lower().partition("__")
    if not separator:
        wrong = "that is no setting"
    elif section not in _SECTIONS:
        sections = ", ".join(f"[{known}]" for known in _SECTIONS)
        wrong = f"there is no section [{section}] that it could set; the sections are {sections}"
    else:
        wrong = f"[{section}] has no setting {key}; it has {', '.join(_SECTIONS[section])}"
    raise InvalidSettings(f"{name}: {wrong}{_meant(_similar_variables(name))}; {EXPLAINED}")


def _require_known_in_list(name: str, tables: Any, source: str) -> None:
    for number, table in enumerate(tables if isinstance(tables, list) else [], 1):
        if isinstance(table, dict):
            _require_known(table, _LISTS[name], f"{source}[[{name}]] number {number}")


def _require_known(table: Mapping[str, Any], keys: list[str], place: str) -> None:
    for key in table:
        if key not in keys:
            meant = _meant(_similar(key, keys))
            raise InvalidSettings(
                f"{place}: there is no setting {key}{meant}; the settings there are {', '.join(keys)}; {EXPLAINED}"
            )


def _no_section(name: str, value: Any) -> str:
    """Return the sentence for a key above all sections, or for a section that does not exist."""
    places = [f"[{section}]" for section, keys in _SECTIONS.items() if name in keys]
    if places and not isinstance(value, dict):
        return f"{name} stands above all sections: put it below {' or '.join(places)}"
    meant = _meant(f"[{similar}]" for similar in _similar(name, [*_SECTIONS, *_LISTS]))
    known = ", ".join([f"[{section}]" for section in _SECTIONS] + [f"[[{each}]]" for each in _LISTS])
    return f"there is no section {name}{meant}; the sections are {known}"


def _similar_variables(name: str) -> Iterator[str]:
    """Find likely names: an underscore or the section is missing, or the name is misspelt."""
    flat = {re.sub("_+", "_", variable): variable for variable in sorted(_VARIABLES)}
    if (exact := flat.get(re.sub("_+", "_", name))) is not None:
        yield exact
        return
    rest = name.removeprefix(PREFIX)
    if sectionless := [variable for variable in flat.values() if variable.endswith(f"__{rest}")]:
        yield from sectionless
        return
    yield from _similar(name, [*sorted(_VARIABLES), HOME, CONFIG, *LISTS], 0.8)


def _similar(name: str, known: Iterable[str], cutoff: float = 0.6) -> list[str]:
    import difflib  # needed only for an error

    return difflib.get_close_matches(name, list(known), 1, cutoff)


def _meant(names: Iterable[str]) -> str:
    similar = " or ".join(names)
    return f"; did you mean {similar}?" if similar else ""
