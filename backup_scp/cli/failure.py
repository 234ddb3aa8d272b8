"""How a command fails: a sentence for a person, an object for a program, an exit code for both."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from backup_scp.cli.output import complain, print_json

EXIT_CODES = {
    0: "All is well, and what was asked for was done.",
    1: "Something failed, or a person must act. Each command says what that is.",
    2: "The command line is wrong: nothing was done.",
    130: "It was interrupted (Ctrl-C). What was done until then is kept.",
}
"""What every command ends with."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What a command that fails prints with ``--json``.

    Attributes
    ----------
    error
        What went wrong, in a sentence; it names no patient.
    fix
        What to do, where the sentence does not say it.
    exit_code
        What the command ends with.
    """

    error: str
    fix: str
    exit_code: int


def fail(sentence: str, exit_code: int, fix: str = "") -> None:
    """Say that the command failed, on the standard error output; with ``--json`` on the standard output, too."""
    complain(sentence)
    print_failure(sentence, exit_code, fix)


def print_failure(sentence: str, exit_code: int, fix: str = "") -> None:
    """Print the object of a failure, where JSON was asked for."""
    if "--json" in sys.argv[1:]:
        print_json(Failure(sentence, fix, exit_code))


@contextmanager
def usage_errors_told() -> Iterator[None]:
    """Print the object of a command line that is wrong, or was interrupted; the library says the rest, and exits.

    What it raises is click's, or that of the copy of click inside newer versions of typer: known by how it is used.
    """
    try:
        yield
    except KeyboardInterrupt:
        print_failure("Interrupted", 130)
        raise
    except Exception as error:
        if hasattr(error, "format_message"):
            print_failure(error.format_message(), 2)
        raise
