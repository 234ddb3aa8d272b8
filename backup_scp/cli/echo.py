"""backup-scp echo."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated

import typer

from backup_scp.cli.options import ConfigOption, JSONOption, settings_of
from backup_scp.cli.output import print_json, say


@dataclass(frozen=True, slots=True)
class Echoed:
    """A remote AE that answers.

    Attributes
    ----------
    ae_title
        Its AE title.
    host, port
        Its address.
    milliseconds
        How long its answer took, including opening the Association.
    """

    ae_title: str
    host: str
    port: int
    milliseconds: int


def echo(
    context: typer.Context,
    ae: Annotated[
        str, typer.Argument(metavar="AE", help="A configured remote AE (its name or AE title), or AETITLE@HOST:PORT.")
    ],
    json: JSONOption = False,
    config: ConfigOption = None,
) -> None:
    """Test whether a remote AE answers (C-ECHO)."""
    settings = settings_of(context, config)
    from backup_scp.node import remote_aes
    from backup_scp.node.health.remote_checks import chosen_remote

    remote = chosen_remote(settings, ae)
    began = time.monotonic()
    remote_aes.echo(settings, remote.ae_title, remote.host, remote.port, tls=remote.tls)
    milliseconds = round(1000 * (time.monotonic() - began))
    if json:
        print_json(Echoed(remote.ae_title, remote.host, remote.port, milliseconds))
    else:
        say(f"{remote.ae_title} at {remote.host}:{remote.port} answers ({milliseconds} ms)")
