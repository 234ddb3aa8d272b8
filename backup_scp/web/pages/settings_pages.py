"""Settings: devices and further copies shown, tried, and changed in the settings file after a preview."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from backup_scp.errors import (
    BackupSCPError,
    InvalidSelection,
    InvalidSettings,
    SettingsChanged,
    Unavailable,
)
from backup_scp.ports import (
    CopyState,
    PlaceAnswer,
    SettingsChange,
    SettingsFile,
    SettingsKind,
    SettingValue,
)
from backup_scp.services.permissions import Right
from backup_scp.web.pages.page_frame import HEADERS, PageFrame, root_of
from backup_scp.web.pages.page_route import PageRoute
from backup_scp.web.pages.settings_form import as_text, field_of, groups, typed
from backup_scp.web.problems import Problem


@dataclass(frozen=True, slots=True)
class DiffLine:
    """A line of the difference.

    Attributes
    ----------
    kind
        ``added``, ``removed``, ``same`` or ``place``.
    text
        Without its sign.
    """

    kind: str
    text: str


_KINDS_OF_LINES = {"+": "added", "-": "removed", "@": "place"}


def settings_page(request: Request, frame: PageFrame) -> Response:
    """Show devices and copies as they are in the settings file."""
    view = _file(frame).view()
    return frame.page(request, "settings.html", view=view, states=_copy_states(frame), Kind=SettingsKind)


def entry_page(request: Request, frame: PageFrame) -> Response:
    """Show the form of an entry, or of a new one."""
    kind, name = _kind(request.query_params.get("kind", "")), request.query_params.get("name", "")
    return _form(request, frame, kind, name)


def preview(request: Request, frame: PageFrame) -> Response:
    """Show what a change does to the file; a wrong value leads back to the form."""
    form: FormData = request.scope["form"]
    kind, name = _kind(str(form.get("kind", ""))), str(form.get("which", ""))
    values = None if form.get("remove") else typed(kind, form)
    try:
        shown = _file(frame).preview(SettingsChange(kind, name, values))
    except InvalidSettings as error:
        return _form(request, frame, kind, name, values, str(error))
    lines = [DiffLine(_KINDS_OF_LINES.get(line[:1], "same"), line[1:]) for line in shown.difference]
    title = name or str((values or {}).get("name", ""))
    return frame.page(request, "settings_preview.html", shown=shown, lines=lines, kind=kind, name=name, title=title)


def write(request: Request, frame: PageFrame) -> Response:
    """Write what was previewed, and lead back to the settings."""
    form: FormData = request.scope["form"]
    try:
        _file(frame).write(str(form.get("key", "")), str(request.scope["caller"]))
    except SettingsChanged as error:
        raise Problem(409, str(error)) from None
    except InvalidSettings as error:
        raise Problem(400, str(error)) from None
    return RedirectResponse(f"{root_of(request)}/settings", 303, HEADERS)


def attempt(request: Request, frame: PageFrame) -> Response:
    """Try a device or a copy, and show what came of it."""
    form: FormData = request.scope["form"]
    kind, name = _kind(str(form.get("kind", ""))), str(form.get("which", ""))
    try:
        answers = _file(frame).attempt(kind, name)
    except InvalidSelection as error:
        raise Problem(404, str(error)) from None
    except (InvalidSettings, Unavailable) as error:
        answers = [PlaceAnswer("", str(error), is_well=False)]
    return frame.page(request, "settings_attempt.html", answers=answers, kind=kind, name=name)


def _form(
    request: Request,
    frame: PageFrame,
    kind: SettingsKind,
    name: str,
    typed_values: Mapping[str, SettingValue] | None = None,
    error: str = "",
) -> Response:
    """Show a form: with what was typed, else with what the entry has, or a new one by default."""
    view = _file(frame).view()
    entry = view.entry(kind, name) if name else None
    if name and entry is None:
        raise Problem(404, "The settings have none with this name")
    values = typed_values if typed_values is not None else entry.values if entry else view.defaults[kind]
    return frame.page(
        request,
        "settings_form.html",
        400 if error else 200,
        view=view,
        kind=kind,
        name=name,
        values=values,
        kept=entry.kept if entry else frozenset(),
        groups=groups(kind),
        as_text=as_text,
        error=error,
        wrong=field_of(kind, error) if error else "",
    )


def _file(frame: PageFrame) -> SettingsFile:
    if frame.sources.settings is None:
        raise Problem(404, "This node does not show its settings")
    return frame.sources.settings


def _kind(text: str) -> SettingsKind:
    try:
        return SettingsKind(text)
    except ValueError:
        raise Problem(404, "The page changes devices ([[remote]]) and copies ([[copy]])") from None


def _copy_states(frame: PageFrame) -> dict[str, list[CopyState]]:
    """Return the state of each copy by its name, as the first page shows it; nothing when that cannot be asked."""
    try:
        copies = frame.feed.now().state.copies
    except BackupSCPError:
        return {}
    return {copy.name: [one for one in copies if one.name == copy.name] for copy in copies}


PAGES = (
    PageRoute("/settings", "GET", Right.SETTINGS, settings_page),
    PageRoute("/settings/entry", "GET", Right.SETTINGS, entry_page),
    PageRoute("/settings/preview", "POST", Right.SETTINGS, preview),
    PageRoute("/settings/write", "POST", Right.SETTINGS, write),
    PageRoute("/settings/try", "POST", Right.SETTINGS, attempt),
)
