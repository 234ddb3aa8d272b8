"""The settings file, as the pages show and change it; the node implements this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from backup_scp.ports.copies import PlaceAnswer

SettingValue = str | int | float | bool | tuple[str, ...]


class SettingsKind(StrEnum):
    """The lists of the settings that can be changed."""

    REMOTE = "remote"
    COPY = "copy"


@dataclass(frozen=True, slots=True)
class SettingsEntry:
    """One ``[[remote]]`` or ``[[copy]]``.

    Attributes
    ----------
    values
        Its settings by name, defaults included.  Those that are secret are left out.
    kept
        Names of settings that are set and not shown: what logs in.
    is_in_use
        Whether the running node has it, exactly so.
    """

    values: Mapping[str, SettingValue]
    kept: frozenset[str] = frozenset()
    is_in_use: bool = True

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.values["name"])


@dataclass(frozen=True, slots=True)
class SettingsView:
    """The settings, as they are in the file now.

    Attributes
    ----------
    file
        The settings file, or where one would be made; empty when the environment forbids one.
    exists
        Whether it is there.
    trouble
        Why it cannot be used as it is; the lists are then those that the running node has.
    why_fixed
        Why no page can change it, and what to do; empty when one can.
    entries
        Each list.
    gone
        Names in each list that only the running node still has.
    variables
        Lists that a variable of the environment replaces, and the name of that variable.
    needs_restart
        Whether the running node has other settings than the file.
    backups
        Names of the old versions beside it, the latest first.
    own
        What a device must be told of this node, by setting: ``ae_title``, ``addresses``, ``port``, ``tls_port``,
        ``home``.
    own_variables
        Which of those come from a variable of the environment, and its name.
    defaults
        What a new entry of each list has when nothing else is said.
    """

    file: str
    exists: bool
    trouble: str
    why_fixed: str
    entries: Mapping[SettingsKind, Sequence[SettingsEntry]]
    gone: Mapping[SettingsKind, Sequence[str]]
    variables: Mapping[SettingsKind, str]
    needs_restart: bool
    backups: Sequence[str] = ()
    own: Mapping[str, SettingValue] = field(default_factory=dict)
    own_variables: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[SettingsKind, Mapping[str, SettingValue]] = field(default_factory=dict)

    def entry(self, kind: SettingsKind, name: str) -> SettingsEntry | None:
        """Find one by its name."""
        return next((entry for entry in self.entries[kind] if entry.name == name), None)


@dataclass(frozen=True, slots=True)
class SettingsChange:
    """One entry to add, to change or to remove.

    Attributes
    ----------
    kind
        In which list.
    name
        Which one; empty for a new one.
    values
        What it is to have; None removes it.  Settings that are not named stay as they are.
    """

    kind: SettingsKind
    name: str
    values: Mapping[str, SettingValue] | None


@dataclass(frozen=True, slots=True)
class SettingsPreview:
    """What a change does to the file.

    Attributes
    ----------
    file
        The settings file.
    difference
        The lines of a unified diff, without its heading; values that are secret are hidden.
    key
        What ``write`` is given to do exactly this.
    why_fixed
        Why it cannot be written; empty when it can.
    """

    file: str
    difference: Sequence[str]
    key: str
    why_fixed: str


class SettingsFile(Protocol):
    """The settings file of a node."""

    def view(self) -> SettingsView:
        """Read the settings again."""

    def preview(self, change: SettingsChange) -> SettingsPreview:
        """Say what a change does to the file, and change nothing.

        Raises
        ------
        InvalidSettings
            With it the node would not start, or the file cannot be changed by a program; the text says why.
        """

    def write(self, key: str, who: str) -> None:
        """Change the file as it was previewed, all of it or nothing; the old one stays beside it.

        Parameters
        ----------
        key
            Of the preview.
        who
            Who changes it, for the log.

        Raises
        ------
        InvalidSettings
            As ``preview`` does.
        SettingsChanged
            The file is no more what was previewed, or that was too long ago.
        Unavailable
            It cannot be written.
        """

    def attempt(self, kind: SettingsKind, name: str) -> Sequence[PlaceAnswer]:
        """Try an entry of the file: C-ECHO a remote AE, reach the place of a copy; takes up to a minute and a half.

        Raises
        ------
        InvalidSelection
            There is none with this name.
        Unavailable
            Too many are being tried.
        """
