"""Writes docs/cli.md: every command, its options, its JSON and its exit codes, from the code.

``python -m docs.cli`` makes docs/cli.md again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from inspect import getdoc
from pathlib import Path
from typing import Any

import typer.main
from msgspec import inspect

from backup_scp.cli import find
from backup_scp.cli.commands import app
from backup_scp.cli.failure import EXIT_CODES, Failure
from backup_scp.cli.results import RESULTS, Result
from backup_scp.ports import Arrival, VersionMatch
from docs.conformance_tables import table

DOCUMENT = Path(__file__).with_name("cli.md")

_ATTRIBUTES = re.compile(r"Attributes\n-+\n(?P<fields>.*?)(?:\n\n\w+\n-+\n|\Z)", re.DOTALL)
_FIELD = re.compile(r"^(?P<names>\w+(?:, \w+)*)\n(?P<meaning>(?:[ ]+.*\n?)+)", re.MULTILINE)
_INTRODUCTION = """\
# The command line

Every command, its options, what it prints with `--json`, and its exit codes. `python -m docs.cli` writes this page
from the code; a test holds it equal. `backup-scp COMMAND --help` says the same in a terminal.

## Options of every command

{options}

## Exit codes

{exit_codes}

## JSON

With `--json` a command prints JSON to standard output, in UTF-8: one object, one list, or one object a line, as
described below. Within a major version no field is renamed or removed. New fields may be added, so a program should
ignore unknown fields. Times are ISO 8601 text with an offset; sizes are in bytes.

A command that fails prints this object (`find`: as its last line), and the sentence to standard error as without
`--json`:

{failure}

A script that monitors a node needs only the exit code of `backup-scp status`. For a message, it takes
`sentence` and `fix` of those `findings` whose `severity` is `act`.
"""

_COMMON = ("--json", "--config")  # every command has them

_FOUND = """\
JSON: one object a line. Its fields are DICOM keywords and each value is text. A backslash joins several values; an
unknown value is empty. The unique keys of the levels above are included."""


def document() -> str:
    """Write the whole page."""
    classes = _Classes()
    sections = "\n\n".join(_command(name, command, classes) for name, command in commands())
    (_, any_command), *_ = commands()
    common = [each for each in any_command.params if set(each.opts) & set(_COMMON)]
    introduction = _INTRODUCTION.format(
        options=table(("option", "meaning"), map(_parameter, common)),
        exit_codes=table(("code", "when"), EXIT_CODES.items()),
        failure=classes.fields(Failure),
    )
    return f"{introduction}\n{sections}\n\n## Objects in JSON\n\n{classes.sections()}\n"


def commands() -> Iterator[tuple[str, Any]]:
    """Give every command as typer has made it, in the order of the help."""
    group: Any = typer.main.get_command(app)
    context = group.context_class(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        below = getattr(command, "commands", None)
        if below is None:
            yield name, command
        else:
            if command.invoke_without_command:
                yield name, command
            yield from ((f"{name} {each}", inner) for each, inner in below.items())


def _command(name: str, command: Any, classes: _Classes) -> str:
    paragraphs = re.split(r"\n\s*\n", command.help or "")
    parts = [
        f"## backup-scp {name}",
        *(" ".join(paragraph.split()) for paragraph in paragraphs),
    ]
    own = [parameter for parameter in command.params if not set(parameter.opts) & set(_COMMON)]
    if own:
        parts.append(table(("option", "meaning"), map(_parameter, own)))
    if name == "find":
        parts += _found(classes)
    if name in RESULTS:
        parts += _result(RESULTS[name], classes)
    return "\n\n".join(parts)


def _parameter(parameter: Any) -> tuple[str, str]:
    if parameter.param_type_name == "argument":
        return f"`{parameter.metavar}`", parameter.help or ""
    metavar = "" if parameter.is_flag else f" {parameter.metavar or 'VALUE'}"
    return ", ".join(f"`{option}{metavar}`" for option in parameter.opts), parameter.help or ""


def _result(result: Result, classes: _Classes) -> list[str]:
    found = inspect.type_info(result.kind)
    if isinstance(found, inspect.ListType):
        return [f"JSON: one list of objects. {result.remark}".rstrip(), classes.fields(found.item_type.cls)]  # type: ignore[attr-defined]
    return [f"JSON: one object. {result.remark}".rstrip(), classes.fields(result.kind)]


def _found(classes: _Classes) -> list[str]:
    """Say what ``find`` prints: keywords of DICOM, and what is known of each version."""
    levels = [(f"`{level}`", ", ".join(f"`{key}`" for key in keys)) for level, keys in find.KEYS.items()]
    return [
        _FOUND,
        table(("level", "fields"), levels),
        "With `--versions all` each line is one version of an image, and has these fields as well:",
        classes.fields(Arrival),
        classes.fields(VersionMatch, leave_out=("match", "arrival")),
    ]


class _Classes:
    """The classes of what is printed, each with a section of its own where another one refers to it."""

    def __init__(self) -> None:
        self._wanted: dict[type, str] = {}

    def fields(self, kind: type, leave_out: Sequence[str] = ()) -> str:
        """Write the fields of a class as a table."""
        found: Any = inspect.type_info(kind)
        meanings = meanings_of(kind)
        rows = [
            (f"`{field.encode_name}`", self._type(field.type), meanings.get(field.name, ""))
            for field in found.fields
            if field.name not in leave_out
        ]
        return table(("field", "type", "meaning"), rows)

    def sections(self) -> str:
        """Write the classes that were referred to, and those that these refer to."""
        parts: dict[str, str] = {}
        while missing := {kind: name for kind, name in self._wanted.items() if name not in parts}:
            for kind, name in missing.items():
                first = " ".join((kind.__doc__ or "").split("\n\n")[0].split())
                parts[name] = f"### {name}\n\n{_plain(first)}\n\n{self.fields(kind)}"
        return "\n\n".join(parts[name] for name in sorted(parts))

    def _name(self, kind: type) -> str:
        """Name a class; one whose name another one has already by its module as well."""
        if kind not in self._wanted:
            name = kind.__name__
            taken = name in self._wanted.values()
            self._wanted[kind] = f"{name} of {kind.__module__.rpartition('.')[2].replace('_', ' ')}" if taken else name
        return self._wanted[kind]

    def _type(self, kind: inspect.Type) -> str:
        match kind:
            case inspect.UnionType(types=types):
                return " or ".join(sorted(map(self._type, types), key="null".__eq__))
            case inspect.ListType(item_type=item) | inspect.VarTupleType(item_type=item):
                return f"list of {self._type(item)}"
            case inspect.DictType(value_type=value):
                return f"object: name to {self._type(value)}"
            case inspect.EnumType(cls=cls):
                return " or ".join(f'`"{member.value}"`' for member in cls)
            case inspect.DataclassType(cls=cls):
                name = self._name(cls)
                return f"[{name}](#{name.lower().replace(' ', '-')})"
        return _PLAIN[type(kind)]


_PLAIN: dict[type, str] = {
    inspect.StrType: "text",
    inspect.IntType: "integer",
    inspect.FloatType: "number",
    inspect.BoolType: "true or false",
    inspect.NoneType: "null",
    inspect.DateTimeType: "time",
    inspect.DateType: "date",
}


def _plain(text: str) -> str:
    return re.sub(r"\bNone\b", "null", text.replace("``", "`"))


def meanings_of(kind: type) -> dict[str, str]:
    """Read what the ``Attributes`` of a class's docstring say of each field."""
    documented = _ATTRIBUTES.search(getdoc(kind) or "")
    meanings: dict[str, str] = {}
    for found in _FIELD.finditer(documented["fields"] if documented else ""):
        text = _plain(" ".join(found["meaning"].split()))
        meanings |= dict.fromkeys(found["names"].split(", "), text)
    return meanings


if __name__ == "__main__":
    DOCUMENT.write_text(document(), "utf-8")
