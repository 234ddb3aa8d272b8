"""backup-scp copies: further copies of all images, on drives, in cloud storage, at another PACS."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from backup_scp.cli import copies_fetch, copies_work
from backup_scp.cli.copies_report import tell_check, tell_cost, tell_keys, tell_states
from backup_scp.cli.options import ConfigOption, JSONOption, PlainCommand, config_of, settings_of, takes_groups
from backup_scp.cli.output import print_json, say

app = typer.Typer(
    invoke_without_command=True,
    help="Further copies: on drives, in cloud storage, at another PACS.",
    no_args_is_help=False,
)

NameArgument = Annotated[str | None, typer.Argument(metavar="NAME", help="The copy; without it all of them.")]
OneArgument = Annotated[str, typer.Argument(metavar="NAME", help="The copy.")]

_SYNC = "backup-scp copies sync"


@dataclass(frozen=True, slots=True)
class Forgotten:
    """The copy that was forgotten.

    Attributes
    ----------
    name
        Its name.
    """

    name: str


@dataclass(frozen=True, slots=True)
class PriceOptions:
    """Prices, in dollars."""

    drive: Annotated[float, typer.Option(metavar="$", help="One external drive.")] = 90
    drive_tb: Annotated[float, typer.Option(metavar="TB", min=0.01, help="Its size.")] = 2
    drive_years: Annotated[float, typer.Option(metavar="YEARS", min=0.1, help="How long it is used.")] = 4
    drives: Annotated[int, typer.Option(metavar="NUMBER", min=1, help="How many drives take turns.")] = 2
    bucket_tb_month: Annotated[float, typer.Option(metavar="$", help="A TB in the bucket for a month.")] = 6
    bucket_thousand_puts: Annotated[float, typer.Option(metavar="$", help="A thousand objects written.")] = 0.005
    bucket_tb_out: Annotated[float, typer.Option(metavar="$", help="A TB read from the bucket.")] = 10
    cloud_pacs_study: Annotated[float, typer.Option(metavar="$", help="A study at a cloud PACS.")] = 1


@app.callback()
def copies(context: typer.Context, json: JSONOption = False, config: ConfigOption = None) -> None:
    """List the further copies: what each has, what is due, and what is wrong with it."""
    if context.invoked_subcommand is not None:
        return
    settings = settings_of(context, config)
    from backup_scp.machine import clock
    from backup_scp.node.copy_setup import chosen
    from backup_scp.node.opening import OpenStores

    chosen(settings, None)
    with OpenStores(settings) as storage:
        found = storage.index.copies.states(clock.now())
    if json:
        print_json(found)
    else:
        tell_states(settings, found)


@app.command("sync", cls=PlainCommand)
def sync(
    context: typer.Context,
    name: NameArgument = None,
    despite_alarm: Annotated[
        bool,
        typer.Option(
            "--despite-alarm", help="A person has looked at the alarm: go on, until more images are changed or lost."
        ),
    ] = False,
    json: JSONOption = False,
    config: ConfigOption = None,
) -> None:
    """Bring copies up to date now: write what is due, read it back, and compare it.

    The node does the same by itself while it runs; both may work at once. Ctrl-C ends the command, and the next run
    goes on from there. Exit code 1 when something failed.
    """
    copies_work.sync(config_of(context, config), name, json=json, despite_alarm=despite_alarm)


@app.command("verify", cls=PlainCommand)
def verify(
    context: typer.Context, name: NameArgument = None, json: JSONOption = False, config: ConfigOption = None
) -> None:
    """Read back everything that copies have, and compare it.

    The node does the same by itself, over many days (compare_days). What is damaged or missing is written again by the
    next sync. Damaged images of the archive are restored from the copy. Exit code 1 when something is wrong.
    """
    copies_work.verify(config_of(context, config), name, json=json)


@dataclass(frozen=True, slots=True)
class DriveOptions:
    """How a drive is prepared."""

    label: Annotated[
        str, typer.Option(metavar="TEXT", help="A name for people, as on the drive's sticker; else the copy's name.")
    ] = ""
    same_disk: Annotated[
        bool, typer.Option("--same-disk", help="Allow a folder on a disk of this computer: for a trial only.")
    ] = False


app.command("fetch", cls=PlainCommand)(copies_fetch.fetch)


@app.command("init", cls=PlainCommand)
@takes_groups
def init(
    context: typer.Context,
    name: OneArgument,
    options: DriveOptions,
    folder: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="The folder on the drive; needed where the url has a *.")
    ] = None,
    json: JSONOption = False,
    config: ConfigOption = None,
) -> None:
    """Prepare a new drive for a copy: write the marker by which the node knows it again.

    Connect the drive and type this once for each. A drive without the marker is never written to. The folder must be
    new or empty: what else is on the drive stays as it is.
    """
    settings = settings_of(context, config)
    from backup_scp.node.copy_setup import prepare

    prepared = prepare(settings, name, folder, options.label or name, may_share_disk=options.same_disk)
    if json:
        print_json(prepared)
    else:
        say(f"The drive {prepared.label} is ready. The node fills it while it runs; to fill it now: {_SYNC} {name}")


@app.command("check", cls=PlainCommand)
def check(context: typer.Context, name: OneArgument, json: JSONOption = False, config: ConfigOption = None) -> None:
    """Show in a table what the place of a copy really gives: locks, versions, who can delete.

    It is tried with a small object of its own, not only asked. Exit code 1 when something should be otherwise.
    """
    settings = settings_of(context, config)
    from backup_scp.node.place_check import check_place

    found = check_place(settings, name)
    if json:
        print_json(found)
    else:
        tell_check(found)
    if not all(answer.is_well for answer in found):
        raise typer.Exit(1)


@app.command("keys", cls=PlainCommand)
def keys(
    context: typer.Context,
    prove: Annotated[
        Path | None,
        typer.Option(
            "--prove",
            metavar="FILE",
            help="Make no keys: prove that the recovery key in this file (- is the keyboard) opens what encrypt seals.",
        ),
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", metavar="FILE", help="Write the sheet to a new file, to print it.")
    ] = None,
    json: JSONOption = False,
    config: ConfigOption = None,
) -> None:
    """Make a key pair for sealed copies, and show the recovery key once, on a sheet to print.

    The node gets the public key alone, in encrypt of a [[copy]]: it cannot open what it has sealed. Print the sheet,
    put it into an envelope, and keep it in a safe outside of the building. Without it nobody can open the copies.
    """
    settings = settings_of(context, config)
    from backup_scp.node import copy_keys

    made = copy_keys.proved(settings, prove) if prove else copy_keys.made(settings, sheet)
    if json:
        print_json(made)
    else:
        tell_keys(made)


@app.command("forget", cls=PlainCommand)
def forget(context: typer.Context, name: OneArgument, json: JSONOption = False, config: ConfigOption = None) -> None:
    """Forget a copy that was taken out of the settings; nothing is deleted at the place itself."""
    settings = settings_of(context, config)
    from backup_scp.node.copy_setup import forget as forget_copy

    forget_copy(settings, name)
    if json:
        print_json(Forgotten(name))
    else:
        say(f"{name} is forgotten")


@app.command("cost", cls=PlainCommand)
@takes_groups
def cost(context: typer.Context, prices: PriceOptions, json: JSONOption = False, config: ConfigOption = None) -> None:
    """Show what a year of each kind of copy costs, for the studies that this archive receives.

    Give your own prices: those that are set are examples, in dollars. docs/cost.md has the formulas.
    """
    settings = settings_of(context, config)
    from backup_scp.machine import clock
    from backup_scp.node.opening import OpenStores
    from backup_scp.watch.cost import Prices, yearly_volume
    from backup_scp.watch.cost import cost as cost_of

    with OpenStores(settings) as storage:
        found = cost_of(yearly_volume(storage.index, clock.now()), Prices(**asdict(prices)))
    if json:
        print_json(found)
    else:
        tell_cost(found)
