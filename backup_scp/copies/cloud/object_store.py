"""A bucket of S3 as a store of bytes: AWS, Backblaze B2, Wasabi, MinIO, Ceph.

Two facts about Object Lock shape it.  A lock keeps bytes, not names: whoever may delete hides an object behind a delete
marker, and whoever may write puts other bytes under its name.  So objects are read by their version ID.  A bucket
without its default rule takes objects unlocked and says nothing.  So the lock of each object is asked for.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from backup_scp.copies.cloud.byte_store import NameState
from backup_scp.copies.cloud.streams import Writable
from backup_scp.errors import DestinationRefuses, DestinationUnavailable, FileMissing, InvalidSettings

if TYPE_CHECKING:
    from obstore import GetOptions
    from obstore.store import S3Store
    from requests import Session

T = TypeVar("T")

_PART_BYTES = 5 << 20  # the least that S3 takes
_PARTS = 9000  # S3 takes 10,000
_PARTS_AT_ONCE = 1  # each takes its memory; a file beside it is sealed or read back meanwhile
_PIECE_BYTES = 256 << 10  # obstore collects them to parts; of a file it would read a whole part first
_WHOLE_BYTES = 2 << 20  # smaller files are sent in one request, several at once
_READ_BYTES = 1 << 20
_REQUEST_TIMEOUT = timedelta(minutes=5)  # for one part on a slow line
_CONNECT_S, _HEAD_S = 10, 60
_SIGNED_FOR = timedelta(minutes=5)
_NO_BUCKET, _ARCHIVED = "NoSuchBucket", "InvalidObjectState"
_NO_SUCH_VERSION = re.compile(r"<Code>(InvalidArgument|NoSuchVersion)</Code>")
_NULL = "null"  # the version ID of what was stored while the bucket keeps no versions
_CODE = re.compile(r"<Code>(\w+)</Code>")
_STATUS = re.compile(r"status code: (\d{3})")


@dataclass(frozen=True, slots=True)
class BucketAccess:
    """Where a bucket is, and who writes to it.

    Attributes
    ----------
    endpoint
        Address of the service; empty for AWS.
    access_key, secret_key
        Both empty: obstore takes them from the environment (``AWS_ACCESS_KEY_ID``), or from the machine's role.
    ca
        PEM file of its CA; empty for those that this computer trusts.
    checksum
        ``sha256`` sends ``x-amz-checksum-sha256`` with each upload; ``none`` does not; empty: only to AWS, which
        demands it for a bucket with Object Lock.
    """

    bucket: str
    prefix: str
    endpoint: str = ""
    region: str = ""
    access_key: str = ""
    secret_key: str = ""
    ca: str = ""
    checksum: str = ""

    def __repr__(self) -> str:  # the keys must never reach a log
        return f"BucketAccess({self.bucket}, {self.prefix}, {self.endpoint})"


class ObjectStore:
    """A bucket of S3; see ``ByteStore``.

    A credential that may put and get objects (also by version) and list the bucket suffices; it need not delete.
    """

    keeps_versions = True

    def __init__(self, access: BucketAccess) -> None:
        self.place = f"s3://{access.bucket}"
        self._access = access
        self._opened: S3Store | None = None
        self._session: Session | None = None
        self._verify = str(Path(access.ca).expanduser()) if access.ca else None
        self._one_session = threading.Lock()
        self._one_large = threading.Lock()  # bounds the memory: only one object is sent in parts

    def __enter__(self) -> Self:
        self._opened = _open_bucket(self._access)
        _require_requests()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._session is not None:
            self._session.close()
        self._opened = self._session = None

    @property
    def _store(self) -> S3Store:
        if self._opened is None:
            raise DestinationUnavailable(f"{self.place} is not open")
        return self._opened

    def put(self, name: str, file: Path) -> str:
        import obstore

        size_bytes = file.stat().st_size
        if size_bytes <= _WHOLE_BYTES:
            result = self._ask(lambda: obstore.put(self._store, name, file.read_bytes(), use_multipart=False))
        else:
            part_bytes = max(_PART_BYTES, -(-size_bytes // _PARTS))
            with self._one_large:
                result = self._ask(
                    lambda: obstore.put(
                        self._store, name, _pieces(file), chunk_size=part_bytes, max_concurrency=_PARTS_AT_ONCE
                    )
                )
        return _version_id(result["version"])

    def digest(self, name: str, object_version: str = "") -> str:
        return self._read(name, object_version, lambda _: None)

    def get(self, name: str, object_version: str, into: Writable) -> str:
        return self._read(name, object_version, into.write)

    def _read(self, name: str, object_version: str, write: Callable[[Any], object]) -> str:
        """Read an object in ranges, so that none takes longer than a request may, and little memory is needed."""
        digest, position, size_bytes = hashlib.sha256(), 0, 1
        while position < size_bytes:
            part, size_bytes = self._read_range(name, object_version, position)
            digest.update(part)
            write(part)
            position += len(part)
            if not part:
                break
        return digest.hexdigest()

    def _read_range(self, name: str, object_version: str, position: int) -> tuple[memoryview, int]:
        """Return the bytes from a position on, and the length of the whole object."""
        import obstore
        from obstore.exceptions import BaseError

        def ask() -> tuple[memoryview, int]:
            options: GetOptions = {"range": (position, position + _READ_BYTES)}
            if object_version:
                options["version"] = object_version
            try:
                result = obstore.get(self._store, name, options=options)
            except BaseError as error:
                text = str(error)
                if object_version and _NO_SUCH_VERSION.search(text):  # an ID of another service is an invalid one
                    raise FileNotFoundError(name) from None
                if position or "status code: 416" not in text:
                    raise
                return memoryview(b""), 0  # an empty object has no range
            return memoryview(result.bytes()), result.meta["size"]

        found = self._ask(ask, is_missing=None)
        if found is None:
            raise FileMissing(f"{name} is not in {self.place}")
        return found

    def head(self, name: str) -> NameState | None:
        """Ask by a signed request of our own: obstore's has no lock in its answer."""
        import obstore
        import requests

        try:
            url = obstore.sign(self._store, "HEAD", name, _SIGNED_FOR)
            with self._one_session:
                session = self._session = self._session or _session()
            answer = session.head(url, timeout=(_CONNECT_S, _HEAD_S), verify=self._verify)
        except requests.RequestException as error:
            raise DestinationUnavailable(f"{self.place} does not answer ({type(error).__name__})") from None
        if answer.status_code == requests.codes.not_found:
            return None
        if answer.status_code != requests.codes.ok:
            raise self._refusal(str(answer.status_code), "")
        return _name_state(answer.headers)

    def list(self, folder: str) -> Iterator[str]:
        import obstore

        pages = iter(obstore.list(self._store, folder, chunk_size=1000))
        while True:
            page = self._ask(lambda: next(pages, None))
            if page is None:
                return
            for each in page:
                yield each["path"]

    def try_to_delete(self, name: str) -> bool:
        import obstore
        from obstore.exceptions import PermissionDeniedError

        try:
            obstore.delete(self._store, name)
        except PermissionDeniedError:
            return False
        except Exception as error:  # noqa: BLE001 - turned into one of ours
            raise self._error(error) from None
        return True

    def _ask(self, request: Callable[[], T], is_missing: T | None = None) -> T:
        """Make a request; raise our own errors.  A missing object gives ``is_missing``."""
        try:
            return request()
        except FileNotFoundError as error:
            if _NO_BUCKET in str(error):
                raise self._refusal("404", _NO_BUCKET) from None
            return is_missing  # type: ignore[return-value]
        except Exception as error:  # noqa: BLE001 - turned into one of ours
            raise self._error(error) from None

    def _error(self, error: Exception) -> Exception:
        from obstore.exceptions import BaseError

        if isinstance(error, DestinationUnavailable) or not isinstance(error, BaseError):
            return error
        text = str(error)
        status, code = _STATUS.search(text), _CODE.search(text)
        if status:
            return self._refusal(status[1], code[1] if code else "")
        return DestinationUnavailable(f"{self.place} does not answer: check the network and the endpoint")

    def _refusal(self, status: str, code: str) -> DestinationUnavailable:
        if code == _NO_BUCKET:
            return DestinationRefuses(f"There is no bucket {self.place}: make it, or correct the url")
        if code == _ARCHIVED:
            return DestinationRefuses(
                f"{self.place} has moved objects to an archive class, from which they must be restored before they can "
                "be read: take that rule of the bucket away"
            )
        said = f"status {status}" + (f", {code}" if code else "")
        if status in {"401", "403"}:
            return DestinationRefuses(
                f"{self.place} refuses our credential ({said}): check access_key, secret_key_file, region and what the "
                "credential may do (docs/cloud.md)"
            )
        if status.startswith("4") and status not in {"408", "429"}:
            return DestinationRefuses(f"{self.place} refuses the request ({said}): see docs/cloud.md")
        return DestinationUnavailable(f"{self.place} cannot do it now ({said})")


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece


def _open_bucket(access: BucketAccess) -> S3Store:
    try:
        from obstore.store import S3Store
    except ImportError:
        raise InvalidSettings(
            "For cloud storage, the library obstore is missing: run  pip install 'backup-scp[copies]'"
        ) from None
    config: dict[str, Any] = {
        "endpoint": access.endpoint,
        "region": access.region,
        "access_key_id": access.access_key,
        "secret_access_key": access.secret_key,
        "checksum_algorithm": "SHA256" if (access.checksum or _usual_checksum(access)) == "sha256" else "",
    }
    client: dict[str, Any] = {
        "timeout": _REQUEST_TIMEOUT,
        "connect_timeout": timedelta(seconds=_CONNECT_S),
        "allow_http": access.endpoint.startswith("http://"),
    }
    if access.ca:
        client["root_certificate"] = _read_ca(access.ca)
    try:
        return S3Store(
            access.bucket,
            prefix=access.prefix,
            config={key: value for key, value in config.items() if value},  # type: ignore[arg-type]
            client_options=client,  # type: ignore[arg-type]
            retry_config={"max_retries": 3, "retry_timeout": timedelta(minutes=1)},
        )
    except Exception:  # noqa: BLE001 - obstore's text can repeat what is in the environment
        raise InvalidSettings(
            f"s3://{access.bucket} cannot be opened: check url, endpoint, region and access_key"
        ) from None


def _usual_checksum(access: BucketAccess) -> str:
    is_aws = not access.endpoint or ".amazonaws.com" in access.endpoint
    return "sha256" if is_aws else "none"


def _read_ca(file: str) -> bytes:
    try:
        return Path(file).expanduser().read_bytes()
    except OSError as error:
        raise InvalidSettings(f"ca {file} cannot be read ({error.strerror})") from None


def _require_requests() -> None:
    """Raise when the library is missing; it is loaded only when it is used: that takes 5 MB.

    Raises
    ------
    InvalidSettings
    """
    if find_spec("requests") is None:
        raise InvalidSettings(
            "For cloud storage, the library requests is missing: run  pip install 'backup-scp[copies]'"
        )


def _session() -> Session:
    import requests

    session = requests.Session()
    session.auth = lambda request: request  # the URL is signed: add no login of the user's netrc file
    return session


def _version_id(said: str | None) -> str:
    return "" if said in {None, _NULL} else str(said)


def _name_state(headers: Any) -> NameState:
    until = headers.get("x-amz-object-lock-retain-until-date", "")
    stored_at = headers.get("Last-Modified", "")
    return NameState(
        int(headers.get("Content-Length", 0)),
        _version_id(headers.get("x-amz-version-id", "")),
        headers.get("x-amz-object-lock-mode", ""),
        _moment(until) if until else None,
        parsedate_to_datetime(stored_at) if stored_at else None,
    )


def _moment(text: str) -> datetime:
    """Read an ISO 8601 time with any number of decimals of a second."""
    whole = re.sub(r"(\.\d{1,6})\d*", r"\1", text.strip()).replace("Z", "+00:00")
    moment = datetime.fromisoformat(whole)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
