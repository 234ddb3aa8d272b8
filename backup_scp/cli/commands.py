"""Register the commands; typer parses the command line."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from backup_scp.cli import (
    check,
    copies,
    db,
    drill,
    echo,
    find,
    import_folders,
    index,
    plan,
    pull,
    rebuild,
    recover,
    restore,
    serve,
    status,
    verify,
)
from backup_scp.cli.failure import usage_errors_told
from backup_scp.cli.options import ConfigOption, JSONOption, MainConfigOption, PlainCommand, config_of


class _Commands(TyperGroup):
    """The group of all commands; with --json, it also reports a wrong command line as JSON."""

    def make_context(self, *arguments: Any, **more: Any) -> Any:
        with usage_errors_told():
            return super().make_context(*arguments, **more)

    def invoke(self, ctx: Any) -> Any:
        with usage_errors_told():
            return super().invoke(ctx)


app = typer.Typer(
    name="backup-scp",
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # it would read [[remote]] as markup, and costs start-up time
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

    A console or PACS sends every study here over DICOM. backup-scp stores acknowledged images exactly as received,
    finds them, and sends them back to any configured AE or into a folder.

    Begin with: backup-scp serve
    """
    context.obj = config


@app.command("serve", cls=PlainCommand)
def _serve(context: typer.Context, json: JSONOption = False, config: ConfigOption = None) -> None:
    """Run the node: receive and store images, answer queries, send back.

    It runs until Ctrl-C, or until the system stops it. Without settings it listens as BACKUP_SCP on port 11112 and
    stores everything in the folder backup-scp-data (BACKUP_SCP_HOME).
    """
    serve.serve(config_of(context, config), json=json)


app.command("status", cls=PlainCommand)(status.status)
app.command("check", cls=PlainCommand)(check.check)
app.command("echo", cls=PlainCommand)(echo.echo)
app.command("find", cls=PlainCommand)(find.find)
app.command("import", cls=PlainCommand)(import_folders.import_folders)
app.command("pull", cls=PlainCommand)(pull.pull)
app.command("recover", cls=PlainCommand)(recover.recover)
app.command("restore", cls=PlainCommand)(restore.restore)
app.command("drill", cls=PlainCommand)(drill.drill)
app.command("plan", cls=PlainCommand)(plan.plan)
app.command("verify", cls=PlainCommand)(verify.verify)
app.command("rebuild", cls=PlainCommand)(rebuild.rebuild)
app.add_typer(copies.app, name="copies")
app.add_typer(index.app, name="index")
app.add_typer(db.app, name="db")
