"""Change a settings file step by step, each step checked as ``serve`` does, and write it once at the end."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from backup_scp.errors import InvalidSettings, SettingsChanged, Unavailable
from backup_scp.node import settings_on_disk as on_disk
from backup_scp.node.settings import Settings, load_text
from backup_scp.node.settings.document import changed, with_values
from backup_scp.node.settings.hiding import difference
from backup_scp.node.settings.known import EXPLAINED, LISTS, PREFIX
from backup_scp.node.settings.place_in_file import with_line
from backup_scp.ports import SettingsChange, SettingsKind, SettingValue

_MODE = 0o640  # a new file is root's, and the service's group reads it; it names the clinic's computers


class SettingsDraft:
    """A settings file as it is going to be.

    Parameters
    ----------
    path
        The file; it need not be there.
    environment
        The variables that have priority over it.

    Raises
    ------
    InvalidSettings
        It cannot be read, is wrong as it is, or cannot be replaced by this user.

    Attributes
    ----------
    path
        The file.
    before, settings
        The settings as the file has them now, and as they are going to be.
    """

    def __init__(self, path: Path, environment: Mapping[str, str] = os.environ) -> None:
        self.path = path
        self._environment = environment
        self._found = on_disk.read(path)
        if why := on_disk.why_fixed(path):
            raise InvalidSettings(f"{why}. As root: sudo backup-scp setup")
        self._text = self._found.text
        try:
            self.before = self.settings = self._loaded(self._text)
        except InvalidSettings as error:
            raise InvalidSettings(with_line(str(error), path, self._found.before)) from None

    @property
    def is_new(self) -> bool:
        """Whether the file is not there yet."""
        return self._found.content is None

    @property
    def is_changed(self) -> bool:
        """Whether something was set that the file does not say."""
        return self._text != self._found.text

    @property
    def difference(self) -> list[str]:
        """The lines that change, as ``diff -u`` shows them."""
        return difference(self._found.before, self._text)

    def variable(self, section: str, key: str = "") -> str:
        """Return the variable of the environment that sets it, or the whole list; empty when none does."""
        names = [f"{PREFIX}{section}__{key}".upper()] if key else [name for name, of in LISTS.items() if of == section]
        return next((name for name in names if name in self._environment), "")

    def put(self, section: str, **values: SettingValue) -> None:
        """Set values of a section; those that the settings have already are not written.

        Raises
        ------
        InvalidSettings
            One of them is wrong, or a variable of the environment sets it; nothing has changed.
        """
        there = getattr(self.settings, section)
        news = {key: value for key, value in values.items() if getattr(there, key) != value}
        if variable := next(filter(None, (self.variable(section, key) for key in news)), ""):
            raise InvalidSettings(f"The variable {variable} says it: change it there")
        if news:
            self._take(with_values(self._text, {section: news}))

    def add(self, kind: SettingsKind, **values: SettingValue) -> None:
        """Add an entry to a list.

        Raises
        ------
        InvalidSettings
            It is wrong; nothing has changed.
        """
        self._take(changed(self._text, SettingsChange(kind, "", values)))

    def free_name(self, kind: SettingsKind, *wanted: str) -> str:
        """Return the first of the names that no entry has; with a number behind it when all are taken."""
        taken = {one.name for one in getattr(self.settings, kind)}
        numbered = (f"{wanted[0]}-{number}" for number in range(2, len(taken) + 3))
        return next(name for name in (*wanted, *numbered) if name not in taken)

    def write(self) -> None:
        """Write the file; an old one stays beside it with its date.

        Raises
        ------
        SettingsChanged
            Somebody else has changed it meanwhile.
        Unavailable
            It is as it was.
        """
        if on_disk.read(self.path).digest != self._found.digest:
            raise SettingsChanged(
                f"{self.path} was changed by somebody else meanwhile, and is as they left it: begin again"
            )
        try:
            on_disk.write(self._found, self._text.encode(), _MODE)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise Unavailable(f"{self.path} cannot be written ({reason}); it is as it was") from None

    def _take(self, text: str) -> None:
        try:
            settings = self._loaded(text)
        except InvalidSettings as error:
            plain = str(error).removeprefix(f"{self.path}: ").removesuffix(f"; {EXPLAINED}")
            raise InvalidSettings(plain) from None
        self._text, self.settings = text, settings

    def _loaded(self, text: str) -> Settings:
        return load_text(text, self.path, self._environment)
