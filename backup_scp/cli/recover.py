"""backup-scp recover."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from backup_scp.cli.options import ConfigOption, config_of
from backup_scp.cli.output import complain, count, moment, progress, say, size
from backup_scp.cli.serve import ToPerson
from backup_scp.errors import Unavailable
from backup_scp.machine.readable import duration

if TYPE_CHECKING:
    from backup_scp.node.settings import Settings
    from backup_scp.node.supervisor import Ready
    from backup_scp.ports import StandAloneCopy, Task

_FILE = "backup-scp.toml"
_LOOK_EVERY_S = 0.5


def recover(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="FROM",
            help="A drive's folder, s3://BUCKET/PREFIX, rclone:REMOTE:PATH, or a [[copy]] of the settings by its name.",
        ),
    ],
    *,
    home: Annotated[
        Path | None, typer.Option("--home", metavar="FOLDER", help="The new home; without it BACKUP_SCP_HOME.")
    ] = None,
    ae_title: Annotated[
        str, typer.Option("--ae-title", metavar="AE", help="Another AE title than the lost node had.")
    ] = "",
    throttle: Annotated[
        float, typer.Option(min=0, metavar="MB/S", help="Read no more than this many MB a second; 0 is no limit.")
    ] = 0,
    stop_when_done: Annotated[
        bool, typer.Option("--stop-when-done", help="End the node when all is back; exit code 1 when images miss.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing.")] = False,
    config: ConfigOption = None,
) -> None:
    """Make a working node from a further copy, on an empty computer.

    The copy's index comes first: from then on the node answers queries and sends studies, reading through the copy
    what has not come yet. What is asked for comes first, then the newest studies. Every file is compared with its
    digest. The node receives meanwhile.

    Settings come from the copy, unless --config names a file. After an interruption run the same command again, or
    start the node: it goes on where it was. The node runs until Ctrl-C.
    """
    asks = not yes and sys.stdin.isatty()
    settings = _prepare(_Wanted(source, home, config_of(context, config), ae_title, throttle, asks))
    if not _serve(settings, stop_when_done=stop_when_done):
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the command line says."""

    source: str
    home: Path | None
    config: Path | None
    ae_title: str
    throttle: float
    asks: bool


def _prepare(wanted: _Wanted) -> Settings:
    """Make the home, unless a recovery was begun in it; return the settings of the node."""
    from backup_scp.cli.log import configure
    from backup_scp.node.opening import require_owner
    from backup_scp.node.recovering import Source, begin, open_source, require_empty

    file, settings = _first_settings(wanted)
    require_owner(settings)
    if (task := require_empty(settings)) is not None:
        say(f"The recovery into {settings.home} goes on. It began {moment(task.began_at)}")
        configure(settings, daemon=True)
        return settings
    source = Source(wanted.source, mb_per_s=wanted.throttle)
    with open_source(source) as place:
        _tell(wanted.source, place)
        if not file.exists():
            settings = _saved_settings(wanted, file, settings.home, place)
        if wanted.asks and not typer.confirm(
            f"Make the node {settings.node.ae_title} in {settings.home}?", default=True
        ):
            raise typer.Exit(1)
        configure(settings, daemon=True)
        began = time.monotonic()
        begin(settings, place, source)
        say(f"The index is here, after {duration(time.monotonic() - began)}: from now on the node answers")
    return settings


def _first_settings(wanted: _Wanted) -> tuple[Path, Settings]:
    """Return the settings file of the new node, which may not be there yet, and its settings so far."""
    from backup_scp.node.settings import find_file, load

    named = find_file(wanted.config)
    if named is not None and named.exists():
        return named, load(named)
    home = (wanted.home or load(None).home).expanduser().absolute()
    file = named or home / _FILE
    if file.exists():
        return file, load(file)
    return file, msgspec.structs.replace(load(None), home=home, home_source="--home")


def _saved_settings(wanted: _Wanted, file: Path, home: Path, place: StandAloneCopy) -> Settings:
    """Write the settings of the lost node, as far as they hold here, to the new settings file."""
    from backup_scp.node.recovering import adapt, write_settings
    from backup_scp.node.settings import load

    adapted = adapt(place.saved_settings(), home, ae_title=wanted.ae_title)
    write_settings(file, adapted.toml_of(file, home))
    say(f"The settings of the lost node are in {file}")
    for note in adapted.notes:
        say(f"  {note}")
    return load(file)


def _tell(source: str, place: StandAloneCopy) -> None:
    contents = place.contents()
    what = f"The drive {place.label} at {source}" if place.label else source
    if contents.studies is None or contents.patients is None:
        say(f"{what} is a copy of an archive")
    else:
        newest = f", the newest received {contents.newest_at:%Y-%m-%d}" if contents.newest_at else ""
        studies, patients = count(contents.studies, "study"), count(contents.patients, "patient")
        images = f"{count(contents.images or 0, 'image')}, {size(contents.size_bytes or 0)}"
        say(f"{what} has {studies} of {patients}{newest}: {images}")
    if contents.taken_at:
        say(f"Its index was written {moment(contents.taken_at)}; what came later is read from its lists")
    else:
        say("It has no index: one is made from its files, and searches are incomplete until then")


def _serve(settings: Settings, *, stop_when_done: bool) -> bool:
    """Run the node until it is told to stop, or all is back; False when images are missing then."""
    from backup_scp.node import supervisor

    watcher = _Watcher(settings, stop_when_done=stop_when_done)
    supervisor.serve(settings, watcher)
    return watcher.is_well


class _Watcher(ToPerson):
    """Shows how far the recovery is, until it ends."""

    def __init__(self, settings: Settings, *, stop_when_done: bool) -> None:
        self._settings = settings
        self._stop_when_done = stop_when_done
        self._end = threading.Event()
        self.is_well = True

    def ready(self, ready: Ready) -> None:
        super().ready(ready)
        threading.Thread(target=self._watch, name="progress", daemon=True).start()

    def stopping(self) -> None:
        self._end.set()
        super().stopping()

    def _watch(self) -> None:
        from backup_scp.node.opening import open_index
        from backup_scp.ports import RECOVERED, RECOVERY, Progress

        with closing(open_index(self._settings, migrate=False)) as index, progress("Recovery") as show:
            total = index.holdings().versions
            told = ""
            while not self._end.wait(_LOOK_EVERY_S):
                with suppress(Unavailable):
                    tasks = index.tasks()
                    if (running := tasks.get(RECOVERY)) is None:
                        break
                    show(Progress(running.done, total))
                    if running.note.startswith("It waits") and running.note != told:
                        told = running.note
                        complain(told)
            else:
                return
        self._finish(tasks.get(RECOVERED))

    def _finish(self, done: Task | None) -> None:
        if done is None:
            return
        say(done.note)
        self.is_well = done.position == "0"
        if self._stop_when_done:
            os.kill(os.getpid(), signal.SIGTERM)
