"""Talk HTTP to a DICOMweb server: store, retrieve and search, and say in a sentence why not (PS3.18 10.4 to 10.6)."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self, cast
from urllib.parse import quote, urlencode, urlsplit

import requests

from backup_scp.copies.dicomweb.multipart import FilePart, Message, read_only_part
from backup_scp.errors import (
    DestinationBusy,
    DestinationRefuses,
    DestinationUnavailable,
    FileMissing,
    InstanceRefused,
    InstanceUnconfirmed,
    SiteNotTaken,
)
from backup_scp.ports import InstanceKey, StoredVersion
from backup_scp.services.site_header import is_answered, naming

CHUNK_BYTES = 1 << 18
_LONGEST_ANSWER = 16 << 20
_LONGEST_WAIT_S = 10.0
_REFERENCED_SOP_SEQUENCE, _FAILED_SOP_SEQUENCE = "00081199", "00081198"
_REFERENCED_SOP_INSTANCE_UID, _FAILURE_REASON = "00081155", "00081197"
_ACCEPT_FILE = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_BUSY = frozenset({429, 503})
_ANSWERS_WITH_BODY = frozenset({200, 202, 400, 409})


@dataclass(frozen=True, slots=True)
class Login:
    """How we log in: a user and a password, or a bearer token; all empty when the server asks for nothing."""

    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the credentials to a request, and none from the user's netrc file."""
        if self.token:
            request.headers["Authorization"] = f"Bearer {self.token}"
            return request
        if self.user:
            return requests.auth.HTTPBasicAuth(self.user.encode(), self.password.encode())(request)
        return request


class StowAnswer(NamedTuple):
    """What a server says of a STOW-RS request.

    Attributes
    ----------
    referenced
        The SOP Instance UIDs that it says it has stored.
    failures
        Why not, by SOP Instance UID; of an instance in both, the failure counts.
    trouble
        Why it says nothing of the others.
    """

    referenced: frozenset[str]
    failures: Mapping[str, str]
    trouble: str = ""


class DICOMwebSession:
    """A context manager: one connection to a DICOMweb server, opened again when it is lost.

    Parameters
    ----------
    base_url
        Of the service, without a slash at the end.
    credentials
        How we log in.
    ca
        PEM file of the CA that has signed the server's certificate; None for those that this computer trusts.
    timeouts_s
        For the connection, and for each wait for bytes.

    Attributes
    ----------
    site
        The clinic that requests are for, at another backup-scp; empty for none.
    """

    site = ""

    def __init__(self, base_url: str, credentials: Login, ca: Path | None, timeouts_s: tuple[float, float]) -> None:
        self._base_url = base_url
        self._host = urlsplit(base_url).netloc
        self._credentials = credentials
        self._verify: bool | str = True if ca is None else str(ca)
        self._timeouts_s = timeouts_s
        self._session: requests.Session | None = None

    def __enter__(self) -> Self:
        """Connect, and see that the server lets us in: it is asked for one study, whose answer is not read."""
        self._session = session = requests.Session()
        session.auth = self._credentials
        session.headers["Accept-Encoding"] = "identity"  # pixels do not become shorter
        session.headers["Cache-Control"] = "no-cache"  # a proxy's memory proves nothing
        try:
            with self._request("GET", "/studies?limit=1", {"Accept": "application/dicom+json"}):
                pass
        except InstanceUnconfirmed as error:
            self.__exit__()
            raise DestinationUnavailable(str(error)) from None
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def store(self, parts: Sequence[FilePart]) -> StowAnswer:
        """Send files in one request (STOW-RS).

        Raises
        ------
        InstanceUnconfirmed
            The connection broke off; nothing is known of the instances.
        DestinationUnavailable
        """
        message = Message(parts, uuid.uuid4().hex)
        headers = {"Content-Type": message.content_type, "Accept": "application/dicom+json"}
        with self._request("POST", "/studies", headers, message) as response:
            if response.status_code not in _ANSWERS_WITH_BODY:
                return StowAnswer(frozenset(), {}, f"{self._host} answered STOW-RS with status {response.status_code}")
            content = self._content(response)
        trouble = f"{self._host} answered STOW-RS with status {response.status_code} and did not say that it has it"
        try:
            answer = json.loads(content)
            failures = {_uid(item): _reason(item) for item in _items(answer, _FAILED_SOP_SEQUENCE)}
            referenced = {_uid(item) for item in _items(answer, _REFERENCED_SOP_SEQUENCE)}
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            return StowAnswer(frozenset(), {}, trouble)
        return StowAnswer(frozenset(referenced - failures.keys()), failures, trouble)

    def search(self, path: str, keys: Mapping[str, str]) -> list[dict[str, Any]] | str:
        """Ask for studies, series or instances (QIDO-RS, PS3.18 10.6); return them, or why the server gives none.

        Raises
        ------
        InstanceUnconfirmed
            The connection broke off, or the answer is not what DICOMweb says.
        DestinationUnavailable
        """
        with self._request("GET", f"{path}?{urlencode(keys)}", {"Accept": "application/dicom+json"}) as response:
            if response.status_code == requests.codes.no_content:
                return []
            if response.status_code != requests.codes.ok:
                return f"it answered QIDO-RS with status {response.status_code}"
            content = self._content(response)
        try:
            found = json.loads(content)
        except ValueError:
            found = None
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise InstanceUnconfirmed(f"{self._host} answered QIDO-RS with something else than a list in JSON")
        return found

    def retrieve(self, held: StoredVersion | InstanceKey, write: Callable[[bytes], object]) -> None:
        """Fetch one file in the Transfer Syntax in which the server keeps it (WADO-RS); write its bytes.

        Raises
        ------
        FileMissing
            The server has no such instance.
        InstanceUnconfirmed
            The connection broke off.
        InstanceRefused
            It answered something else.
        DigestMismatch
            The answer is incomplete, or no file.
        DestinationUnavailable
        """
        uids = (held.study_instance_uid, held.series_instance_uid, held.sop_instance_uid)
        study, series, instance = (quote(uid, safe="", errors="replace") for uid in uids)
        path = f"/studies/{study}/series/{series}/instances/{instance}"
        with self._request("GET", path, {"Accept": _ACCEPT_FILE}) as response:
            if response.status_code in {404, 410}:
                raise FileMissing(f"{self._host} has no image {held.sop_instance_uid}")
            if response.status_code != requests.codes.ok:
                raise InstanceRefused(f"{self._host} answered WADO-RS with status {response.status_code}")
            with self._reading():
                chunks = response.iter_content(CHUNK_BYTES)
                read_only_part(response.headers.get("Content-Type", ""), chunks, write)

    # -- HTTP --------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _request(
        self, method: str, path: str, headers: Mapping[str, str], body: Message | None = None
    ) -> Iterator[requests.Response]:
        """Send a request, once more when the server asks to wait a moment; yield its answer, not yet read."""
        response = self._send(method, path, headers, body)
        if response.status_code in _BUSY:
            wait_s = _seconds(response.headers.get("Retry-After", ""))
            if wait_s <= _LONGEST_WAIT_S:
                response.close()
                time.sleep(wait_s)
                response = self._send(method, path, headers, body)
        with response:
            is_refused = response.status_code == requests.codes.forbidden
            if self.site and (response.ok or is_refused) and not is_answered(response.headers, self.site):
                raise SiteNotTaken(
                    f"{self._host} does not take images of clinic {self.site} from this node: the line of its token "
                    "there needs this clinic and the word brings"
                )
            self._require_admission(response)
            yield response

    def _send(self, method: str, path: str, headers: Mapping[str, str], body: Message | None) -> requests.Response:
        if self._session is None:
            raise DestinationUnavailable(f"{self._host} is not connected")
        try:
            return self._session.request(
                method,
                self._base_url + path,
                headers={**headers, **naming(self.site)},
                data=cast("Iterable[bytes]", body),
                stream=True,
                timeout=self._timeouts_s,
                allow_redirects=False,  # never take credentials and images elsewhere
                verify=self._verify,
            )
        except requests.exceptions.SSLError as error:
            raise DestinationRefuses(
                f"{self._host}: its certificate is not trusted here ({_cause(error)}); ca is the setting"
            ) from None
        except requests.exceptions.ConnectTimeout:
            raise DestinationUnavailable(f"{self._host} cannot be reached: it does not answer") from None
        except requests.exceptions.ReadTimeout:
            raise InstanceUnconfirmed(f"{self._host} did not answer for {self._timeouts_s[1]:g} s") from None
        except requests.exceptions.ConnectionError as error:
            if "NewConnectionError" in repr(error) or "NameResolutionError" in repr(error):
                raise DestinationUnavailable(f"{self._host} cannot be reached: check host, port and firewall") from None
            raise InstanceUnconfirmed(f"{self._host} broke off the connection") from None
        except requests.exceptions.RequestException as error:
            raise InstanceUnconfirmed(f"{self._host}: {type(error).__name__}") from None

    def _require_admission(self, response: requests.Response) -> None:
        status = response.status_code
        if status in {401, 403}:
            raise DestinationRefuses(
                f"{self._host} does not let us in (status {status}): check user and password_file, or token_file"
            )
        if response.is_redirect or response.is_permanent_redirect:
            raise DestinationRefuses(f"{self._host} sends us to another address: write that one into url")
        if status in _BUSY:
            raise DestinationBusy(f"{self._host} is busy (status {status})")
        if status == 507:
            raise DestinationUnavailable(f"{self._host} has no room")

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except requests.exceptions.RequestException:
            raise InstanceUnconfirmed(f"{self._host} broke off in the middle of an answer") from None

    def _content(self, response: requests.Response) -> bytes:
        content = bytearray()
        with self._reading():
            for chunk in response.iter_content(CHUNK_BYTES):
                content += chunk
                if len(content) > _LONGEST_ANSWER:
                    break
        return bytes(content)


def _items(answer: Any, tag: str) -> list[Any]:
    return list(answer.get(tag, {}).get("Value", ()))


def _uid(item: Any) -> str:
    return str(item[_REFERENCED_SOP_INSTANCE_UID]["Value"][0])


def _reason(item: Any) -> str:
    reason = item.get(_FAILURE_REASON, {}).get("Value", [0])[0]
    return f"Failure Reason 0x{int(reason):04X}"


def _seconds(retry_after: str) -> float:
    """Return how long to wait; an answer that is no number of seconds means: later."""
    return float(retry_after) if retry_after.isascii() and retry_after.isdigit() else _LONGEST_WAIT_S + 1


def _cause(error: BaseException) -> str:
    """Return OpenSSL's words."""
    text = repr(error)
    for words in ("self-signed certificate", "hostname mismatch", "Hostname mismatch", "expired", "unable to get"):
        if words in text:
            return words
    return "TLS failed"
