"""Hide what is secret in settings that a page shows."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

HIDDEN = "\u2022\u2022\u2022"

SECRET_KEYS = frozenset({"access_key"})
"""Settings of a copy whose value is never shown."""

FILES = frozenset({"secret_key_file", "password_file", "token_file", "ca", "rclone_config"})
"""Settings of a copy that name a file."""

_LINE = re.compile(
    r"^(?P<before>[ +-]?\s*#*\s*(?:access_key|webhook|heartbeat|[\w-]*(?:password|secret|token))\s*=\s*).*$"
)
_LOGIN = re.compile(r"(?P<scheme>[\w+.-]+://)(?P<login>[^/@\s\"']*:[^/@\s\"']*)@")
_MARK = "\ufeff"  # the byte order mark of editors on Windows
_LEAST = 3  # characters: shorter values stand everywhere


def shown_url(url: str) -> str:
    """Return the URL of a copy without what may be a password: a login, a query, options of an rclone remote."""
    if url.startswith("rclone:"):
        remote, colon, path = url.removeprefix("rclone:").partition(":")
        name, comma, _ = remote.partition(",")
        return f"rclone:{name}{f',{HIDDEN}' if comma else ''}{colon}{path}"
    if url.startswith("dicom://"):
        return url
    scheme, separator, rest = url.partition("://")
    place, _, path = rest.partition("/")
    login, at, host = place.rpartition("@")
    path, question, _ = path.partition("?")
    shown = f"{HIDDEN}@{host}" if login and at else place
    return f"{scheme}{separator}{shown}{'/' if '/' in rest else ''}{path}{f'?{HIDDEN}' if question else ''}"


def difference(before: str, after: str) -> list[str]:
    """Return the lines of a settings file that change, as ``diff -u`` shows them, without what is secret in them."""
    before, after = before.removeprefix(_MARK), after.removeprefix(_MARK)
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="")
    return hidden(list(lines)[2:], tomllib.loads(before), tomllib.loads(after))


def hidden(lines: Iterable[str], *parsed: Mapping[str, Any]) -> list[str]:
    """Return lines of a settings file without what is secret in them.

    Parameters
    ----------
    parsed
        The settings that the lines are from.
    """
    secrets = sorted({text for raw in parsed for text in _secrets(raw) if len(text) >= _LEAST}, key=len, reverse=True)
    return [_hidden_line(line, secrets) for line in lines]


def _hidden_line(line: str, secrets: Iterable[str]) -> str:
    line = _LINE.sub(rf"\g<before>{HIDDEN}", line)
    line = _LOGIN.sub(rf"\g<scheme>{HIDDEN}@", line)
    for secret in secrets:
        line = line.replace(secret, HIDDEN)
    return line


def _secrets(raw: Mapping[str, Any]) -> Iterable[str]:
    """Yield the secret values of a settings file."""
    for copy in raw.get("copy", []):
        if isinstance(copy, dict):
            yield from (str(copy[key]) for key in SECRET_KEYS if copy.get(key))
            if shown_url(str(copy.get("url", ""))) != copy.get("url", ""):
                yield str(copy["url"])
    for section, key in (("alerts", "webhook"), ("alerts", "heartbeat"), ("index", "url")):
        table = raw.get(section, {})
        url = str(table.get(key, "")) if isinstance(table, dict) else ""
        if url and (section == "alerts" or urlsplit(url).password):
            yield url
