"""One ``rclone rcd`` of our own, which does what rclone's remotes need; it ends with us, also when we are killed."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from backup_scp.errors import DestinationRefuses, DestinationUnavailable, InvalidSettings

if TYPE_CHECKING:
    from requests import Session

# The shell waits until its input ends: we close it, or the system does after our death.  Then rclone must end.
_UNTIL_INPUT_ENDS = 'exec 3<&0 </dev/null; "$@" 3<&- & child=$!; read -r _ <&3; kill "$child" 2>&-; wait "$child"'
_SERVING = re.compile(r"Serving remote control on (http://127\.0\.0\.1:\d+)/")
_NEEDED = frozenset({"operations/copyfile", "operations/hashsumfile", "operations/list", "operations/stat"})
_OPTIONS = (
    "--rc-addr=127.0.0.1:0",
    "--rc-serve",
    "--contimeout=15s",
    "--timeout=5m",
    "--low-level-retries=3",
    "--buffer-size=0",
)
_START_S, _END_S, _CONNECT_S, _LONGEST_CALL_S = 30, 10, 10, 24 * 3600
_SILENT_S, _READ_BYTES = 15 * 60, 1 << 20  # rclone itself tries again meanwhile
_AS_IT_IS = {"Accept-Encoding": "identity"}
_LONGEST_REASON = 200
_INSTALL = "run  pip install 'backup-scp[rclone]'"


class RcloneFailed(DestinationUnavailable):
    """rclone answered with an error.

    Parameters
    ----------
    reason
        What rclone said; shortened, without what follows a question mark in a URL.
    is_missing
        Whether a file or folder is not there.
    """

    def __init__(self, reason: str, *, is_missing: bool = False) -> None:
        super().__init__(f"rclone: {reason}")
        self.is_missing = is_missing


class RcloneProcess:
    """Runs rclone as a child with a random password on a port of loopback, and calls its functions; thread-safe.

    Parameters
    ----------
    config
        rclone's configuration file; None for that of this user.
    ca
        PEM file of a further CA; empty without one.
    environment
        Further variables for it: they may define a remote (``RCLONE_CONFIG_NAME_TYPE``), and hold its secrets.
    """

    def __init__(self, config: Path | None, ca: str = "", environment: Mapping[str, str] | None = None) -> None:
        self._config = config
        self._ca = ca
        self._environment = dict(environment or {})
        self._password = secrets.token_urlsafe(32)
        self._popen: subprocess.Popen[str] | None = None
        self._session: Session | None = None
        self._url = ""
        self.version = ""

    def start(self) -> None:
        """Start it, and ask for its version and functions.

        Raises
        ------
        InvalidSettings
            It is not installed, or is too old.
        DestinationUnavailable
            It does not start.
        """
        try:
            import requests
        except ImportError:
            raise InvalidSettings("the library requests is missing: run  pip install 'backup-scp[copies]'") from None
        if self._config is not None and not self._config.is_file():
            raise InvalidSettings(f"rclone_config: there is no file {self._config}; make it by  rclone config")
        self._popen = self._launch()
        try:
            self._url = self._wait_for_url(self._popen)
            self._session = requests.Session()
            self._session.trust_env = False  # a proxy is not for loopback
            self._session.auth = ("backup-scp", self._password)
            self._require_functions()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it; harmless when called twice."""
        if self._session is not None:
            self._session.close()
        popen, self._popen, self._session = self._popen, None, None
        if popen is None:
            return
        if popen.stdin is not None:
            popen.stdin.close()
        if sys.platform == "win32":
            popen.terminate()
        try:
            popen.wait(_END_S)
        except subprocess.TimeoutExpired:
            _kill_group(popen)
            popen.wait()
        if popen.stderr is not None:
            popen.stderr.close()

    def call(self, function: str, **values: Any) -> dict[str, Any]:
        """Call a function of rclone, for instance ``operations/stat``.

        Raises
        ------
        RcloneFailed
            It answered with an error.
        DestinationUnavailable
            It does not answer.
        """
        import requests

        if self._session is None:
            raise DestinationUnavailable("rclone is not running")
        try:
            answer = self._session.post(
                f"{self._url}/{function}", json=values, timeout=(_CONNECT_S, _LONGEST_CALL_S), allow_redirects=False
            )
            found = answer.json()
        except (requests.RequestException, ValueError) as error:
            raise DestinationUnavailable(f"rclone ended or does not answer ({type(error).__name__})") from None
        if answer.status_code != requests.codes.ok:
            reason = _short(str(found.get("error", f"status {answer.status_code}")))
            raise RcloneFailed(reason, is_missing=answer.status_code == requests.codes.not_found)
        return dict(found)

    def read(self, folder: str, name: str) -> Iterator[bytes]:
        """Yield the bytes of a file at a remote.

        Raises
        ------
        RcloneFailed
            It answered with an error.
        DestinationUnavailable
            It does not answer, or breaks off.
        """
        import requests
        from urllib3.exceptions import HTTPError

        if self._session is None:
            raise DestinationUnavailable("rclone is not running")
        url = f"{self._url}/{quote(f'[{folder}]/{name}')}"
        timeout = _CONNECT_S, _SILENT_S
        try:
            with self._session.get(
                url, stream=True, timeout=timeout, headers=_AS_IT_IS, allow_redirects=False
            ) as answer:
                if answer.status_code != requests.codes.ok:
                    raise RcloneFailed(_short(answer.text), is_missing=answer.status_code == requests.codes.not_found)
                while part := answer.raw.read(_READ_BYTES):
                    yield part
        except (requests.RequestException, HTTPError) as error:
            raise DestinationUnavailable(f"rclone ended or broke off ({type(error).__name__})") from None

    def _launch(self) -> subprocess.Popen[str]:
        command = [find_rclone(), "rcd", *_OPTIONS, *([f"--ca-cert={self._ca}"] if self._ca else [])]
        # The environment, not the command line: others on this computer can read that.
        environment = os.environ | {"RCLONE_RC_USER": "backup-scp", "RCLONE_RC_PASS": self._password}
        if self._config is not None:
            environment["RCLONE_CONFIG"] = str(self._config)
        environment |= self._environment
        if sys.platform != "win32":
            command = ["/bin/sh", "-c", _UNTIL_INPUT_ENDS, "rclone", *command]
        try:
            return subprocess.Popen(  # noqa: S603 - the command is ours
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                env=environment,
                start_new_session=True,  # Ctrl-C is for us: rclone finishes what we ask for
            )
        except OSError as error:
            raise DestinationUnavailable(f"rclone cannot be started ({error.strerror})") from None

    @staticmethod
    def _wait_for_url(popen: subprocess.Popen[str]) -> str:
        """Read its log until it names its address; then let a thread read on, so that its pipe never fills."""
        assert popen.stderr is not None  # noqa: S101 - asked for above
        timer = threading.Timer(_START_S, _kill_group, [popen])
        timer.start()
        last = ""
        try:
            for line in popen.stderr:
                if found := _SERVING.search(line):
                    threading.Thread(target=_drain, args=[popen], name="rclone-log", daemon=True).start()
                    return found[1]
                last = line.strip()
        finally:
            timer.cancel()
        raise DestinationUnavailable(f"rclone does not start: {_short(last) or 'it says nothing'}")

    def _require_functions(self) -> None:
        self.version = str(self.call("core/version").get("version", "of no version"))
        functions = {each["Path"] for each in self.call("rc/list").get("commands", [])}
        if missing := sorted(_NEEDED - functions):
            raise InvalidSettings(f"rclone {self.version} is too old: it lacks {missing[0]}; {_INSTALL}")


def find_rclone() -> str:
    """Return the path of rclone: the one that was installed with us, else the system's.

    Raises
    ------
    InvalidSettings
    """
    beside = shutil.which("rclone", path=str(Path(sys.executable).parent))
    found = beside or shutil.which("rclone")
    if found is None:
        raise InvalidSettings(f"rclone is not installed: {_INSTALL}")
    return found


def refusal(error: RcloneFailed, remote: str) -> DestinationUnavailable:
    """Turn rclone's error into one of ours: a person must change something when it knows no remote or no login."""
    text = str(error)
    wrong = r"didn't find section|unauthorized|\b401\b|\b403\b|permission denied|invalid_grant|token"
    if re.search(wrong, text, re.IGNORECASE):
        return DestinationRefuses(f"{remote} refuses us ({text}): check it by  rclone lsd {remote}")
    return DestinationUnavailable(f"{remote} does not do it ({text})")


def _short(text: str) -> str:
    """Shorten an error, and leave out what follows a question mark in a URL: that can be a token."""
    return re.sub(r"\?[^\s\"]+", "?...", " ".join(text.split()))[:_LONGEST_REASON]


def _drain(popen: subprocess.Popen[str]) -> None:
    with suppress(ValueError):  # closed by ``stop``
        for _ in popen.stderr or ():
            pass


def _kill_group(popen: subprocess.Popen[str]) -> None:
    if sys.platform == "win32":
        popen.kill()
    else:
        import signal

        with suppress(ProcessLookupError):
            os.killpg(popen.pid, signal.SIGKILL)
