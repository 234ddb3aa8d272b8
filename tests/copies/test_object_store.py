"""What services other than Ceph answer to a request of S3, from a server that does as it is told."""

from __future__ import annotations

import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from backup_scp.copies.cloud.object_store import BucketAccess, ObjectStore
from backup_scp.errors import DestinationRefuses, FileMissing

MODIFIED = "Mon, 30 Nov 2026 08:00:00 GMT"


class Service:
    """Answers each request with a status, headers and a body; ``asked`` has method and headers of each."""

    def __init__(self) -> None:
        self.status, self.body = 200, b""
        self.headers: dict[str, str] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer.asked.append((self.command, {name.lower(): value for name, value in self.headers.items()}))
                self.send_response(outer.status)
                for name, value in {"ETag": '"1"', "Last-Modified": MODIFIED, **outer.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(outer.body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(outer.body)

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_PUT(self) -> None:
                self.do_GET()

            def log_message(self, *_) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(30)

    def refuse(self, status: int, code: str) -> None:
        self.status, self.body = status, f"<Error><Code>{code}</Code></Error>".encode()


@pytest.fixture
def service():
    service = Service()
    yield service
    service.close()


@pytest.fixture
def store(service):
    access = BucketAccess("bucket", "backup-scp", service.endpoint, "us-east-1", "AK", "the-secret")
    with ObjectStore(access) as store:
        yield store


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"content")
    return file


@pytest.mark.parametrize(
    ("said", "known"), [("3sL4.null_r8", "3sL4.null_r8"), ("null", ""), ("", "")], ids=["within", "null", "none"]
)
def test_a_version_id_is_the_same_from_each_request(service, store, file, said, known):
    """Half a million random IDs of AWS have one with these letters; "null" alone means that versions are suspended."""
    service.headers = {"x-amz-version-id": said} if said else {}
    assert store.put("images/a", file) == known
    assert store.head("images/a").object_version == known


@pytest.mark.parametrize(("status", "code"), [(400, "InvalidArgument"), (404, "NoSuchVersion"), (404, "NoSuchKey")])
def test_a_version_id_of_another_service_is_missing(service, store, status, code):
    """The settings name another service now: what is not there is stored again, and stops nothing."""
    service.refuse(status, code)
    with pytest.raises(FileMissing, match="images/a is not in s3://bucket"):
        store.digest("images/a", "an-id-of-another-service")


def test_another_refusal_is_no_missing_object(service, store):
    service.refuse(400, "InvalidArgument")
    with pytest.raises(DestinationRefuses, match="status 400, InvalidArgument"):
        store.digest("images/a")
    service.refuse(400, "InvalidRequest")
    with pytest.raises(DestinationRefuses, match="status 400, InvalidRequest"):
        store.digest("images/a", "an-id")


def test_an_object_in_an_archive_class_is_told(service, store):
    service.refuse(403, "InvalidObjectState")
    with pytest.raises(DestinationRefuses, match="archive class"):
        store.digest("images/a")


_ENTERS = """
import sys
from backup_scp.copies.cloud.object_store import BucketAccess, ObjectStore
from obstore.store import S3Store
sys.path = [] if {is_missing} else sys.path
with ObjectStore(BucketAccess("bucket", "ours", endpoint="http://127.0.0.1:1", region="here")):
    print("requests" in sys.modules)
"""


def entered(*, is_missing):
    """Enter a store in a process of its own; return the process."""
    code = _ENTERS.format(is_missing=is_missing)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_an_upload_does_not_load_the_library_that_asks_for_locks():
    assert entered(is_missing=False).stdout == "False\n"


def test_a_missing_library_is_told_at_once():
    assert "the library requests is missing" in entered(is_missing=True).stderr


def test_a_login_in_the_netrc_file_goes_nowhere(service, store, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password elsewhere\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    assert store.head("images/a")
    assert [(method, headers.get("authorization")) for method, headers in service.asked] == [("HEAD", None)]
