"""nginx and Caddy in front of a node, with the settings of conf/."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from benchmarks.certificates import Certificates
from tests.processes import LOOPBACK, ROOT, Process, Processes, connects, free_port, peer_missing
from tests.system.node import Node
from tests.system.web import web_address

NGINX, CADDY = ROOT / "conf" / "nginx.conf", ROOT / "conf" / "Caddyfile"
KINDS = ("nginx", "caddy")


def program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        peer_missing(name)
    return str(found)


@dataclass
class Proxy:
    """A reverse proxy with HTTPS.

    Attributes
    ----------
    folder
        Everything that it writes.
    port
        Where callers reach it.
    """

    folder: Path
    port: int
    certificates: Certificates
    processes: Processes

    def serve_nginx(self, node: Node, settings: str = "", *, below: str = "/") -> None:
        """Start nginx, by default with the settings of conf/, for a folder of its site."""
        settings = settings or self._nginx(below)
        server = settings.replace("127.0.0.1:8042", _inner(node))
        temporary = " ".join(
            f"{kind}_temp_path {self.folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        file = self.folder / "nginx.conf"
        user = "user root;" if os.geteuid() == 0 else ""
        file.write_text(
            f"{user} daemon off; pid {self.folder}/pid; error_log stderr crit; events {{}} "
            f"http {{ access_log off; {temporary} {server} }}"
        )
        self._run([program("nginx"), "-e", "stderr", "-p", str(self.folder), "-c", str(file)])

    def _nginx(self, below: str) -> str:
        text = NGINX.read_text().replace("listen 80;", f"listen {LOOPBACK}:{free_port()};")
        text = text.replace("listen 443 ssl", f"listen {LOOPBACK}:{self.port} ssl").replace(
            "/var/log/nginx", str(self.folder)
        )
        if below != "/":
            text = text.replace("location / {", f"location {below} {{").replace(
                "http://backup_scp;", "http://backup_scp/;"
            )
        text = text.replace("/etc/ssl/pacs.example.pem", str(self.certificates.certificate))
        return text.replace("/etc/ssl/pacs.example.key", str(self.certificates.key))

    def serve_caddy(self, node: Node) -> None:
        """Start Caddy with the settings of conf/."""
        text = CADDY.read_text().replace("127.0.0.1:8042", _inner(node))
        text = text.replace("{\n", "{\n\tadmin off\n\tskip_install_trust\n\tauto_https disable_redirects\n", 1)
        text = re.sub(r"^pacs\.example \{", f"https://{LOOPBACK}:{self.port} {{", text, flags=re.MULTILINE)
        files = f"{self.certificates.certificate} {self.certificates.key}"
        text = re.sub(r"^\t#tls .*$", f"\ttls {files}", text, flags=re.MULTILINE)
        file = self.folder / "Caddyfile"
        file.write_text(text)
        self._run([program("caddy"), "run", "--config", str(file), "--adapter", "caddyfile"])

    def _run(self, argv: list[str]) -> None:
        process = Process(
            argv, self.folder / "output.log", os.environ | {"HOME": str(self.folder), "XDG_DATA_HOME": ""}
        )
        self.processes.add(process)
        process.launch(lambda: connects(self.port))

    @property
    def logs(self) -> str:
        """Everything that it has logged."""
        return "\n".join(file.read_text(errors="replace") for file in self.folder.glob("*.log"))

    @property
    def kept_bytes(self) -> int:
        """Bytes in files, without settings and logs."""
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        return sum(path.stat().st_size for path in files if path.suffix != ".log")


def _inner(node: Node) -> str:
    return web_address(node).removesuffix("/dicom-web").removeprefix("http://")
