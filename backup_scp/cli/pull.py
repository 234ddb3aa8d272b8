"""backup-scp pull."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backup_scp.cli.interruption import EXIT_CODE
from backup_scp.cli.options import ConfigOption, JSONOption, settings_of, takes_groups
from backup_scp.cli.output import complain, count, print_json, progress, say, say_list, size
from backup_scp.cli.selecting import day
from backup_scp.errors import InvalidSelection
from backup_scp.machine.ownership import why_denied

if TYPE_CHECKING:
    from backup_scp.node.pull_sources import Access
    from backup_scp.services.pull_result import Pulled


@dataclass(frozen=True, slots=True)
class PullOptions:
    """What is fetched, and how."""

    since: Annotated[
        str | None, typer.Option("--since", metavar="DATE", parser=day, help="Studies of this Study Date or later.")
    ] = None
    until: Annotated[
        str | None, typer.Option("--until", metavar="DATE", parser=day, help="Studies of this Study Date or earlier.")
    ] = None
    throttle: Annotated[
        float, typer.Option(min=0, metavar="MB/S", help="Fetch no more than this many MB a second; 0 is no limit.")
    ] = 0
    wait: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="MINUTES",
            help="How long to wait for a PACS that is off, restarts or hangs, after its last answer; 0 gives up at "
            "once.",
        ),
    ] = 60


@dataclass(frozen=True, slots=True)
class LoginOptions:
    """How we log in to a DICOMweb server."""

    user: Annotated[str, typer.Option("--user", metavar="NAME", help="DICOMweb: the user.")] = ""
    password_file: Annotated[
        Path | None, typer.Option("--password-file", metavar="FILE", help="DICOMweb: its first line is the password.")
    ] = None
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", metavar="FILE", help="DICOMweb: its first line is a bearer token, for no user."),
    ] = None
    ca: Annotated[
        Path | None,
        typer.Option("--ca", metavar="FILE", help="DICOMweb: the CA that has signed its certificate (PEM)."),
    ] = None

    def access(self) -> Access:
        """Return these values as settings, whose paths may be in any folder."""
        from backup_scp.node.pull_sources import Access

        files = (str(file.absolute()) if file else "" for file in (self.password_file, self.token_file, self.ca))
        return Access(self.user, *files)


@takes_groups
def pull(
    context: typer.Context,
    *,
    source: Annotated[
        str,
        typer.Argument(
            metavar="FROM",
            help="A configured remote AE or copy (its name, or AE title), AETITLE@HOST:PORT, or "
            "dicomweb+https://HOST/PATH.",
        ),
    ],
    options: PullOptions,
    login: LoginOptions,
    json: JSONOption = False,
    config: ConfigOption = None,
) -> None:
    """Fetch from another PACS the images that are not here yet.

    It asks the other PACS what it has, image by image, and fetches what is missing here, the newest study first. Each
    image is stored as it comes, and counts when it is durable. What is here is neither fetched again nor changed; a
    damaged image is fetched again, and repaired. After an interruption run the same command again: it fetches the rest.

    By DICOM it needs C-FIND, and C-GET or C-MOVE, allowed there for this node's AE title. For C-MOVE the PACS must know
    this node: AE title, host and port. A running node receives the images then; if none runs, this command does.
    By DICOMweb it needs QIDO-RS and WADO-RS, and asks for images as they are stored there.

    A PACS that limits the number of its answers is asked again in shorter spans of Study Dates. If studies may be
    missing in its list in spite of that, the command says so.

    Exit code 0 when everything that the other PACS lists is here, 1 when something is or may be missing, 130 after
    Ctrl-C.
    """
    settings = settings_of(context, config, creates=True)
    if options.since and options.until and options.since > options.until:
        raise InvalidSelection(
            f"No day is since {options.since} and until {options.until}: the earlier date belongs to --since"
        )
    from backup_scp.node.audit_setup import reported, reporting_on
    from backup_scp.node.opening import OpenStores
    from backup_scp.node.pull_sources import brought_sites, pull_source
    from backup_scp.services import pulling
    from backup_scp.services.ingest import Ingest
    from backup_scp.services.pull_result import Pulled
    from backup_scp.services.throttle import Patience, Throttle

    with (
        OpenStores(settings, create=True) as storage,
        reporting_on(storage) as reporter,
        Ingest(storage.archive, storage.index) as ingest,
        reported(ingest, reporter, source),
    ):
        done = Pulled(source)
        for site in ("", *brought_sites(settings, source)):
            with (
                pull_source(settings, source, storage.index, ingest, login.access(), site) as other,
                progress(f"Fetching from {other.name}" + (f" for clinic {site}" if site else "")) as show,
            ):
                of_site = pulling.pull(
                    other,
                    storage.index,
                    ingest,
                    show,
                    since=options.since or "",
                    until=options.until or "",
                    throttle=Throttle(options.throttle),
                    patience=Patience(60 * options.wait, complain),
                )
            done.add(of_site)
            if done.interrupted or done.stopped:
                break
    if json:
        print_json(done)
    else:
        tell(done)
    if done.interrupted:
        raise typer.Exit(EXIT_CODE)
    if not done.is_complete:
        raise typer.Exit(1)


def tell(done: Pulled) -> None:
    """Print what a pull did."""
    if not done.studies and not done.stopped and not done.interrupted:
        say(f"{done.source} lists no study")
    elif done.studies:
        is_all = done.complete == done.studies
        studies = count(done.studies, "study")
        say(f"All of {studies} of {done.source} {_is(done.studies)} here" if is_all
            else f"{done.complete:,} of {studies} of {done.source} {_is(done.complete)} here")  # fmt: skip
        say(f"  {count(done.fetched, 'image')} fetched now ({size(done.size_bytes)}), {done.held:,} here before")
    _tell_what_is_missing(done)
    for doubt in done.doubts:
        say(doubt)
    if done.interrupted:
        say("It was interrupted")
    if done.stopped:
        say(f"It stopped: {done.stopped}")
        if denied := why_denied([done.stopped]):
            say(f"  {denied}")
    if done.studies and not done.is_complete:
        say("Running the same command again is safe, and fetches the rest")


def _tell_what_is_missing(done: Pulled) -> None:
    if not done.missing:
        return
    say(f"{count(done.missing, 'image')} missing:")
    for reason, _ in Counter(study.reason for study in done.incomplete).most_common():
        of_it = [study for study in done.incomplete if study.reason == reason]
        say(f"{count(sum(study.images for study in of_it), 'image')}: {reason}")
        say_list((f"{study.study_date or 'no date'}  {study.study_instance_uid}" for study in of_it), len(of_it))


def _is(number: int) -> str:
    return "is" if number == 1 else "are"
