"""What the node and its web process tell each other, one JSON object a line."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from backup_scp.node.settings import Settings


class Start(Struct, frozen=True):
    """What the web process reads first.

    Attributes
    ----------
    settings
        All settings, as the node has read them.
    descriptor
        Its listening socket, inherited.
    shared_socket
        The same on Windows, in base64.
    """

    settings: Settings
    descriptor: int = -1
    shared_socket: str = ""


class Told(Struct, frozen=True):
    """What the web process tells.

    Attributes
    ----------
    kind
        ``ready``: it answers.  ``trouble``: why it cannot, and that it ends now.  ``log``: a record for the log.
        ``restore``: somebody ordered a restore.
    text
        The sentence.
    logger, level
        Of a record.
    """

    kind: Literal["ready", "trouble", "log", "restore"]
    text: str = ""
    logger: str = ""
    level: int = 0
