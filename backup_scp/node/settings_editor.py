"""Show the settings file and change it for the pages: previewed, checked as ``serve`` does, replaced as a whole."""

from __future__ import annotations

import logging
import os
import re
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from backup_scp.errors import InvalidSelection, InvalidSettings, SettingsChanged, Unavailable
from backup_scp.machine.addresses import console_addresses
from backup_scp.node import attempts
from backup_scp.node import settings_on_disk as on_disk
from backup_scp.node.attempts import Attempt
from backup_scp.node.settings import (
    CopySettings,
    RemoteSettings,
    Sections,
    Settings,
    load_text,
)
from backup_scp.node.settings.document import changed
from backup_scp.node.settings.hiding import FILES, SECRET_KEYS, difference, shown_url
from backup_scp.node.settings.known import CONFIG, EXPLAINED, LISTS, PREFIX
from backup_scp.node.settings_on_disk import SettingsOnDisk
from backup_scp.ports import (
    PlaceAnswer,
    SettingsChange,
    SettingsEntry,
    SettingsKind,
    SettingsPreview,
    SettingsView,
    SettingValue,
)
from backup_scp.services.audit_reporter import AuditReporter, Party

log = logging.getLogger(__name__)

_KINDS: dict[SettingsKind, type[RemoteSettings | CopySettings]] = {
    SettingsKind.REMOTE: RemoteSettings,
    SettingsKind.COPY: CopySettings,
}
_WRITTEN = frozenset({"name", "ae_title", "host", "port", "url"})  # in a new entry, also when they are the default
_LOGINS = ("password_file", "token_file")
_PLAIN_NAME = re.compile(r"[\w-][\w. -]*")
_MOST_PREVIEWS = 20
_OWN = {"ae_title": ("node", "ae_title"), "port": ("node", "port"), "tls_port": ("tls", "port")}


class SettingsEditor:
    """Implements ``ports.SettingsFile`` for this node.

    Parameters
    ----------
    running
        The settings that the running node has.
    environment
        The variables that have priority over the file.
    attempt
        Tries a device or a copy.
    reporter
        Reports changes to the audit trail.
    """

    def __init__(
        self,
        running: Settings,
        environment: Mapping[str, str] = os.environ,
        attempt: Callable[[Attempt], list[PlaceAnswer]] = attempts.run,
        reporter: AuditReporter | None = None,
    ) -> None:
        self._running = running
        self._environment = environment
        self._attempt = attempt
        self._reporter = reporter or AuditReporter()
        self._lock = threading.Lock()
        self._previewed: dict[str, tuple[SettingsChange, str]] = {}

    def view(self) -> SettingsView:
        path = self._path()
        found, trouble, settings = None, "", self._running
        try:
            found = on_disk.read(path) if path else None
            settings = self._loaded(found.text, path) if found and found.content is not None else self._without_file()
        except InvalidSettings as error:
            trouble = str(error)
        return SettingsView(
            file=str(path or ""),
            exists=found is not None and found.content is not None,
            trouble=trouble,
            why_fixed=on_disk.why_fixed(path) if path else _NO_FILE_WANTED,
            entries={kind: [self._entry(kind, one) for one in getattr(settings, kind)] for kind in SettingsKind},
            gone={kind: _gone(getattr(self._running, kind), getattr(settings, kind)) for kind in SettingsKind},
            variables={SettingsKind(kind): name for name, kind in LISTS.items() if name in self._environment},
            needs_restart=not trouble and _sections(settings) != _sections(self._running),
            backups=on_disk.backups(path) if path else (),
            own=_own(self._running),
            own_variables=self._own_variables(),
            defaults={kind: _defaults(kind) for kind in SettingsKind},
        )

    def preview(self, change: SettingsChange) -> SettingsPreview:
        path = self._required_path()
        found = on_disk.read(path)
        after = self._changed(found, change)
        self._require_place(after, path, change)
        key = secrets.token_urlsafe(16)
        with self._lock:
            self._previewed[key] = change, found.digest
            for oldest in list(self._previewed)[:-_MOST_PREVIEWS]:
                del self._previewed[oldest]
        return SettingsPreview(str(path), difference(found.before, after), key, on_disk.why_fixed(path))

    def write(self, key: str, who: str) -> None:
        path = self._required_path()
        with self._lock:
            change, digest = self._previewed.pop(key, (None, ""))
            if change is None:
                raise SettingsChanged("This preview is too old, or was written already: begin again")
            found = on_disk.read(path)
            if found.digest != digest:
                raise SettingsChanged("The settings file was changed since you looked at the preview: begin again")
            if why := on_disk.why_fixed(path):
                raise InvalidSettings(why)
            content = self._changed(found, change).encode()
            try:
                on_disk.write(found, content)
            except OSError as error:
                reason = error.strerror or type(error).__name__
                raise Unavailable(f"{path} cannot be replaced ({reason}); it is as it was") from None
        name = change.name or str((change.values or {}).get("name", ""))
        done = "added" if not change.name else "removed" if change.values is None else "changed"
        log.info("Settings: [[%s]] %s was %s on the page, by %s", change.kind, name, done, who)
        self._reporter.settings_changed(Party(who), [f"[[{change.kind}]] {name} was {done}"])

    def attempt(self, kind: SettingsKind, name: str) -> Sequence[PlaceAnswer]:
        settings = self._current()
        if all(one.name != name for one in getattr(settings, kind)):
            raise InvalidSelection(f"The settings have no [[{kind}]] with this name")
        return self._attempt(Attempt(settings, kind.value, name))

    # -- reading -------------------------------------------------------------------------------------------------------

    def _path(self) -> Path | None:
        return on_disk.path_of(self._running, self._environment)

    def _required_path(self) -> Path:
        path = self._path()
        if path is None:
            raise InvalidSettings(_NO_FILE_WANTED)
        return path

    def _loaded(self, text: str, path: Path | None) -> Settings:
        return load_text(text, path, self._environment)

    def _without_file(self) -> Settings:
        return self._loaded("", None)

    def _current(self) -> Settings:
        path = self._path()
        found = on_disk.read(path) if path else None
        return self._loaded(found.text, path) if found and found.content is not None else self._without_file()

    def _entry(self, kind: SettingsKind, one: RemoteSettings | CopySettings) -> SettingsEntry:
        kept = frozenset(key for key in SECRET_KEYS if getattr(one, key, ""))
        return SettingsEntry(_shown(one), kept, is_in_use=one in getattr(self._running, kind))

    def _own_variables(self) -> dict[str, str]:
        names = {key: f"{PREFIX}{section}__{setting}".upper() for key, (section, setting) in _OWN.items()}
        return {key: name for key, name in names.items() if name in self._environment} | (
            {"home": source} if (source := self._running.home_source).startswith(PREFIX) else {}
        )

    # -- changing ------------------------------------------------------------------------------------------------------

    def _changed(self, found: SettingsOnDisk, change: SettingsChange) -> str:
        """Return the new text, which ``serve`` would take."""
        variable = next((name for name, kind in LISTS.items() if kind == change.kind), "")
        if variable in self._environment:
            raise InvalidSettings(
                f"The variable {variable} replaces all [[{change.kind}]] of the file: change it there"
            )
        asked = change.values
        if asked is not None:
            asked = self._news(found, change, asked)
        after = changed(found.text, SettingsChange(change.kind, change.name, asked))
        try:
            self._loaded(after, found.path)
        except InvalidSettings as error:  # the page shows it beside the form
            raise InvalidSettings(str(error).removeprefix(f"{found.path}: ").removesuffix(f"; {EXPLAINED}")) from None
        return after

    def _news(
        self, found: SettingsOnDisk, change: SettingsChange, asked: Mapping[str, SettingValue]
    ) -> Mapping[str, SettingValue]:
        """Return the values that differ from those of the entry, or of a new one from the defaults."""
        if not change.name:
            defaults = _defaults(change.kind)
            news = {key: value for key, value in asked.items() if key in _WRITTEN or value != defaults.get(key)}
        else:
            entries = getattr(self._loaded(found.text, found.path), change.kind)
            one = next((one for one in entries if one.name == change.name), None)
            if one is None:
                raise InvalidSettings(f"The settings file has no [[{change.kind}]] {change.name} any more")
            shown = _shown(one)
            news = {key: value for key, value in asked.items() if key not in shown or value != shown[key]}
            _require_safe_url(one, news)
        if change.name and not news:
            raise InvalidSettings("Nothing is changed: the settings file has exactly these values")
        for key in FILES & news.keys():
            if news[key] and not _PLAIN_NAME.fullmatch(str(news[key])):
                raise InvalidSettings(
                    f"{key}: write the name of a file in {self._running.home}, without a folder. Others are set in the "
                    "settings file by hand"
                )
        return news

    def _require_place(self, after: str, path: Path, change: SettingsChange) -> None:
        """Raise for a copy that the running node could not use."""
        if change.kind is not SettingsKind.COPY or change.values is None:
            return
        name = str(change.values.get("name", change.name))
        for answer in self._attempt(Attempt(self._loaded(after, path), "place", name)):
            if not answer.is_well:
                raise InvalidSettings(answer.answer)


_NO_FILE_WANTED = (
    f"The variable {CONFIG} is set and empty, so the node reads no settings file. Take it out, or let it name a file, "
    "and restart the node"
)


def _shown(one: RemoteSettings | CopySettings) -> dict[str, SettingValue]:
    """Return what may be shown of an entry."""
    values: dict[str, Any] = msgspec.structs.asdict(one)
    shown = {key: value for key, value in values.items() if key not in SECRET_KEYS}
    return shown | ({"url": shown_url(one.url)} if isinstance(one, CopySettings) else {})


def _require_safe_url(one: RemoteSettings | CopySettings, news: Mapping[str, SettingValue]) -> None:
    """Raise when the password of a copy would go to another server than the one that it was set for."""
    if isinstance(one, CopySettings) and "url" in news and any(getattr(one, key) for key in _LOGINS):
        raise InvalidSettings(
            "url: this copy has a password or token, which would go to another server. Change it in the settings file "
            "by hand, or add a new copy"
        )


def _defaults(kind: SettingsKind) -> dict[str, SettingValue]:
    return {field.name: field.default for field in msgspec.structs.fields(_KINDS[kind]) if not field.required}


def _gone(running: Sequence[Any], now: Sequence[Any]) -> list[str]:
    names = {one.name for one in now}
    return [one.name for one in running if one.name not in names]


def _sections(settings: Settings) -> list[Any]:
    return [settings.home, *(getattr(settings, field.name) for field in msgspec.structs.fields(Sections))]


def _own(settings: Settings) -> dict[str, SettingValue]:
    found = {key: getattr(getattr(settings, section), setting) for key, (section, setting) in _OWN.items()}
    if not settings.node.plain:
        del found["port"]
    if settings.tls_files is None:
        del found["tls_port"]
    return found | {"addresses": tuple(console_addresses(settings.node.host)), "home": str(settings.home)}
