"""The command line: one file a command; each parses, calls, prints.

Exit codes: 0 all is well, 1 something failed or a person must act, 2 the command line is wrong, 130 interrupted.
"""

from __future__ import annotations

import sys
import warnings
from io import TextIOWrapper
from pathlib import Path

from backup_scp.cli.log import describe
from backup_scp.cli.output import complain
from backup_scp.errors import BackupSCPError
from backup_scp.light_imports import keep_out

CONFIG_VARIABLE = "BACKUP_SCP_CONFIG"
"""Names the settings file where the command line does not."""


def main() -> None:
    """Run the command line and exit with its code; an error is a sentence, never a traceback."""
    keep_out()
    warnings.filterwarnings("ignore", module="pydicom")  # they quote values, which are patient data
    _print_anything()
    try:
        _run(sys.argv[1:])
    except BackupSCPError as error:
        complain(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception:  # noqa: BLE001 - the process's own border
        complain(f"This should not have happened; please report it: {describe(sys.exc_info())}")
        sys.exit(1)


def _run(arguments: list[str]) -> None:
    """Run a command; the node, as a service manager starts it, without the library that reads all the others."""
    config: str | None = None
    match arguments:
        case ["serve"]:
            pass
        case ["serve", "--config", config] | ["--config", config, "serve"]:
            pass
        case _:
            from backup_scp.cli.commands import app

            app(prog_name="backup-scp")
            return
    from backup_scp.cli.serve import serve

    serve(None if config is None else Path(config))


def _print_anything() -> None:
    """Let a name that the terminal's character set does not know be printed with escapes; it is no error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
