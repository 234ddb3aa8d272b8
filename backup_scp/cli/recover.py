"""backup-scp recover."""

from __future__ import annotations

import re
import sys
import time
from dataclasses import dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backup_scp.cli.options import ConfigOption, JSONOption, config_of, takes_groups
from backup_scp.cli.options import moment as parse_moment
from backup_scp.cli.output import complain, count, moment, print_json, say, size
from backup_scp.cli.recovery_beside import OtherSource, RecoveryBeside
from backup_scp.cli.recovery_watch import RecoveryWatch, end_of
from backup_scp.errors import DigestMismatch, InvalidSettings, OtherKey
from backup_scp.machine.readable import duration

if TYPE_CHECKING:
    from backup_scp.node.new_home import Adapted
    from backup_scp.node.place_at_url import PlaceOptions
    from backup_scp.node.recovering import RecoverySource
    from backup_scp.node.settings import Settings
    from backup_scp.ports import StandAloneCopy, Task

_FILE = "backup-scp.toml"


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How to reach the copy."""

    key: Annotated[
        str,
        typer.Option(metavar="FILE|KEY", help="Recovery key of a sealed copy: its file, or as on paper."),
    ] = ""
    endpoint: Annotated[str, typer.Option(metavar="URL", help="Of the bucket's service, as in [[copy]].")] = ""
    region: Annotated[str, typer.Option(metavar="NAME", help="Of the bucket.")] = ""
    access_key: Annotated[str, typer.Option(metavar="ID", help="Of the bucket; without it AWS_ACCESS_KEY_ID.")] = ""
    secret_key_file: Annotated[
        str, typer.Option(metavar="FILE", help="With the secret key; without it AWS_SECRET_ACCESS_KEY.")
    ] = ""
    ca: Annotated[str, typer.Option(metavar="FILE", help="Certificate of the CA of an own service.")] = ""
    rclone_config: Annotated[str, typer.Option(metavar="FILE", help="rclone.conf with the remote.")] = ""
    as_of: Annotated[
        datetime | None,
        typer.Option(
            metavar="TIME",
            parser=parse_moment,
            help="The bucket as it was at this time, before names were deleted or overwritten: 2026-01-31T14:30.",
        ),
    ] = None

    def options(self) -> PlaceOptions:
        """Return them for ``place_at``."""
        from backup_scp.node.place_at_url import PlaceOptions

        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return PlaceOptions(recovery_key=given.pop("key"), **given)


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """What the new node is like."""

    home: Annotated[
        Path | None, typer.Option("--home", metavar="FOLDER", help="The new home; without it BACKUP_SCP_HOME.")
    ] = None
    ae_title: Annotated[
        str, typer.Option("--ae-title", metavar="AE", help="Another AE title than the lost node had.")
    ] = ""
    throttle: Annotated[
        float, typer.Option(min=0, metavar="MB/S", help="Read no more than this many MB a second; 0 is no limit.")
    ] = 0
    stop_when_done: Annotated[
        bool, typer.Option("--stop-when-done", help="End when all is back; exit code 1 when images are missing.")
    ] = False
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing.")] = False


@takes_groups
def recover(
    context: typer.Context,
    *,
    source: Annotated[
        str,
        typer.Argument(
            metavar="FROM",
            help="A drive's folder, s3://BUCKET/PREFIX, rclone:REMOTE:PATH, the name of a [[copy]]; or a folder of "
            "DICOM files, AETITLE@HOST:PORT, dicomweb+https://HOST/PATH.",
        ),
    ],
    node: NodeOptions,
    reaching: SourceOptions,
    json: JSONOption = False,
    config: ConfigOption = None,
) -> None:
    """Make a working node from a further copy, on an empty computer.

    The copy's index comes first: from then on the node answers queries and sends studies, reading through the copy
    what has not come yet. What is asked for comes first, then the newest studies. Every file is compared with its
    digest. The node receives meanwhile.

    Settings come from the copy, unless --config names a file. After an interruption run the same command again, or
    start the node: it goes on where it was. The node runs until Ctrl-C.

    From a folder of DICOM files, and from another PACS, images come as with import and pull, while the node runs.
    """
    wanted = _Wanted(source, config_of(context, config), node, reaching, json)
    file, settings = _first_settings(wanted)
    if (other := _other_source(settings, source)) is not None:
        if not file.exists():
            settings = _new_settings(wanted, file, settings)
        is_well = _serve_beside(settings, other, file, node, json=json)
    else:
        is_well = _serve(_prepare(wanted, file, settings), node, json=json)
    if not is_well:
        raise typer.Exit(1)


def _other_source(settings: Settings, source: str) -> OtherSource | None:
    """Return a source that is no copy of ours; None for a copy."""
    from backup_scp.node.place_at_url import is_other_folder

    if any(copy.name == source for copy in settings.copy):
        return None
    if re.fullmatch(r"(dicom://)?[^/@]+@[^/@]+:\d+/?|dicomweb\+https?://.+", source) or settings.find_remote(source):
        return OtherSource(source, is_folder=False)
    return OtherSource(source, is_folder=True) if is_other_folder(source) else None


def _new_settings(wanted: _Wanted, file: Path, settings: Settings) -> Settings:
    """Write the settings of a node that is new: the source has none."""
    from backup_scp.node.new_home import adapt

    ae_title = wanted.node.ae_title
    if not ae_title and wanted.asks:
        complain("A PACS, and each console, must know the node by its AE title.")
        ae_title = typer.prompt("AE title of the node", default=settings.node.ae_title).strip()
    return _written(wanted, file, settings.home, adapt("", settings.home, ae_title=ae_title))


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the command line says."""

    source: str
    config: Path | None
    node: NodeOptions
    reaching: SourceOptions
    json: bool

    def say(self, sentence: str) -> None:
        """Tell a person, who reads standard error when a program reads the output."""
        (complain if self.json else say)(sentence)

    @property
    def asks(self) -> bool:
        """Whether a person is here to be asked."""
        return not self.node.yes and sys.stdin.isatty()


def _prepare(wanted: _Wanted, file: Path, settings: Settings) -> Settings:
    """Make the home, unless a recovery was begun in it; return the settings of the node."""
    from backup_scp.cli.log import configure
    from backup_scp.node.answering_early import answering_early
    from backup_scp.node.new_home import begin, require_empty
    from backup_scp.node.opening import require_owner
    from backup_scp.node.recovering import named_source, open_source

    require_owner(settings)
    source = named_source(settings, wanted.source, wanted.reaching.options())
    if (task := require_empty(settings, source.url)) is not None:
        if task.ended_at:
            raise _done_before(wanted, file, task)
        wanted.say(f"The recovery into {settings.home} goes on. It began {moment(task.began_at)}")
        configure(settings, daemon=True)
        return settings
    source = _with_key(settings, replace(source, mb_per_s=wanted.node.throttle), asks=wanted.asks)
    with open_source(settings, source) as place:
        _tell(wanted, place)
        adapted = None if file.exists() else _saved_settings(wanted, settings.home, place)
        ae_title = (adapted.sections if adapted else settings).node.ae_title
        if wanted.asks and not typer.confirm(f"Make the node {ae_title} in {settings.home}?", default=True):
            raise typer.Exit(1)
        if adapted is not None:
            settings = _written(wanted, file, settings.home, adapted)
        source = _kept_key(settings, source)
        configure(settings, daemon=True)
        began = time.monotonic()
        with answering_early(settings, place, source) as is_answering:
            if is_answering:
                wanted.say(f"The node answers by the index at {wanted.source}, while that comes; it receives then")
            begin(settings, place, source)
        wanted.say(f"The index is here, after {duration(time.monotonic() - began)}")
    return settings


def _done_before(wanted: _Wanted, file: Path, task: Task) -> typer.Exit:
    """Say that all is back since an earlier run, and what to type; return the end of the command."""
    end = end_of(task)
    wanted.say(f"The recovery ended {moment(end.ended_at)}. Start the node: backup-scp serve --config {file}")
    if wanted.json:
        print_json(end)
    else:
        say(end.sentence)
    return typer.Exit(1 if end.missing else 0)


def _with_key(settings: Settings, source: RecoverySource, *, asks: bool) -> RecoverySource:
    """Make sure that what is sealed can be opened; ask for the recovery key, when a person is here."""
    from backup_scp.copies.cloud.recovery_key import read_typed
    from backup_scp.node.recovering import open_source

    while True:
        try:
            with open_source(settings, source) as place:
                _try_key(place)
        except (DigestMismatch, InvalidSettings) as error:
            if not asks or (isinstance(error, InvalidSettings) and not source.options.recovery_key):
                raise
            complain(str(error))
            complain("Type the recovery key, as on the envelope, or the name of its file; then an empty line:")
            if not (key := read_typed(sys.stdin).strip()):
                raise
            source = _with(source, key)
            continue
        return source


def _try_key(place: StandAloneCopy) -> None:
    """Raise when what is sealed cannot be opened; damaged settings alone do not matter."""
    try:
        place.saved_settings()
    except OtherKey:
        raise
    except DigestMismatch:
        next(iter(place.listed()), None)  # sealed, and without a key, the lists cannot be read either


def _kept_key(settings: Settings, source: RecoverySource) -> RecoverySource:
    """Name the recovery key by its file, so that the index does not hold it; a typed one is written to a file."""
    from backup_scp.copies.cloud.recovery_key import file_of
    from backup_scp.node.new_home import keep_key

    if not (key := source.options.recovery_key):
        return source
    file = file_of(key)
    return _with(source, str(keep_key(settings, key) if file is None else file.absolute()))


def _with(source: RecoverySource, key: str) -> RecoverySource:
    return replace(source, options=replace(source.options, recovery_key=key))


def _first_settings(wanted: _Wanted) -> tuple[Path, Settings]:
    """Return the settings file of the new node, which may not be there yet, and its settings so far.

    Raises
    ------
    InvalidSettings
        The file names another home than the command: the node would not find there later what comes back now.
    """
    from msgspec import structs

    from backup_scp.node.settings import find_file, load

    named, asked = find_file(wanted.config), wanted.node.home
    home = (asked or load(None).home).expanduser().absolute()
    file = named or home / _FILE
    if not file.exists():
        return file, structs.replace(load(None), home=home, home_source="--home")
    settings = load(file)
    if asked and settings.home.resolve() != home.resolve():
        raise InvalidSettings(
            f'The home of {file} is {settings.home} ({settings.home_source or "the usual one"}): set  home = "{home}"  '
            "there below [node], or leave --home out"
        )
    return file, settings


def _saved_settings(wanted: _Wanted, home: Path, place: StandAloneCopy) -> Adapted:
    """Return the settings of the lost node, as far as they hold here; the usual ones when they are damaged."""
    from backup_scp.node.new_home import adapt

    try:
        return adapt(place.saved_settings(), home, ae_title=wanted.node.ae_title)
    except DigestMismatch as error:
        wanted.say(f"{error}. The images come back nevertheless; enter your settings again")
        return adapt("", home, ae_title=wanted.node.ae_title)


def _written(wanted: _Wanted, file: Path, home: Path, adapted: Adapted) -> Settings:
    """Write the new settings file, and return its settings."""
    from backup_scp.node.new_home import write_settings
    from backup_scp.node.settings import load

    write_settings(file, adapted.toml_of(file, home))
    wanted.say(f"The settings of the node are in {file}")
    for note in adapted.notes:
        wanted.say(f"  {note}")
    return load(file)


def _tell(wanted: _Wanted, place: StandAloneCopy) -> None:
    contents = place.contents()
    what = f"The drive {place.label} at {wanted.source}" if place.label else wanted.source
    if contents.studies is None or contents.patients is None:
        wanted.say(f"{what} is a copy of an archive")
    else:
        newest = f", the newest received {contents.newest_at:%Y-%m-%d}" if contents.newest_at else ""
        studies, patients = count(contents.studies, "study"), count(contents.patients, "patient")
        images = f"{count(contents.images or 0, 'image')}, {size(contents.size_bytes or 0)}"
        wanted.say(f"{what} has {studies} of {patients}{newest}: {images}")
    if contents.taken_at:
        wanted.say(f"Its index was written {moment(contents.taken_at)}; what came later is read from its lists")
    else:
        wanted.say("It has no index: one is made from its files, and searches are incomplete until then")


def _serve(settings: Settings, node: NodeOptions, *, json: bool) -> bool:
    """Run the node until it is told to stop, or all is back; False when images are missing then."""
    from backup_scp.node import supervisor

    watch = RecoveryWatch(settings, stop_when_done=node.stop_when_done, json=json)
    supervisor.serve(settings, watch)
    return watch.is_well


def _serve_beside(settings: Settings, other: OtherSource, file: Path, node: NodeOptions, *, json: bool) -> bool:
    """Run the node, and a command beside it that brings images in; False when it has failed."""
    from backup_scp.node import supervisor

    command = other.command(file, node.throttle)
    beside = RecoveryBeside(settings, other, command, stop_when_done=node.stop_when_done, json=json)
    supervisor.serve(settings, beside)
    return beside.is_well
