"""backup-scp drill."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backup_scp.cli.interruption import INTERRUPTED, interruptible
from backup_scp.cli.options import ConfigOption, JSONOption, settings_of, takes_groups
from backup_scp.cli.output import progress
from backup_scp.errors import BackupSCPError, DestinationAway, InvalidSelection

if TYPE_CHECKING:
    from backup_scp.cli.drill_report import DrillRun
    from backup_scp.node.drills import DrillRequest
    from backup_scp.node.settings import CopySettings, Settings

_SAMPLE = 50


@dataclass(frozen=True, slots=True)
class DrillingOptions:
    """What is tried."""

    sample: Annotated[
        int | None, typer.Option(min=1, metavar="N", help=f"How many images of each copy; by default {_SAMPLE}.")
    ] = None
    everything: Annotated[bool, typer.Option("--all", help="All images of each copy.")] = False
    to: Annotated[
        str, typer.Option(metavar="AE", help="Send the images to this remote AE too, such as a console's test AE.")
    ] = ""
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The recovery key of sealed copies, as copies keys made it.")
    ] = None
    scratch: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="A folder for temporary files; else one below the data folder."),
    ] = None


@takes_groups
def drill(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="The copy; without it all of them.")] = None,
    *,
    options: DrillingOptions,
    json: JSONOption = False,
    config: ConfigOption = None,
) -> None:
    """Prove that copies come back: fetch images as on an empty machine, send them to a console, compare every byte.

    Each copy is only read. Its own settings and index are tried, then a sample of images: at random, and always some
    of the newest, of the oldest and of each kind. They go into a scratch archive, which is removed afterwards, and from
    there over a DICOM Association into a throw-away console of our own. What arrives is compared with what this archive
    received. The time that it takes tells how long everything would take.

    The node does the same by itself, once a month ([drill] in the settings). Exit code 1 when something is wrong, or
    when no copy could be reached.
    """
    if options.everything and options.sample:
        raise InvalidSelection("--all tries all images: leave out --sample")
    settings = settings_of(context, config)
    from backup_scp.cli.drill_report import DrillRun, tell
    from backup_scp.node.copy_setup import chosen
    from backup_scp.node.drills import DrillRequest

    sample = None if options.everything else options.sample or _SAMPLE
    request = DrillRequest(sample, options.to, options.key, options.scratch)
    run = DrillRun(stopped=INTERRUPTED)
    wanted = chosen(settings, name)
    with interruptible(lambda: tell(run, json=json)):
        for copy in wanted:
            _one(settings, copy, request, run)
        run.stopped = ""
    tell(run, json=json)
    if run.needs_a_person:
        raise typer.Exit(1)


def _one(settings: Settings, copy: CopySettings, request: DrillRequest, run: DrillRun) -> None:
    """Do the drill of one copy; what prevents it becomes part of the result, so that the others have their turn."""
    from backup_scp.cli.drill_report import DrillNotDone
    from backup_scp.node.drills import run_drill
    from backup_scp.node.opening import OpenStores

    try:
        with OpenStores(settings) as storage, progress(f"Drill of {copy.name}") as show:
            run.drills.append(run_drill(settings, storage, copy, request, on_progress=show))
    except InvalidSelection:
        raise
    except BackupSCPError as error:
        run.not_done.append(DrillNotDone(copy.name, str(error), isinstance(error, DestinationAway)))
