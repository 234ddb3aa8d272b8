"""The command line: one file for each command.

``failure.EXIT_CODES`` lists the exit codes, docs/cli.md all options and output.
"""

from __future__ import annotations

import sys
import warnings
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Self

from backup_scp.cli.light_imports import keep_out
from backup_scp.cli.log import describe
from backup_scp.errors import BackupSCPError
from backup_scp.machine.ownership import why_denied

CONFIG_VARIABLE = "BACKUP_SCP_CONFIG"
"""Environment variable for the settings file; the command line has priority."""


def main() -> None:
    """Run the command line and exit with its code; an error is a sentence, never a traceback."""
    keep_out()
    warnings.filterwarnings("ignore", module="pydicom")  # they contain values, which are patient data
    _print_anything()
    try:
        _run(sys.argv[1:])
    except BackupSCPError as error:
        because = why_denied([str(error)])
        _fail(f"{error}; {because}" if because else str(error), 1, getattr(error, "fix", ""))
    except KeyboardInterrupt:
        _fail("", 130)
    except Exception:  # noqa: BLE001 - the last place to catch an error
        _fail(f"This should not have happened; please report it: {describe(sys.exc_info())}", 1)


def _fail(sentence: str, exit_code: int, fix: str = "") -> NoReturn:
    from backup_scp.cli.failure import fail, print_failure

    if sentence:
        fail(sentence, exit_code, fix)
    else:
        print_failure("Interrupted", exit_code)
    sys.exit(exit_code)


def _run(arguments: list[str]) -> None:
    """Run a command; without loading typer for ``serve`` and ``copies sync``, as services and timers call them."""
    plain = _Plain.read(arguments)
    match plain.words:
        case ["serve"] if not plain.json:
            from backup_scp.cli.serve import serve

            serve(plain.config)
        case ["copies", "sync"] | ["copies", "sync", _]:
            from backup_scp.cli.copies_work import sync

            sync(plain.config, next(iter(plain.words[2:]), None), json=plain.json)
        case _:
            from backup_scp.cli.commands import app

            app(prog_name="backup-scp")


class _Plain(NamedTuple):
    """A command line without any option but --config and --json; without words, when it has another."""

    words: list[str]
    config: Path | None = None
    json: bool = False

    @classmethod
    def read(cls, arguments: list[str]) -> Self:
        words: list[str] = []
        options: dict[str, Any] = {}
        rest = iter(arguments)
        for argument in rest:
            if not argument.startswith("-"):
                words.append(argument)
            elif words == ["copies"]:
                return cls([])  # an option of `copies` itself
            elif argument == "--json" and words:
                options["json"] = True
            elif argument == "--config" and (file := next(rest, "")):
                options["config"] = Path(file)
            else:
                return cls([])
        return cls(words, **options)


def _print_anything() -> None:
    """Print characters that the terminal's character set lacks as escapes, instead of raising."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
