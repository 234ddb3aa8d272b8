"""backup-scp echo."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from backup_scp.cli.options import ConfigOption, JSONOption, settings_of
from backup_scp.cli.output import print_json, say
from backup_scp.errors import InvalidSelection

if TYPE_CHECKING:
    from backup_scp.node.settings import Settings


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

    ae_title, host, port, tls = _address(settings, ae)
    began = time.monotonic()
    remote_aes.echo(settings, ae_title, host, port, tls=tls)
    milliseconds = round(1000 * (time.monotonic() - began))
    if json:
        print_json(Echoed(ae_title, host, port, milliseconds))
    else:
        say(f"{ae_title} at {host}:{port} answers ({milliseconds} ms)")


def _address(settings: Settings, ae: str) -> tuple[str, str, int, bool]:
    from backup_scp.node import remote_aes

    remote = remote_aes.find_remote(settings, ae)
    if remote is not None:
        return remote.ae_title, remote.host, remote.port, remote.tls
    known = ", ".join(r.name for r in settings.remotes) or "none is configured"
    raise InvalidSelection(f"There is no remote AE {ae} ({known}): add a [[remote]], or write AETITLE@HOST:PORT")
