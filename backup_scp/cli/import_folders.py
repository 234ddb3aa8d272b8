"""backup-scp import."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from backup_scp.cli.interruption import INTERRUPTED, interruptible
from backup_scp.cli.options import ConfigOption, JSONOption, settings_of
from backup_scp.cli.output import count, print_json, progress, say, say_list, size
from backup_scp.errors import BackupSCPError, NotDICOM, SourceUnavailable, Unavailable
from backup_scp.machine import clock
from backup_scp.machine.ownership import why_denied
from backup_scp.services.import_result import Imported

if TYPE_CHECKING:
    from backup_scp.ports import Heading, Progress
    from backup_scp.services.import_files import Member, NotRead
    from backup_scp.services.ingest import Ingest
    from backup_scp.services.throttle import Throttle

_CHUNK_BYTES = 1 << 20
_GO_ON = "Run the same command again: it skips images that are already stored"
_NO_DICOM_IN_ZIP = "A zip file without DICOM files"
_NOTHING_IN_JOURNAL = "An intake journal that holds nothing"


def import_folders(
    context: typer.Context,
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER...", exists=True, help="Folders, including subfolders, or files.")
    ],
    throttle: Annotated[
        float, typer.Option(min=0, metavar="MB/S", help="Read no more than this many MB a second; 0 is no limit.")
    ] = 0,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="List the skipped files.")] = False,
    json: JSONOption = False,
    config: ConfigOption = None,
) -> None:
    """Import DICOM files from folders: an old drive, a CD, the console's own folder.

    Recognises files by their content, whatever their names, also in zip files; follows links. Counts skipped files by
    reason. Copies the files, and never changes or removes them. An image that is already stored is not stored twice; a
    damaged one is repaired. Exit code 1 when a file that may be an image was not imported.
    """
    settings = settings_of(context, config, creates=True)
    from backup_scp.node.audit_setup import reported, reporting_on
    from backup_scp.node.opening import OpenStores
    from backup_scp.services.ingest import Ingest
    from backup_scp.services.throttle import Throttle

    place = ", ".join(folder.resolve().as_uri() for folder in folders)
    done = Imported(stopped=INTERRUPTED)
    with (
        interruptible(lambda: tell(done, verbose=verbose, json=json)),
        OpenStores(settings, create=True) as storage,
        reporting_on(storage) as reporter,
        progress("Importing") as show,
        Ingest(storage.archive, storage.index) as ingest,
        reported(ingest, reporter, place),
    ):
        done.stopped = import_files(ingest, folders, done, show, Throttle(throttle))
    tell(done, verbose=verbose, json=json)
    if done.failed or done.stopped:
        raise typer.Exit(1)


def import_files(
    ingest: Ingest,
    folders: Sequence[Path],
    done: Imported,
    on_progress: Callable[[Progress], None],
    throttle: Throttle,
) -> str:
    """Import each file; a bad file does not stop the rest, an unavailable archive does.

    Returns
    -------
    str
        Why the import ended early; empty when every file was tried.
    """
    from backup_scp.ports import Progress
    from backup_scp.services.import_files import NotRead, walk

    total = sum(1 for _ in walk(folders))
    for number, found in enumerate(walk(folders), 1):

        def show(at: int = number) -> None:
            on_progress(Progress(at, total, done.size_bytes))

        if isinstance(found, NotRead):
            _leave(done, found)
        else:
            try:
                before = done.size_bytes
                _import_file(ingest, found, done, show)
                throttle.wait(done.size_bytes - before)
                if ingest.due.many.is_set():
                    ingest.checkpoint()
            except Unavailable as error:
                return str(error)
        show()
    try:
        ingest.checkpoint()
    except Unavailable as error:
        return str(error)
    return ""


def _leave(done: Imported, found: NotRead) -> None:
    (done.fail if found.may_be_image else done.skip)(found.path, found.reason)


def _import_file(ingest: Ingest, path: Path, done: Imported, show: Callable[[], None]) -> None:
    """Import one file, or the members of a zip file.

    Raises
    ------
    ArchiveUnavailable, IndexUnavailable
    """
    from backup_scp.dicom.part10 import open_part10
    from backup_scp.node.opening import files_in_journal
    from backup_scp.services.import_files import is_zip, printable

    with _noted(done, printable(path)):
        try:
            heading, stream = open_part10(path)
        except NotDICOM:
            if is_zip(path):
                _import_zip(ingest, path, done, show)
            elif (files := files_in_journal(path)) is not None:
                _import_journal(ingest, path, files, done)
            else:
                raise
        else:
            with stream:
                _import(ingest, heading, stream, done, printable(path))


def _import_zip(ingest: Ingest, path: Path, done: Imported, show: Callable[[], None]) -> None:
    """Import the members of a zip file; a zip file without DICOM files counts as one skipped file."""
    from backup_scp.services.import_files import NotRead, members, printable

    inside, holds_dicom = Imported(), False
    for member in members(path):
        if isinstance(member, NotRead):
            _leave(inside, member)
            continue
        with _noted(inside, member.path):
            heading, offset = _heading_in_zip(member)
            holds_dicom = True
            with member.open() as stream:  # open it again: the checksum is only compared when all of it is read
                _discard(stream, offset)
                _import(ingest, heading, stream, done, member.path)
        show()
    if holds_dicom or inside.failed:
        done.add(inside)
    else:
        done.skip(printable(path), _NO_DICOM_IN_ZIP)


def _import_journal(ingest: Ingest, path: Path, files: Sequence[bytes], done: Imported) -> None:
    """Import what a node that died has left in its intake journal."""
    from backup_scp.dicom.part10 import read_heading
    from backup_scp.services.import_files import printable

    if not files:
        done.skip(printable(path), _NOTHING_IN_JOURNAL)
    for number, content in enumerate(files, 1):
        name = f"{printable(path)}: {number}"
        with _noted(done, name), io.BytesIO(content) as stream:
            _import(ingest, read_heading(stream), stream, done, name)


def _heading_in_zip(member: Member) -> tuple[Heading, int]:
    from backup_scp.dicom.part10 import read_heading
    from backup_scp.services.import_files import ZIP_IN_ZIP, ZIP_MAGIC

    with member.open() as stream:
        try:
            return read_heading(stream), stream.tell()
        except NotDICOM:
            stream.seek(0)
            if stream.read(len(ZIP_MAGIC)) == ZIP_MAGIC:
                raise NotDICOM(ZIP_IN_ZIP) from None
            raise


def _discard(stream: BinaryIO, length: int) -> None:
    while length > 0 and (some := stream.read(min(length, _CHUNK_BYTES))):
        length -= len(some)


@contextmanager
def _noted(done: Imported, path: str) -> Iterator[None]:
    """Record why a file was not imported, and continue.

    Raises
    ------
    ArchiveUnavailable, IndexUnavailable
        Archive or index cannot store anything: not the file's fault.
    """
    try:
        yield
    except NotDICOM as error:
        done.skip(path, str(error))
    except SourceUnavailable as error:
        done.fail(path, str(error))
    except Unavailable:
        raise
    except BackupSCPError as error:
        done.fail(path, str(error))


def _import(ingest: Ingest, heading: Heading, stream: BinaryIO, done: Imported, path: str) -> None:
    from backup_scp.ports import IMPORT, Arrival, Flag

    staged = ingest.begin(heading)
    try:
        while chunk := _read(stream):
            staged.write(chunk)
        size_bytes = staged.size_bytes
        accepted = ingest.accept(staged, Arrival(clock.now(), IMPORT))
    except BaseException:
        staged.discard()
        raise
    setattr(done, accepted.admission, getattr(done, accepted.admission) + 1)
    done.repaired += accepted.repaired
    if Flag.TRUNCATED in accepted.flags:
        done.truncate(path)
    done.size_bytes += size_bytes


def _read(stream: BinaryIO) -> bytes:
    try:
        return stream.read(_CHUNK_BYTES)
    except OSError as error:
        raise SourceUnavailable(f"It cannot be read to its end ({error.strerror})") from error


def tell(done: Imported, *, verbose: bool = False, json: bool = False) -> None:
    """Print what an import did."""
    if json:
        print_json(done)
        return
    say(f"{count(done.new, 'new image')}, {done.held} already stored; {size(done.size_bytes)} read")
    if done.repaired:
        say(f"{count(done.repaired, 'image')} damaged or missing in the archive: repaired from these files")
    if done.version or done.clash:
        further = done.version + done.clash
        say(f"{count(further, 'further version')} of images that are stored with other content: both are kept")
    if done.reencoded:
        say(f"{count(done.reencoded, 'image')} already stored in another encoding: both are kept")
    if done.truncated:
        say(f"{count(done.truncated_count, 'image')} cut off: the file ends too early. Stored, and shown only while")
        say("no complete copy is stored. Find a complete copy, and import or send it:")
        say_list(done.truncated, done.truncated_count)
    _tell_reasons("Skipped", done.skipped_by_reason, "" if verbose else " (-v lists them)")
    if verbose:
        for trouble in done.skipped:
            say(f"  {trouble.path}: {trouble.reason}")
    _tell_reasons("Not imported", done.failed_by_reason, "")
    failed = sum(done.failed_by_reason.values())
    say_list((f"{trouble.path}: {trouble.reason}" for trouble in done.failed), failed)
    if because := why_denied(done.failed_by_reason):
        say(f"  ({because})")
    if done.stopped:
        say(f"{'' if done.stopped == INTERRUPTED else 'Stopped: '}{done.stopped}. {_GO_ON}")


def _tell_reasons(what: str, by_reason: dict[str, int], hint: str) -> None:
    if by_reason:
        say(f"{what}: {sum(by_reason.values())}{hint}")
        for reason, number in sorted(by_reason.items(), key=lambda each: -each[1]):
            say(f"  {number}  {reason}")
