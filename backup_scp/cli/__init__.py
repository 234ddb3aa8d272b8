"""The command line: one file a command; each parses, calls, prints.

Exit codes: 0 all is well, 1 something failed or a person must act, 2 the command line is wrong, 130 interrupted.
"""

from __future__ import annotations

import sys
import warnings
from io import TextIOWrapper
from typing import Annotated

import typer

from backup_scp.cli import check, db, echo, find, import_folders, index, rebuild, restore, serve, status, verify
from backup_scp.cli.log import describe
from backup_scp.cli.options import MainConfigOption
from backup_scp.cli.output import complain
from backup_scp.errors import BackupSCPError
from backup_scp.light_imports import keep_out

app = typer.Typer(
    name="backup-scp",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # it takes [[remote]] for markup, and costs start-up time
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from backup_scp import __version__

        print(f"backup-scp {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    context: typer.Context,
    config: MainConfigOption = None,
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    """Keep a backup of every study: a backup PACS that proves your x-rays can come back.

    A console or PACS sends every study here over DICOM; what was acknowledged is kept as it came, can be found, and
    goes back to any configured AE or into a folder.

    Begin with: backup-scp serve
    """
    context.obj = config


app.command("serve")(serve.serve)
app.command("status")(status.status)
app.command("check")(check.check)
app.command("echo")(echo.echo)
app.command("find")(find.find)
app.command("import")(import_folders.import_folders)
app.command("restore")(restore.restore)
app.command("verify")(verify.verify)
app.command("rebuild")(rebuild.rebuild)
app.add_typer(index.app, name="index")
app.add_typer(db.app, name="db")


def _print_anything() -> None:
    """Let a name that the terminal's character set does not know be printed with escapes; it is no error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def main() -> None:
    """Run the command line and exit with its code; an error is a sentence, never a traceback."""
    keep_out()
    warnings.filterwarnings("ignore", module="pydicom")  # they quote values, which are patient data
    _print_anything()
    try:
        app(prog_name="backup-scp")
    except BackupSCPError as error:
        complain(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception:  # noqa: BLE001 - the process's own border
        complain(f"This should not have happened; please report it: {describe(sys.exc_info())}")
        sys.exit(1)
