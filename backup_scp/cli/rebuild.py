"""backup-scp rebuild."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import typer

from backup_scp.cli.interruption import INTERRUPTED, interruptible
from backup_scp.cli.options import ConfigOption, JSONOption, settings_of
from backup_scp.cli.output import count, print_json, progress, say, say_list

if TYPE_CHECKING:
    from backup_scp.services.rebuild import Rebuild

_REASON = "started by backup-scp rebuild; the same command continues it"
"""Shown by ``status`` for a running or interrupted rebuild."""


def rebuild(context: typer.Context, json: JSONOption = False, config: ConfigOption = None) -> None:
    """Rebuild the index from the files alone.

    For the day when the index is lost or damaged; a damaged SQLite file is renamed first. Each file records when and
    from whom it arrived; damaged files are listed and left out. The node may run: it continues to receive and answer.
    After an interruption the same command continues. Exit code 1 when a file had to be left out.
    """
    settings = settings_of(context, config)
    from backup_scp.errors import ArchiveUnavailable
    from backup_scp.node.header_readers import reader
    from backup_scp.node.opening import OpenStores, require_archive, require_owner, set_aside_damaged_index
    from backup_scp.services import rebuild as service
    from backup_scp.services.archive_guard import adopt

    require_owner(settings)
    require_archive(settings)
    for sentence in set_aside_damaged_index(settings):
        say(sentence)
    done = service.Rebuild(stopped=INTERRUPTED)
    storage_ = OpenStores(settings, any_archive=True)
    with (
        interruptible(lambda: _tell(done, json)),
        storage_ as storage,
        reader(settings) as read,
        progress("Reading the archive") as show,
    ):
        service.rebuild(storage.archive, storage.index, show, reader=read, reason=_REASON, done=done)
        with suppress(ArchiveUnavailable):  # the archive is readable, not writable: the next image writes the marker
            adopt(storage.archive, storage.index)
        done.stopped = ""
    _tell(done, json)
    if done.left_out:
        raise typer.Exit(1)


def _tell(done: Rebuild, json: bool) -> None:
    if json:
        print_json(done)
        return
    images = count(done.entered, "image")
    if done.stopped:
        say(f"{done.stopped}: {images} indexed so far. Run the same command again: it continues from there")
    else:
        say(f"Index rebuilt: {images} read from the archive")
    if done.left_out:
        say(f"{count(len(done.left_out), 'damaged file')} left out; send these images again:")
        say_list((finding.reason for finding in done.left_out), len(done.left_out))
