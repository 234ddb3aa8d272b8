"""backup-scp import."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backup_scp import clock
from backup_scp.cli.options import ConfigOption, JSONOption, settings_of
from backup_scp.cli.output import count, print_json, progress, say, say_list, size
from backup_scp.errors import BackupSCPError, NotDICOM, SourceUnavailable, Unavailable

if TYPE_CHECKING:
    from backup_scp.ingest import Ingest
    from backup_scp.ports import Progress

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Trouble:
    """One file that was not brought in, and why."""

    path: str
    reason: str


@dataclass(slots=True)
class Imported:
    """What an import did.

    Attributes
    ----------
    new, version, clash, held
        Files by what the index made of them, see ``ports.Admission``.
    skipped
        Files that are not DICOM.
    failed
        DICOM files that could not be brought in, and what could not be read.
    stopped
        Why it ended early; empty when every file was tried.
    """

    new: int = 0
    version: int = 0
    clash: int = 0
    held: int = 0
    size_bytes: int = 0
    skipped: list[Trouble] = field(default_factory=list)
    failed: list[Trouble] = field(default_factory=list)
    stopped: str = ""


def import_folders(
    context: typer.Context,
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER...", exists=True, help="Folders, with all below them, or files.")
    ],
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="List the files that were skipped.")] = False,
    json: JSONOption = False,
    config: ConfigOption = None,
) -> None:
    """Bring in DICOM files from folders: an old drive, a CD.

    Also from the console's own folder. Files are recognised by what is in them, whatever they are called; all else is
    skipped. They are copied, never changed or removed, and a file that is held already is not doubled. Exit code 1
    when a DICOM file failed.
    """
    settings = settings_of(context, config, creates=True)
    from backup_scp.ingest import Ingest
    from backup_scp.storage import Storage

    with Storage(settings, create=True) as storage, progress("Importing") as show:
        done = import_files(Ingest(storage.archive, storage.index), lambda: walk(folders), show)
    if json:
        print_json(done)
    else:
        _tell(done, verbose)
    if done.failed or done.stopped:
        raise typer.Exit(1)


def walk(roots: Iterable[Path]) -> Iterator[Path | Trouble]:
    """Yield every regular file at and below ``roots``, in order, and what cannot be looked into.

    Links below them are not followed.
    """
    for root in roots:
        if root.is_file():
            yield root
            continue
        closed: list[OSError] = []
        for folder, subfolders, names in os.walk(root, onerror=closed.append):
            subfolders.sort()
            yield from (path for name in sorted(names) if _is_file(path := Path(folder, name)))
        for error in closed:
            yield Trouble(_printable(Path(error.filename)), f"The folder cannot be read ({error.strerror})")


def _is_file(path: Path) -> bool:
    """Tell whether to try it; what cannot be asked will say why when it is opened."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return True


def import_files(
    ingest: Ingest, paths: Callable[[], Iterable[Path | Trouble]], on_progress: Callable[[Progress], None]
) -> Imported:
    """Bring in each file; one that fails does not stop the rest, an archive that cannot take it does."""
    done = Imported()
    from backup_scp.ports import Progress

    total = sum(1 for _ in paths())
    for number, path in enumerate(paths(), 1):
        if isinstance(path, Trouble):
            done.failed.append(path)
            continue
        try:
            _import(ingest, path, done)
        except NotDICOM as error:
            done.skipped.append(Trouble(_printable(path), str(error)))
        except SourceUnavailable as error:
            done.failed.append(Trouble(_printable(path), str(error)))
        except Unavailable as error:
            done.stopped = str(error)
            break
        except BackupSCPError as error:
            done.failed.append(Trouble(_printable(path), str(error)))
        on_progress(Progress(number, total, done.size_bytes))
    return done


def _import(ingest: Ingest, path: Path, done: Imported) -> None:
    from backup_scp.part10 import open_part10
    from backup_scp.ports import Arrival

    heading, stream = open_part10(path)
    with stream:
        staged = ingest.begin(heading)
        try:
            while chunk := stream.read(_CHUNK_BYTES):
                staged.write(chunk)
            size_bytes = staged.size_bytes
            accepted = ingest.accept(staged, Arrival(clock.now(), "IMPORT"))
        except OSError as error:
            staged.discard()
            raise SourceUnavailable(f"It cannot be read to its end ({error.strerror})") from error
        except BaseException:
            staged.discard()
            raise
    setattr(done, accepted.admission, getattr(done, accepted.admission) + 1)
    done.size_bytes += size_bytes


def _printable(path: Path) -> str:
    """Write a path whose bytes may be of another time's character set."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _tell(done: Imported, verbose: bool) -> None:
    say(f"{count(done.new, 'new SOP Instance')}, {done.held} held already; {size(done.size_bytes)} read")
    if done.version or done.clash:
        further = done.version + done.clash
        say(f"{count(further, 'further version')} of SOP Instances that are held with other content: both are kept")
    if done.skipped:
        say(f"{count(len(done.skipped), 'file')} skipped, not DICOM" + ("" if verbose else " (-v lists them)"))
        for trouble in done.skipped if verbose else ():
            say(f"  {trouble.path}: {trouble.reason}")
    if done.failed:
        say(f"{count(len(done.failed), 'file')} failed:")
        say_list((f"{trouble.path}: {trouble.reason}" for trouble in done.failed), len(done.failed))
    if done.stopped:
        say(f"Stopped: {done.stopped}. Run the same command again: what is held is not doubled")
