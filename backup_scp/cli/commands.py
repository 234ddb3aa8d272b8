"""Register the commands; typer parses the command line."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

import typer
import typer.main
from typer.core import TyperGroup

from backup_scp.cli import serve
from backup_scp.cli.failure import usage_errors_told
from backup_scp.cli.options import ConfigOption, JSONOption, MainConfigOption, PlainCommand, config_of

_COMMANDS = {
    "setup": "setup",
    "reload": "reload",
    "status": "status",
    "check": "check",
    "echo": "echo",
    "find": "find",
    "import": "import_folders",
    "pull": "pull",
    "recover": "recover",
    "restore": "restore",
    "drill": "drill",
    "plan": "plan",
    "alerts": "alerts",
    "verify": "verify",
    "rebuild": "rebuild",
    "copies": "copies",
    "index": "index",
    "db": "db",
    "users": "users",
    "patients": "patients",
    "tls": "tls",
    "audit": "audit",
}
"""The commands and their modules; a module has ``app``, a group of commands, or a function with its own name."""


class _Commands(TyperGroup):
    """The group of all commands; with --json, it also reports a wrong command line as JSON.

    A command is loaded when it is named: loading all of them would take longer than most of them run.
    """

    def list_commands(self, _: Any) -> list[str]:
        return ["serve", *_COMMANDS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        for name in [cmd_name] if cmd_name in self.list_commands(ctx) else _COMMANDS:  # all of them to suggest one
            if name not in self.commands:
                self.commands[name] = _loaded(name)
        return super().get_command(ctx, cmd_name)

    def make_context(self, *arguments: Any, **more: Any) -> Any:
        with usage_errors_told():
            return super().make_context(*arguments, **more)

    def invoke(self, ctx: Any) -> Any:
        with usage_errors_told():
            return super().invoke(ctx)


def _loaded(name: str) -> Any:
    """Load one command, and make it as ``app`` would."""
    module = import_module(f"backup_scp.cli.{_COMMANDS[name]}")
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    if isinstance(group := getattr(module, "app", None), typer.Typer):
        alone.add_typer(group, name=name)
    else:
        alone.command(name, cls=PlainCommand)(getattr(module, _COMMANDS[name]))
        alone.callback()(lambda: None)  # so that it makes a group of one
    made: Any = typer.main.get_command(alone)
    return made.commands[name]


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

    Begin with: backup-scp setup, or backup-scp serve
    """
    context.obj = config


@app.command("serve", cls=PlainCommand)
def _serve(context: typer.Context, json: JSONOption = False, config: ConfigOption = None) -> None:
    """Run the node: receive and store images, answer queries, send back.

    It runs until Ctrl-C, or until the system stops it. Without settings it listens as BACKUP_SCP on port 11112 and
    stores everything in the folder backup-scp-data (BACKUP_SCP_HOME).
    """
    serve.serve(config_of(context, config), json=json)
