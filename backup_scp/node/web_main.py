"""The web process: told its settings and its socket by the node, it serves until the node ends."""

from __future__ import annotations

import base64
import contextlib
import gc
import logging
import os
import re
import signal
import socket
import sys
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import msgspec

from backup_scp.errors import BackupSCPError, InvalidSettings, Unavailable
from backup_scp.machine.disk_cache import DiskCache
from backup_scp.machine.heaps import give_large_pieces_back, share_heaps
from backup_scp.machine.priority import lower_priority
from backup_scp.node.accounts_setup import open_accounts, session_times, share_address
from backup_scp.node.audit_setup import reporting_on
from backup_scp.node.openid_setup import provider_logins
from backup_scp.node.opening import OpenStores
from backup_scp.node.recovering import ReadingCopies
from backup_scp.node.restore_runner import node_name, receipts_folder
from backup_scp.node.settings import Settings
from backup_scp.node.settings_editor import SettingsEditor
from backup_scp.node.web_messages import Start, Told
from backup_scp.ports import EVERY_SITE, PictureDocument, WriteDocument, site_fault
from backup_scp.services.ingest import Ingest
from backup_scp.services.inventory_listing import InventoryOfAll
from backup_scp.services.logins import Logins, SessionTimes
from backup_scp.services.parcels import StudyParcels
from backup_scp.services.share_links import ShareLinks
from backup_scp.watch.checkpoints import CheckpointThread
from backup_scp.watch.unforeseen import place_of
from backup_scp.web.app import application
from backup_scp.web.dicomweb.wado.answers_ahead import AnswersAhead
from backup_scp.web.options import WebOptions
from backup_scp.web.pages.backup_state import BackupState, state_of
from backup_scp.web.pages.page_sources import PageSources
from backup_scp.web.stores import Stores
from backup_scp.web.web_server import WebServer

_END_S = 15.0  # after the node's end, for a request that does not end
_LEAST_TOKEN = 24
_BRINGS = re.compile(r"\s+brings\s*$")
_CACHE_BYTES = 512_000_000


class _ToTheNode(logging.Handler):
    """Gives each record to the node, which has the log: two processes cannot share its file."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__()
        self._stream = stream

    def tell(self, told: Told) -> None:
        """Send one message; the node may be gone."""
        with self.lock or contextlib.nullcontext(), contextlib.suppress(OSError, ValueError):
            self._stream.write(msgspec.json.encode(told) + b"\n")
            self._stream.flush()

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record: its message without a traceback, which could hold a patient's data."""
        self.tell(Told("log", record.getMessage(), record.name, record.levelno))


def main() -> int:
    """Serve as the node says at standard input, until that closes; return the exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # Ctrl-C and systemd tell the node, and that tells this process
    start = msgspec.json.decode(sys.stdin.buffer.readline(), type=Start, dec_hook=_typed)
    messages = _ToTheNode(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)  # whatever prints must not print among the messages
    logging.basicConfig(handlers=[messages], level=start.settings.log.level)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    lower_priority()
    share_heaps()  # many threads answer requests
    give_large_pieces_back()
    try:
        _serve(start, messages)
    except BackupSCPError as error:
        messages.tell(Told("trouble", str(error)))
        return 1
    except Exception as unforeseen:  # noqa: BLE001 - its text may hold a patient's data
        messages.tell(Told("trouble", f"{place_of(unforeseen)}. This should not have happened; please report it"))
        return 1
    return 0


def _serve(start: Start, messages: _ToTheNode) -> None:
    settings = start.settings
    options = web_options(settings)
    with contextlib.ExitStack() as stack:
        storage = stack.enter_context(OpenStores(settings, create=True))
        reporter = stack.enter_context(reporting_on(storage))
        ingest = Ingest(storage.archive, storage.index)
        with contextlib.suppress(Unavailable):  # the node says so
            ingest.recover()  # what an earlier web process left when it died
        checkpoints = CheckpointThread(ingest)
        checkpoints.start()
        stack.callback(checkpoints.stop)
        stores = Stores(
            storage.index,
            ReadingCopies(storage, ingest).archive(storage.settings),
            ingest,
            storage.index.commitments,
            InventoryOfAll(storage.archive, storage.index),
            storage.index.record_verification,
            index_is_embedded=settings.index_is_embedded,
            cache=DiskCache(settings.home / "cache", _CACHE_BYTES, settings.archive.reserve_bytes + _CACHE_BYTES),
        )
        accounts = stack.enter_context(contextlib.closing(open_accounts(settings)))
        accounts.on_event = reporter.account_event
        listener = _listener(start)
        logins = Logins(
            accounts,
            SessionTimes(*session_times(settings)),
            needs_second_factor=settings.web.second_factor == "required",
            takes_passwords=settings.web.openid_connect.passwords,
        )
        pages = PageSources(
            stores,
            lambda: backup_state(settings, storage),
            storage.index,
            storage.index.copies.copies_of,
            settings.remotes,
            node_name(settings),
            receipts_folder(settings),
            lambda: messages.tell(Told("restore")),
            SettingsEditor(settings, reporter=reporter),
            parcels=StudyParcels(document_writer()),
            logins=logins,
            shares=ShareLinks(accounts, storage.index),
            share_address=share_address(settings, listener.getsockname()[1]),
            provider=provider_logins(settings, logins),
        )
        ahead = AnswersAhead(stores)
        ahead.start()
        stack.callback(ahead.stop)
        server = WebServer(application(stores, options, pages=pages, reporter=reporter), options)
        threading.Thread(target=_stop_with_the_node, args=[server, pages.is_ending], name="node", daemon=True).start()
        gc.freeze()  # loaded modules are never garbage: no answer waits while they are searched
        gc.enable()
        server.run(listener, lambda: messages.tell(Told("ready")))


def document_writer() -> WriteDocument | None:
    """Return what writes a PDF; None without the extra ``receipts``."""
    if find_spec("reportlab") is None:
        return None

    def write(document: PictureDocument) -> bytes:
        from backup_scp.receipts.pdf_pictures import write_pictures

        return write_pictures(document)

    return write


def backup_state(settings: Settings, storage: OpenStores) -> BackupState:
    """Return what ``status --json`` prints, as the pages read it."""
    from backup_scp.node.health import diagnosis, facts
    from backup_scp.node.health.status_report import status_of

    found = facts.gather(settings, storage)
    return state_of(status_of(found, diagnosis.findings(found)))


def _stop_with_the_node(server: WebServer, is_ending: threading.Event) -> None:
    """Stop when the node closes standard input, or dies; at last even when a request does not end."""
    with contextlib.suppress(OSError):
        sys.stdin.buffer.read()
    is_ending.set()
    server.stop()
    threading.Event().wait(_END_S)
    os._exit(0)  # success means durable: nothing that was told a caller is lost


def _listener(start: Start) -> socket.socket:
    if sys.platform == "win32":
        return socket.fromshare(base64.b64decode(start.shared_socket))
    return socket.socket(fileno=start.descriptor)


def _typed(kind: type, value: Any) -> Any:
    """Convert what JSON has no type for: a path."""
    return kind(value) if kind is Path else value


def web_options(settings: Settings) -> WebOptions:
    """Return what the web room is told.

    Raises
    ------
    InvalidSettings
        The tokens cannot be used.
    """
    certificate, key, ca = settings.web_tls_files or (None, None, None)
    file = settings.web_token_file
    tokens, bringing = _tokens(file) if file is not None else ({}, frozenset[str]())
    return WebOptions(
        ae_title=settings.node.ae_title,
        trust_this_machine=settings.node.trust_this_machine,
        tokens=frozenset(tokens),
        bringing=bringing,
        token_sites=tokens,
        certificate=certificate,
        key=key,
        ca=ca,
        cors=settings.web.cors,
        public_url=settings.web.public_url,
        proxies=settings.web.proxies,
    )


def _tokens(file: Path) -> tuple[dict[str, tuple[str, ...]], frozenset[str]]:
    """Read the tokens, each with the sites that its line has, separated by commas, and those that bring these sites."""
    try:
        lines = [line.split(maxsplit=1) for line in file.read_text("utf-8").splitlines()]
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InvalidSettings(f"[web] token_file: {file} cannot be read ({reason})") from None
    said = {token: "".join(rest) for token, *rest in filter(None, lines)}
    bringing = frozenset(token for token, text in said.items() if _BRINGS.search(text))
    tokens = {token: _sites(_BRINGS.sub("", text)) for token, text in said.items()}
    if not tokens or min(map(len, tokens)) < _LEAST_TOKEN:
        raise InvalidSettings(
            f"[web] token_file: each line is one token, of {_LEAST_TOKEN} characters or more; "
            "openssl rand -hex 32 makes one"
        )
    if any(not tokens[token] or EVERY_SITE in tokens[token] for token in bringing):
        raise InvalidSettings("[web] token_file: a token that brings images of clinics names each of them")
    return tokens, bringing


def _sites(text: str) -> tuple[str, ...]:
    sites = tuple(name for part in text.split(",") if (name := part.strip()))
    if fault := next(filter(None, (site_fault(name) for name in sites if name != EVERY_SITE)), ""):
        raise InvalidSettings(f"[web] token_file: {fault}")
    return sites
