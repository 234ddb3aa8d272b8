"""Install oidc-provider once by npm, with the digests of its lock, and run it on loopback.

``python -m tests.system.oidc_provider.running_provider`` installs it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from joserfc.jwk import RSAKey

from tests.processes import LOOPBACK, ROOT, Process, clean_environment, connects, free_port, peer_missing, wait_until

SOURCE = Path(__file__).parent
LOCK = SOURCE / "package-lock.json"
FILES = ROOT / "build" / "oidc-provider"
CLIENT, SECRET = "backup scp", "s3cret/+&"


class RunningProvider:
    """One provider, by a name that is another site for browsers than the node's address.

    Parameters
    ----------
    folder
        For its settings, accounts and output.

    Attributes
    ----------
    issuer
        Its address.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._port = free_port()
        self.issuer = f"http://localhost:{self._port}"
        self._settings, self._accounts = folder / "settings.json", folder / "accounts.json"
        script = str(SOURCE / "serve.mjs")
        self.process = Process([_node(), script, str(FILES), str(self._settings)], folder / "provider.log")

    def start(self, node: str, key: str = "first") -> None:
        """Start it for a node at this address, with a new key of this name to sign with."""
        settings = {
            "issuer": self.issuer,
            "host": LOOPBACK,
            "port": self._port,
            "accounts": str(self._accounts),
            "cookie_key": key,
            "keys": [RSAKey.generate_key(2048, {"kid": key, "use": "sig", "alg": "RS256"}).as_dict(private=True)],
            "client": {
                "client_id": CLIENT,
                "client_secret": SECRET,
                "redirect_uris": [f"{node}/login/openid/callback"],
                "post_logout_redirect_uris": [f"{node}/login"],
                "backchannel_logout_uri": f"{node}/login/openid/ended",
            },
        }
        self._settings.write_text(json.dumps(settings))
        self.process.launch(lambda: connects(self._port))

    def stop(self) -> None:
        """End it; its sessions and codes are lost.

        The whole group: Node of Python's packages runs below a program that passes no signal on.
        """
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.terminate()
        wait_until(lambda: not connects(self._port), what="the end of the provider")

    def set_accounts(self, **groups: list[str]) -> None:
        """Set who can log in there, and the groups of each."""
        claims = {name: {"sub": name, "preferred_username": name, "groups": each} for name, each in groups.items()}
        self._accounts.write_text(json.dumps(claims))


def _environment() -> Mapping[str, str]:
    """Return an environment with Node: that of Python's packages where `make viewer` needed it, else the system's."""
    folders = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    return clean_environment(PATH=os.pathsep.join(folders))


def _node() -> str:
    node = shutil.which("node", path=_environment()["PATH"])
    if node is None or not _is_installed():
        peer_missing("oidc-provider", "viewer")
    return str(node)


def _is_installed() -> bool:
    """Tell whether what is installed is what the lock says."""
    installed = FILES / LOCK.name
    return installed.is_file() and installed.read_bytes() == LOCK.read_bytes()


def install() -> None:
    """Install it; it is whole as soon as its folder is there."""
    if _is_installed():
        return
    FILES.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FILES.parent) as folder:
        whole = Path(folder) / "whole"
        whole.mkdir()
        for name in ("package.json", LOCK.name, ".npmrc"):
            shutil.copy2(SOURCE / name, whole / name)
        npm = shutil.which("npm", path=_environment()["PATH"]) or "npm"
        subprocess.run([npm, "ci", "--silent"], cwd=whole, env=_environment(), check=True, stdout=sys.stderr)
        shutil.rmtree(FILES, ignore_errors=True)
        whole.rename(FILES)


if __name__ == "__main__":
    install()
