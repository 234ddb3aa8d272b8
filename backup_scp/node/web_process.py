"""Start the web process, and replace it when it ends; nothing here stops or delays the node (docs/adr/0045)."""

from __future__ import annotations

import base64
import contextlib
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import IO

import msgspec

from backup_scp.errors import InvalidSettings
from backup_scp.machine.addresses import is_loopback
from backup_scp.machine.listening_socket import listen
from backup_scp.node.accounts_setup import has_users
from backup_scp.node.settings import Settings
from backup_scp.node.web_messages import Start, Told

log = logging.getLogger(__name__)

MODULE = "backup_scp.cli.web_process"
PATH = "/dicom-web"

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0  # before a process that ended is replaced
_LIVED_S = 60.0  # a process that lived so long had no trouble at its start
_BIND_AGAIN_S = 10.0
_END_S = 20.0
_BACKLOG = 128


class WebProcess:
    """The web process of a node; the node calls ``poll`` every second.

    Parameters
    ----------
    settings
        All settings of the node.
    on_restore
        Called when somebody ordered a restore.

    Attributes
    ----------
    address
        The URL that it answers at; empty while it does not.
    trouble
        Why it does not answer; empty when it does.
    """

    def __init__(self, settings: Settings, on_restore: Callable[[], object] = lambda: None) -> None:
        self._settings = settings
        self._on_restore = on_restore
        self._listener: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._next_at = 0.0
        self._started_at = 0.0
        self._pause_s = _FIRST_PAUSE_S
        self._told_trouble = ""
        self.trouble = ""

    @property
    def address(self) -> str:
        """Return the URL."""
        if self._listener is None:
            return ""
        host, port = self._listener.getsockname()[:2]
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - for this computer
        scheme = "https" if self._settings.web.certificate else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{PATH}"

    def listen(self, beside: Sequence[socket.socket] = ()) -> None:
        """Take the port; when it cannot be had, ``trouble`` says why and ``poll`` tries again.

        Beside are sockets of this process that go soon.
        """
        web = self._settings.web
        if not web.enabled or self._listener is not None:
            return
        if sentence := self._closed_to_all():
            self._have_trouble(sentence)
            self._next_at = time.monotonic() + _BIND_AGAIN_S
            return
        try:
            self._listener = listen(web.host, web.port, _BACKLOG, beside)
        except OSError as error:
            self._have_trouble(
                f"DICOMweb is off: port {web.port} at {web.host} cannot be used ({_reason(error)}). Images "
                "are received nevertheless. Choose another port in [web], or set enabled = false there"
            )
            self._next_at = time.monotonic() + _BIND_AGAIN_S
        else:
            self._have_trouble("")
            self._next_at = 0.0

    def take_over(self, before: WebProcess) -> None:
        """Listen in place of another one, at its port if that is the same, so that no caller is refused.

        Raises
        ------
        InvalidSettings
            The port or the certificate cannot be used.
        """
        web, old = self._settings.web, before._settings.web
        if web.enabled and before._listener is not None and (web.host, web.port) == (old.host, old.port):
            if sentence := self._closed_to_all():
                raise InvalidSettings(sentence)
            self._listener = before._listener.dup()
        else:
            self.listen([before._listener] if before._listener is not None else [])
        if self.trouble:
            raise InvalidSettings(self.trouble)

    def _closed_to_all(self) -> str:
        """Return why other computers must not reach the page yet; empty when they may."""
        web = self._settings.web
        if is_loopback(web.host) or web.certificate or web.token_file or has_users(self._settings):
            return ""
        return (
            f"DICOMweb is off: [web] host = {web.host!r} needs users, or TLS. Add one (backup-scp users add NAME "
            '--role administer), or set certificate and key in [web], or leave host at "127.0.0.1"'
        )

    def poll(self) -> None:
        """Start the process, or replace one that has ended, when it is time."""
        if not self._settings.web.enabled:
            return
        now = time.monotonic()
        if self._process is not None:
            if self._process.poll() is None:
                return
            self._ended(self._process, now)
        if now < self._next_at:
            return
        if self._listener is None:
            self.listen()
        if self._listener is not None:
            self._start(self._listener, now)

    def stop(self) -> None:
        """End the process; answers that are being sent have some seconds."""
        process, self._process = self._process, None
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if process is None:
            return
        with contextlib.suppress(OSError):
            if process.stdin is not None:
                process.stdin.close()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._reader is not None:
            self._reader.join()

    def _start(self, listener: socket.socket, now: float) -> None:
        self._started_at, self._told_trouble = now, ""
        inherited = () if sys.platform == "win32" else (listener.fileno(),)
        try:
            process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-m", MODULE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=inherited,
                process_group=None if sys.platform == "win32" else 0,  # Ctrl-C is for the node, which ends this one
            )
        except OSError as error:
            self._wait(now, f"DICOMweb is off: its process cannot be started ({_reason(error)})")
            return
        self._process = process
        self._reader = threading.Thread(target=self._read, args=[process.stdout], name="web process", daemon=True)
        self._reader.start()
        with contextlib.suppress(OSError):  # it has ended already
            _send(process, self._settings, listener)

    def _ended(self, process: subprocess.Popen[bytes], now: float) -> None:
        self._process = None
        if self._reader is not None:
            self._reader.join()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        if now - self._started_at > _LIVED_S:
            self._pause_s = _FIRST_PAUSE_S
        reason = self._told_trouble or f"its process ended with exit code {process.returncode}"
        self._wait(now, f"DICOMweb is off: {reason}")

    def _wait(self, now: float, trouble: str) -> None:
        self._have_trouble(trouble)
        self._next_at = now + self._pause_s
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)

    def _have_trouble(self, trouble: str) -> None:
        if trouble and trouble != self.trouble:
            log.warning("%s", trouble)
        self.trouble = trouble

    def _read(self, stream: IO[bytes]) -> None:
        """Read what the process tells, until it ends."""
        for line in stream:
            with contextlib.suppress(msgspec.MsgspecError):
                told = msgspec.json.decode(line, type=Told)
                if told.kind == "log":
                    logging.getLogger(told.logger).log(told.level, "%s", told.text)
                elif told.kind == "trouble":
                    self._told_trouble = told.text
                elif told.kind == "restore":
                    self._on_restore()
                else:
                    self._have_trouble("")


def _send(process: subprocess.Popen[bytes], settings: Settings, listener: socket.socket) -> None:
    """Tell the process its settings and its socket; standard input stays open as long as the node lives."""
    if sys.platform == "win32":
        start = Start(settings, shared_socket=base64.b64encode(listener.share(process.pid)).decode())
    else:
        start = Start(settings, listener.fileno())
    if process.stdin is not None:
        process.stdin.write(msgspec.json.encode(start, enc_hook=str) + b"\n")
        process.stdin.flush()


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
