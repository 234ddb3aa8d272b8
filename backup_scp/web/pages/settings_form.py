"""The forms of a ``[[remote]]`` and a ``[[copy]]``: their fields, and what a person typed into them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from starlette.datastructures import FormData

from backup_scp.ports import SettingsKind, SettingValue

_MOST_CHARACTERS = 4000


@dataclass(frozen=True, slots=True)
class FormField:
    """One field.

    Attributes
    ----------
    name
        Of the setting.
    kind
        ``text``, ``whole``, ``number``, ``flag``, ``choice``, ``lines`` (one value a line) or ``secret`` (never shown).
    group
        The part of the form; fields of another part than ``""`` are rarely used.
    choices
        The values of a choice, by the word of the form.
    is_required
        Whether it must not be empty.
    """

    name: str
    kind: str = "text"
    group: str = ""
    choices: tuple[tuple[str, SettingValue], ...] = ()
    is_required: bool = False


FIELDS: dict[SettingsKind, tuple[FormField, ...]] = {
    SettingsKind.REMOTE: (
        FormField("name", is_required=True),
        FormField("ae_title", is_required=True),
        FormField("host", is_required=True),
        FormField("port", "whole", is_required=True),
        FormField("query", "flag"),
        FormField("destination", "flag"),
        FormField("tls", "choice", choices=(("no", False), ("yes", True), ("required", "required"))),
        FormField("site", group="more"),
        FormField("sites", "lines", group="more"),
        FormField("brings_sites", "lines", group="more"),
        FormField("services", "lines", group="more"),
        FormField("check_address", "flag", group="more"),
        FormField("networks", "lines", group="more"),
        FormField("certificate", "lines", group="more"),
        FormField(
            "user_identity",
            "choice",
            group="more",
            choices=tuple((name, name) for name in ("none", "name", "password", "token")),
        ),
        FormField("users", "lines", group="more"),
        FormField("commitment_port", "whole", group="more", is_required=True),
    ),
    SettingsKind.COPY: (
        FormField("name", is_required=True),
        FormField("url", is_required=True),
        FormField("off_site", "choice", choices=(("", ""), ("yes", "yes"), ("no", "no"))),
        FormField("encrypt", "lines"),
        FormField("hours"),
        FormField("mb_per_s", "number", group="more", is_required=True),
        FormField("gb_per_month", "number", group="more", is_required=True),
        FormField("compare_days", "number", group="more", is_required=True),
        FormField("away_days", "number", group="more", is_required=True),
        FormField("ca", group="more"),
        FormField("endpoint", group="s3"),
        FormField("region", group="s3"),
        FormField("access_key", "secret", group="s3"),
        FormField("secret_key_file", group="s3"),
        FormField("lock_days", "whole", group="s3", is_required=True),
        FormField("checksum", "choice", group="s3", choices=(("", ""), ("sha256", "sha256"), ("none", "none"))),
        FormField("user", group="dicomweb"),
        FormField("password_file", group="dicomweb"),
        FormField("token_file", group="dicomweb"),
        FormField("brings_sites", "lines", group="dicomweb"),
        FormField("rclone_config", group="rclone"),
    ),
}
"""The fields of each form, in their order: every setting of the list has one."""

_ABOUT = (("a name is", "name"), ("the name ", "name"), ("the AE title ", "ae_title"), ("one url", "url"))
"""Words of errors that are about several entries, and the field of each."""

_EMPTY = '""'  # a line that stands for an empty text
_WHOLE = re.compile(r"-?[0-9]{1,15}")


def groups(kind: SettingsKind) -> dict[str, list[FormField]]:
    """Return the fields by part of the form."""
    found: dict[str, list[FormField]] = {}
    for one in FIELDS[kind]:
        found.setdefault(one.group, []).append(one)
    return found


def typed(kind: SettingsKind, form: FormData) -> dict[str, SettingValue]:
    """Return what a person typed; a text that is no number stays a text, which the settings then refuse in words."""
    return dict(_typed(kind, form))


def as_text(field: FormField, values: Mapping[str, SettingValue]) -> str:
    """Return a value as it stands in the form."""
    value = values.get(field.name, "")
    if field.kind == "choice":
        return next((word for word, given in field.choices if given == value), "")
    if isinstance(value, tuple):
        return "\n".join(line or _EMPTY for line in value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def field_of(kind: SettingsKind, sentence: str) -> str:
    """Return the name of the field that an error is about; empty when the sentence names none."""
    names = "|".join(field.name for field in FIELDS[kind])
    found = re.search(rf"(?:, |^|: )({names})(?=:)", sentence) or re.search(
        rf"\b({names})`? is (?:missing|empty)", sentence
    )
    if found:
        return found[1]
    return next((name for words, name in _ABOUT if words in sentence), "")


def _typed(kind: SettingsKind, form: FormData) -> Iterator[tuple[str, SettingValue]]:
    for field in FIELDS[kind]:
        text = str(form.get(field.name, ""))[:_MOST_CHARACTERS].strip()
        match field.kind:
            case "flag":
                yield field.name, text == "on"
            case "choice":
                yield field.name, dict(field.choices).get(text, text)
            case "lines":
                lines = filter(None, map(str.strip, text.splitlines()))
                yield field.name, tuple("" if line == _EMPTY else line for line in lines)
            case "secret":
                if text:
                    yield field.name, text
            case "whole":
                yield field.name, int(text) if _WHOLE.fullmatch(text) else text
            case "number":
                yield field.name, _number(text)
            case _:
                yield field.name, text


def _number(text: str) -> SettingValue:
    if _WHOLE.fullmatch(text):
        return int(text)
    try:
        number = float(text.replace(",", "."))
    except ValueError:
        return text
    return number if math.isfinite(number) else text
