"""Other peers: dcmtk's programs and Orthanc, on free ports of loopback."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

from tests.processes import LOOPBACK, Process, clean_environment, connects, free_port, peer_missing
from tests.samples import data_set_bytes
from tests.system.node import Remote
from tests.system.raw_sender import Acceptor

PATIENT_ROOT, STUDY_ROOT, PATIENT_STUDY_ONLY = "-P", "-S", "-O"
SUCCESS = 0x0000


def require(program: str) -> str:
    """Return the program's path; without it the test is skipped, or fails in CI."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
    if path is None:
        peer_missing(program)
    return str(path)


def dcmtk(program: str, *arguments: str | Path, exit_code: int | None = 0) -> subprocess.CompletedProcess[str]:
    """Run one of dcmtk's programs; `exit_code` None accepts any. Output and errors stand in `stdout`."""
    done = subprocess.run(
        [require(program), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        env=clean_environment(),
        timeout=110,
    )
    assert exit_code in {None, done.returncode}, f"{program} ended with {done.returncode}:\n{done.stdout}"
    return done


def _at(called: Acceptor, calling: str) -> list[str]:
    return ["-aet", calling, "-aec", called.ae_title, called.host, str(called.port)]


def echoscu(called: Acceptor, *options: str, calling: str = "ECHOSCU", exit_code: int | None = 0):
    """C-ECHO."""
    return dcmtk("echoscu", "-v", *options, *_at(called, calling), exit_code=exit_code)


def storescu(
    called: Acceptor, *paths: Path, options: Sequence[str] = (), calling: str = "STORESCU", exit_code: int | None = 0
):
    """C-STORE files and folders; `options` name the Transfer Syntax to propose (`-xs` for JPEG lossless, ...)."""
    return dcmtk("storescu", "-v", "+sd", "+r", *options, *_at(called, calling), *paths, exit_code=exit_code)


def dcmsend(
    called: Acceptor, *paths: Path, options: Sequence[str] = (), calling: str = "DCMSEND", exit_code: int | None = 0
):
    """C-STORE files and folders, each in the Transfer Syntax that it has."""
    return dcmtk("dcmsend", "-v", "+sd", "+r", *options, *_at(called, calling), *paths, exit_code=exit_code)


def _keys(keys: Mapping[str, str]) -> list[str]:
    return [argument for name, value in keys.items() for argument in ("-k", f"{name}={value}")]


def findscu(
    called: Acceptor,
    level: str,
    keys: Mapping[str, str],
    *,
    model: str = STUDY_ROOT,
    options: Sequence[str] = (),
    calling: str = "FINDSCU",
) -> list[Dataset]:
    """C-FIND; return the answers as they came. Keys by keyword or `gggg,eeee`."""
    query = _keys({"QueryRetrieveLevel": level, **keys})
    answers = _find("-d", model, *options, *query, *_at(called, calling))
    for answer in answers:
        answer.decode()
    return answers


def findscu_with(called: Acceptor, query: Path, *, model: str = STUDY_ROOT, calling: str = "FINDSCU") -> list[Dataset]:
    """C-FIND with the Identifier that stands in a file; return the answers, their bytes not decoded yet."""
    return _find("-d", model, *_at(called, calling), query)


def _find(*arguments: str | Path) -> list[Dataset]:
    with tempfile.TemporaryDirectory() as folder:
        done = dcmtk("findscu", "-X", "-od", folder, *arguments)
        assert final_status(done.stdout) == SUCCESS, done.stdout
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom does not know every Specific Character Set
            return [pydicom.dcmread(path, force=True) for path in sorted(Path(folder).glob("rsp*.dcm"))]


@dataclass(frozen=True)
class Retrieved:
    """The final C-MOVE-RSP or C-GET-RSP, as dcmtk prints it."""

    status: int
    completed: int
    failed: int
    warning: int
    output: str


def movescu(
    called: Acceptor,
    destination: str,
    level: str,
    keys: Mapping[str, str],
    *,
    model: str = STUDY_ROOT,
    options: Sequence[str] = (),
    calling: str = "MOVESCU",
) -> Retrieved:
    """C-MOVE to a destination that the node knows by its AE title."""
    query = _keys({"QueryRetrieveLevel": level, **keys})
    done = dcmtk("movescu", "-d", model, "-aem", destination, *options, *query, *_at(called, calling), exit_code=None)
    return _retrieved(done.stdout)


def getscu(
    called: Acceptor,
    folder: Path,
    level: str,
    keys: Mapping[str, str],
    *,
    model: str = STUDY_ROOT,
    options: Sequence[str] = (),
    calling: str = "GETSCU",
) -> Retrieved:
    """C-GET into a folder, bit preserving."""
    folder.mkdir(parents=True, exist_ok=True)
    query = _keys({"QueryRetrieveLevel": level, **keys})
    done = dcmtk("getscu", "-d", "+B", model, "-od", folder, *options, *query, *_at(called, calling), exit_code=None)
    return _retrieved(done.stdout)


def final_status(output: str) -> int | None:
    """Return the Status of the last response in the output of a `-d` run, None where there was none."""
    statuses = re.findall(r"DIMSE Status\s*: 0x([0-9a-fA-F]{4})", output)
    return int(statuses[-1], 16) if statuses else None


def _retrieved(output: str) -> Retrieved:
    status = final_status(output)
    assert status is not None, output

    def count(name: str) -> int:
        found = re.findall(rf"{name} Suboperations\s*: (\d+)", output)
        return int(found[-1]) if found else 0

    return Retrieved(status, count("Completed"), count("Failed"), count("Warning"), output)


class StoreSCP:
    """dcmtk's storescp as a Move Destination: keeps every instance, bit for bit, in a file of its own."""

    def __init__(self, folder: Path, *, ae_title: str = "SINK", options: Sequence[str] = ("+xa",)) -> None:
        self.host, self.port, self.ae_title = LOOPBACK, free_port(), ae_title
        self.folder = folder / "received"
        self.folder.mkdir(parents=True)
        argv = [require("storescp"), "-v", "--fork", "-pm", "+B", "+uf", "-aet", ae_title, *options]
        self.process = Process([*argv, "-od", str(self.folder), str(self.port)], folder / "storescp.log")

    @property
    def remote(self) -> Remote:
        return Remote(self.ae_title.lower(), self.ae_title, self.port)

    def start(self) -> None:
        self.process.launch(lambda: connects(self.port))

    def stop(self) -> None:
        self.process.terminate()

    def files(self) -> list[Path]:
        return sorted(path for path in self.folder.iterdir() if path.is_file())

    def data_sets(self) -> list[bytes]:
        """Return the Data Sets received, sorted."""
        return sorted(data_set_bytes(path) for path in self.files())


class DcmQRSCP:
    """dcmtk's dcmqrscp with one storage area, which accepts every caller."""

    def __init__(
        self,
        folder: Path,
        *,
        storage: Path | None = None,
        remotes: Iterable[Remote] = (),
        ae_title: str = "DCMQRSCP",
        studies: int = 500,  # more it does not take
        options: Sequence[str] = (),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.host, self.port, self.ae_title = LOOPBACK, free_port(), ae_title
        self.storage = storage or folder / "storage"
        self.storage.mkdir(parents=True, exist_ok=True)
        config = folder / "dcmqrscp.cfg"
        hosts = [f"{remote.name} = ({remote.ae_title}, {remote.host}, {remote.port})" for remote in remotes]
        tables = {"Host": hosts, "Vendor": [], "AE": [f"{ae_title} {self.storage} RW ({studies}, 1024mb) ANY"]}
        lines = [f"NetworkTCPPort = {self.port}", "MaxPDUSize = 65536", "MaxAssociations = 16"]
        for name, rows in tables.items():
            lines += [f"{name}Table BEGIN", *rows, f"{name}Table END"]
        config.write_text("\n".join([*lines, ""]))
        self.process = Process([require("dcmqrscp"), *options, "-c", str(config)], folder / "dcmqrscp.log")

    def start(self) -> None:
        self.process.launch(lambda: connects(self.port))


PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


class Orthanc:
    """Orthanc, driven over HTTP."""

    def __init__(
        self, folder: Path, *, modalities: Iterable[Remote] = (), ae_title: str = "ORTHANC", **settings: object
    ) -> None:
        folder.mkdir(parents=True)
        self.host, self.port, self.ae_title = LOOPBACK, free_port(), ae_title
        self.http_port = free_port()
        config = folder / "orthanc.json"
        config.write_text(json.dumps(self._configuration(folder, modalities) | settings, indent=1))
        self.process = Process([require("Orthanc"), str(config)], folder / "orthanc.log")

    def _configuration(self, folder: Path, modalities: Iterable[Remote]) -> dict[str, object]:
        return {
            "Name": "peer",
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "Plugins": [],
            "HttpPort": self.http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomAet": self.ae_title,
            "DicomPort": self.port,
            "DicomCheckCalledAet": False,
            "DicomAlwaysAllowEcho": True,
            "DicomAlwaysAllowStore": True,
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowGet": True,
            "DicomAlwaysAllowMove": True,
            "UnknownSopClassAccepted": True,
            "AcceptedTransferSyntaxes": ["1.2.840.10008.1.*"],
            "DicomModalities": {remote.name: [remote.ae_title, remote.host, remote.port] for remote in modalities},
        }

    @property
    def remote(self) -> Remote:
        return Remote(self.ae_title.lower(), self.ae_title, self.port)

    def start(self) -> None:
        self.process.launch(self._answers)

    def stop(self) -> None:
        self.process.terminate()

    def add_modality(self, remote: Remote) -> None:
        """Tell it of a remote AE that was started later than itself."""
        address = {"AET": remote.ae_title, "Host": remote.host, "Port": remote.port}
        body = address | {"UseDicomTls": bool(remote.tls)}
        self._request("PUT", f"/modalities/{remote.name}", json.dumps(body).encode())

    def upload(self, *paths: Path) -> list[str]:
        """Give it files; return its own identifiers of the instances."""
        return [json.loads(self._request("POST", "/instances", path.read_bytes()))["ID"] for path in paths]

    def delete(self, instance: str) -> None:
        """Delete an instance there."""
        self._request("DELETE", f"/instances/{instance}")

    def echo(self, modality: str) -> None:
        """C-ECHO."""
        self.post(f"/modalities/{modality}/echo", {})

    def store(self, modality: str, resources: Sequence[str]) -> dict:
        """C-STORE instances, series or studies of its own to a modality."""
        return self.post(f"/modalities/{modality}/store", {"Resources": list(resources), "Synchronous": True})

    def find(self, modality: str, level: str, query: Mapping[str, str]) -> tuple[str, list[dict]]:
        """C-FIND (level Patient, Study, Series or Instance); return the query's identifier and the answers."""
        identifier = self.post(f"/modalities/{modality}/query", {"Level": level, "Query": dict(query)})["ID"]
        return identifier, self.get(f"/queries/{identifier}/answers?expand&simplify")

    def retrieve(self, query_identifier: str, destination: str | None = None) -> dict:
        """C-MOVE all answers of a query, to itself unless another AE title is given."""
        body = {"TargetAet": destination or self.ae_title, "Synchronous": True}
        return self.post(f"/queries/{query_identifier}/retrieve", body)

    @property
    def version(self) -> tuple[int, ...]:
        return tuple(int(number) for number in self.get("/system")["Version"].split(".")[:2])

    def instances(self) -> list[str]:
        return self.get("/instances")

    def data_sets(self) -> list[bytes]:
        """Return the Data Sets that it holds, sorted."""
        folder = Path(tempfile.mkdtemp())
        try:
            return sorted(self._data_set(identifier, folder) for identifier in self.instances())
        finally:
            shutil.rmtree(folder)

    def _data_set(self, identifier: str, folder: Path) -> bytes:
        path = folder / identifier
        path.write_bytes(self._request("GET", f"/instances/{identifier}/file"))
        return data_set_bytes(path)

    def get(self, path: str):
        return json.loads(self._request("GET", path))

    def post(self, path: str, body: object):
        return json.loads(self._request("POST", path, json.dumps(body).encode()))

    def _answers(self) -> bool:
        try:
            self.get("/system")
        except OSError:
            return False
        return connects(self.port)

    def _request(self, method: str, path: str, body: bytes | None = None) -> bytes:
        request = urllib.request.Request(f"http://{LOOPBACK}:{self.http_port}{path}", body, method=method)
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with direct.open(request, timeout=110) as response:
                return response.read()
        except urllib.error.HTTPError as error:
            with error:
                said = error.read().decode(errors="replace")
            raise AssertionError(f"Orthanc: {method} {path}: {error.code} {said}") from error
