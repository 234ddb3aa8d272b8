"""backup-scp rebuild."""

from __future__ import annotations

from contextlib import suppress

import typer

from backup_scp.cli.options import ConfigOption, JSONOption, settings_of
from backup_scp.cli.output import count, print_json, progress, say, say_list


def rebuild(context: typer.Context, json: JSONOption = False, config: ConfigOption = None) -> None:
    """Make the index anew from the files alone.

    For the day when the index is lost or broken; a broken SQLite file is set aside first. The files say when and from
    whom each came; damaged ones are listed and left out. It runs beside the node, which goes on receiving and
    answering, and the same command goes on where an interrupted one ended. Exit code 1 when a file had to be left out.
    """
    settings = settings_of(context, config)
    from backup_scp import rebuild as service
    from backup_scp.custody import adopt
    from backup_scp.errors import ArchiveUnavailable
    from backup_scp.storage import Storage, reader, require_archive, require_owner, set_aside_damaged_index

    require_owner(settings)
    require_archive(settings)
    for sentence in set_aside_damaged_index(settings):
        say(sentence)
    storage_ = Storage(settings, any_archive=True)
    with storage_ as storage, reader(settings) as read, progress("Reading the archive") as show:
        done = service.rebuild(storage.archive, storage.index, show, reader=read)
        with suppress(ArchiveUnavailable):  # it can be read, and not be written: the next image will see to it
            adopt(storage.archive, storage.index)
    if json:
        print_json(done)
    else:
        say(f"The index is new: {count(done.entered, 'version')} of SOP Instances from the files")
        if done.left_out:
            say(f"{count(len(done.left_out), 'damaged file')} left out; send these instances again:")
            say_list((finding.reason for finding in done.left_out), len(done.left_out))
    if done.left_out:
        raise typer.Exit(1)
