"""Listen for a console that presses Echo, before there is a node, to learn its AE title and address."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from backup_scp.node.remote_aes import access_policy, listening
from backup_scp.node.settings import Settings
from backup_scp.ports import ServiceKind
from backup_scp.services.permissions import Right

_FAREWELL_S = 5.0  # for the answer to its C-ECHO, and its release
_PAUSE_S = 0.05
_GRACE_S = 1.0


class CallingConsole(NamedTuple):
    """One that called.

    Attributes
    ----------
    ae_title, address
        Who it says it is, and from where it called.
    trouble
        Why it was rejected, and what to do; empty when it was not.
    """

    ae_title: str
    address: str
    trouble: str = ""


class _Callers:
    """Implements ``ports.RejectionRecorder``: keeps who called."""

    def __init__(self) -> None:
        self.queue: queue.SimpleQueue[CallingConsole] = queue.SimpleQueue()

    def rejected(self, service: ServiceKind, calling: str, called: str, address: str, reason: str, fix: str) -> bool:  # noqa: ARG002 - the port's
        if service in {ServiceKind.ASSOCIATION, ServiceKind.TLS}:
            self.queue.put(CallingConsole(calling, address, f"{reason}; {fix}"))
        return True

    def succeeded(self, service: ServiceKind, ae_title: str, address: str, about: str = "") -> None:  # noqa: ARG002
        if service is ServiceKind.ASSOCIATION:
            self.queue.put(CallingConsole(ae_title, address))


@contextmanager
def calling_consoles(settings: Settings) -> Iterator[Callable[[float], CallingConsole | None]]:
    """Answer C-ECHO on the ports of the settings during the block; nothing is stored.

    What it yields waits for the next caller, for so many seconds.

    Raises
    ------
    InvalidSettings
        A port cannot be opened, or a certificate cannot be used.
    """
    from backup_scp.dimse.association.association_count import SharedCount
    from backup_scp.dimse.association.negotiation import VERIFICATION
    from backup_scp.dimse.association.request_dispatch import Service
    from backup_scp.dimse.association.server import Server
    from backup_scp.dimse.messages.command_set import Field
    from backup_scp.dimse.scp.verification_scp import VerificationSCP

    callers, open_now = _Callers(), SharedCount()
    echo: dict[int, Service] = {Field.C_ECHO_RQ: Service(VERIFICATION.__eq__, VerificationSCP().serve, Right.ECHO)}
    server = Server(listening(settings), access_policy(settings), echo, callers, open_now)

    def next_caller(wait_s: float) -> CallingConsole | None:
        with suppress(queue.Empty):
            return callers.queue.get(timeout=wait_s)
        return None

    server.start()
    try:
        yield next_caller
        pause, until = threading.Event(), time.monotonic() + _FAREWELL_S
        while open_now.total and time.monotonic() < until:
            pause.wait(_PAUSE_S)
    finally:
        server.stop(_GRACE_S)
