"""Options that several commands share: --config before or after the command, --json, a time; and groups of options."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from enum import StrEnum
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer
from typer.core import TyperArgument, TyperCommand

from backup_scp.cli import CONFIG_VARIABLE
from backup_scp.cli.settings_file import open_settings
from backup_scp.dicom.query.time_zone.local_offset import local_offset

if TYPE_CHECKING:
    from backup_scp.node.settings import Settings

_CONFIG_HELP = (
    "Settings file (TOML). Without it: /etc/backup-scp/backup-scp.toml if that exists, else backup-scp.toml in the "
    "data folder, else the defaults. "
    "conf/backup-scp.toml explains every setting."
)

MainConfigOption = Annotated[
    Path | None,
    typer.Option("--config", envvar=CONFIG_VARIABLE, metavar="FILE", help=_CONFIG_HELP, readable=False),
]
ConfigOption = Annotated[  # typer does not check that it is readable, so that the error is our own sentence
    Path | None, typer.Option("--config", metavar="FILE", help=_CONFIG_HELP, readable=False)
]
JSONOption = Annotated[bool, typer.Option("--json", help="Print JSON, for a program.")]


class PlainCommand(TyperCommand):
    """A command whose help shows only an argument's metavar, not its Python type."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return its parameters."""
        params = super().get_params(ctx)
        for argument in params:
            if isinstance(argument, TyperArgument):
                vars(argument)["display_type_rich"] = lambda **_: None  # older versions of typer show no type anyway
        return params


def takes_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command groups of options: each field of a parameter that is a dataclass becomes an option.

    typer reads the options of a command from its signature, so the decorated one has that of all options.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if dataclasses.is_dataclass(kind)}
    options = [option for one in signature(command).parameters.values() for option in _options(one, hints[one.name])]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in dataclasses.fields(group)})
        command(**given)

    run.__signature__ = signature(command).replace(parameters=options)  # type: ignore[attr-defined]
    run.__annotations__ = {option.name: option.annotation for option in options}
    return run


def _options(parameter: Parameter, kind: Any) -> Iterator[Parameter]:
    """Return a parameter with its type, or the fields of its type when that is a dataclass."""
    if not dataclasses.is_dataclass(kind):
        yield parameter.replace(annotation=kind, kind=Parameter.KEYWORD_ONLY)
        return
    hints = get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        yield Parameter(field.name, Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name])


class Versions(StrEnum):
    """Which versions of a SOP Instance to use."""

    ONE = "one"
    ALL = "all"


_MOMENT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[T ]([0-9]{2}:[0-9]{2})(?:(:[0-9]{2})(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:[0-9]{2})?)?"
)


def moment(text: str) -> datetime:
    """Parse a point in time: the last instant of the given day, minute or second.

    Without an offset it is this computer's local time.  When a change of the clocks allows two readings, the later one
    counts, so that nothing of that hour is left out.
    """
    if found := _MOMENT.fullmatch(text):
        date, minute, second, fraction, offset = found.groups(default="")
        last = f"{date}T{minute or '23:59'}{second or ':59'}{fraction or '.':9<7}{offset}"
        with contextlib.suppress(ValueError, OverflowError):
            written = datetime.fromisoformat(last)
            return written.astimezone(UTC) if offset else max(map(_to_utc, (written, written.replace(fold=1))))
    raise typer.BadParameter("write the time as 2026-01-31, 2026-01-31T14:30 or 2026-01-31T14:30:59+01:00")


def _to_utc(local: datetime) -> datetime:
    return (local - local_offset(local)).replace(tzinfo=UTC)


AsOfOption = Annotated[
    datetime | None,
    typer.Option(
        metavar="TIME",
        parser=moment,
        help="The archive as it was at this time: 2026-01-31 (the end of that day), 2026-01-31T14:30 (of that minute), "
        "2026-01-31T14:30:59 (of that second). Local time of this computer, unless Z or an offset like +01:00 follows.",
    ),
]


def config_of(context: typer.Context, config: Path | None) -> Path | None:
    """Return the settings file that the command line names.

    ``--config`` after the command has priority over one before it, and that over BACKUP_SCP_CONFIG.
    """
    before: Path | None = context.find_root().obj
    return config or before


def settings_of(context: typer.Context, config: Path | None, *, creates: bool = False, logs: bool = True) -> Settings:
    """Read the settings that the command line names, and more: see ``open_settings``."""
    return open_settings(config_of(context, config), creates=creates, logs=logs)
