"""The names for this node's certificate, and the settings that use it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from backup_scp.errors import InvalidSelection, InvalidSettings, Unavailable
from backup_scp.machine import clock
from backup_scp.machine.addresses import console_addresses
from backup_scp.node import settings_on_disk as on_disk
from backup_scp.node.settings import Settings, load_text
from backup_scp.node.settings.document import with_values
from backup_scp.node.settings.hiding import difference
from backup_scp.node.settings_on_disk import SettingsOnDisk
from backup_scp.ports import SettingValue

FOLDER = "tls"
"""In the folder of all data."""

_OF_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


def own_names() -> list[str]:
    """Return the host names and addresses at which this computer is reached, the likeliest first."""
    from backup_scp.certificates.authority import as_general_name

    found = []
    for name in _likely_names():
        try:
            as_general_name(name)
        except (InvalidSelection, UnicodeError):  # such as one with an underline
            continue
        found.append(name)
    return list(dict.fromkeys(found))


def _likely_names() -> Iterator[str]:
    host = socket.gethostname().lower().rstrip(".")
    full = socket.getfqdn().lower().rstrip(".")
    if "." in full and not full.endswith((".arpa", ".localdomain")):
        yield full
    if host and host != "localhost":
        yield host
        if "." not in host:
            yield f"{host}.local"  # as macOS and Windows find it without a name server
    yield from console_addresses("::")
    yield from _OF_THIS_MACHINE


def authority_name(settings: Settings) -> str:
    """Return what the clinic's authority is called, where people see it in a list of many."""
    return f"{settings.plan.clinic or socket.gethostname()} backup-scp {clock.now():%Y-%m-%d}"


@dataclass(frozen=True, slots=True)
class SettingsForTLS:
    """What is to stand in the settings file, so that the node uses a certificate.

    Attributes
    ----------
    values
        The settings by section; empty when the settings have them all.
    path
        The settings file, or where one would be made; None when the environment wants none.
    why_not
        Why they cannot be written; empty when they can.
    preview
        The lines of the file that change, as ``diff -u`` shows them.
    """

    values: Mapping[str, Mapping[str, str]]
    path: Path | None
    why_not: str = ""
    preview: tuple[str, ...] = ()
    found: SettingsOnDisk | None = field(default=None, repr=False)
    after: str = field(default="", repr=False)

    @property
    def lines(self) -> list[str]:
        """The lines as a person puts them into the file."""
        return [
            line
            for section, values in self.values.items()
            for line in ("", f"[{section}]", *(f'{key} = "{value}"' for key, value in values.items()))
        ][1:]

    def write(self) -> None:
        """Write them; the file as it was stays beside it.

        Raises
        ------
        InvalidSettings
            They cannot be written.
        Unavailable
        """
        if self.why_not or self.found is None:
            raise InvalidSettings(f"The settings cannot be written: {self.why_not}")
        try:
            on_disk.write(self.found, self.after.encode())
        except OSError as error:
            raise Unavailable(f"{self.path} cannot be replaced ({error.strerror}); it is as it was") from None


def settings_for(
    settings: Settings, certificate: Path, key: Path, environment: Mapping[str, str] = os.environ
) -> SettingsForTLS:
    """Return what is to be set for a certificate, for Associations and for the page.

    A reverse proxy in front of the page has a certificate of its own, so the page needs none.

    Raises
    ------
    InvalidSettings
        The settings file cannot be read.
    """
    files = {"certificate": _shortest(settings, certificate), "key": _shortest(settings, key)}
    sections = {"tls": settings.tls_files} | ({} if settings.web.public_url else {"web": settings.web_tls_files})
    missing = {name: files for name, there in sections.items() if there is None or there[:2] != (certificate, key)}
    path = on_disk.path_of(settings, environment)
    others = [f"[{name}]" for name in missing if sections[name] is not None]
    if not missing:
        return SettingsForTLS({}, path)
    if others:
        return SettingsForTLS(missing, path, f"{' and '.join(others)} has another certificate: change it by hand")
    if path is None:
        return SettingsForTLS(missing, None, "the environment wants no settings file")
    return _previewed(missing, path, environment)


def _previewed(missing: Mapping[str, Mapping[str, str]], path: Path, environment: Mapping[str, str]) -> SettingsForTLS:
    found = on_disk.read(path)
    try:
        values: dict[str, dict[str, SettingValue]] = {name: dict(keys) for name, keys in missing.items()}
        after = with_values(found.text, values)
        _require_taken(load_text(after, path, environment), missing)
    except InvalidSettings as error:
        return SettingsForTLS(missing, path, str(error))
    shown = tuple(difference(found.before, after))
    return SettingsForTLS(missing, path, on_disk.why_fixed(path), shown, found, after)


def _require_taken(settings: Settings, missing: Mapping[str, Mapping[str, str]]) -> None:
    """Raise when a variable of the environment has priority over what is written."""
    for name, keys in missing.items():
        for key, value in keys.items():
            if getattr(getattr(settings, name), key) != value:
                raise InvalidSettings(f"a variable of the environment sets {key} of [{name}]: change it there")


def _shortest(settings: Settings, file: Path) -> str:
    """Return a path as the settings have it: relative to the folder of all data, if it is there."""
    return (file.relative_to(settings.home) if file.is_relative_to(settings.home) else file).as_posix()
