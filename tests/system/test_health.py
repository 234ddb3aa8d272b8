"""A real node is ready, is not while its archive is gone, and is again."""

from __future__ import annotations

import urllib.error
import urllib.request

from tests.processes import connects, free_port, wait_until


def asked(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_readiness_follows_the_archive(start_node):
    port = free_port()
    node = start_node(env={"BACKUP_SCP_WEB__ENABLED": "true"}, settings={"web": {"port": port}})
    wait_until(lambda: connects(port))
    assert asked(port, "/healthz") == (200, "ok\n")
    wait_until(lambda: asked(port, "/readyz") == (200, "ok\n"), what="ready")

    archive = node.home / "archive"
    archive.rename(node.home / "elsewhere")
    wait_until(lambda: asked(port, "/readyz")[0] == 503, 60, what="not ready")
    assert asked(port, "/healthz") == (200, "ok\n")
    (node.home / "elsewhere").rename(archive)
    wait_until(lambda: asked(port, "/readyz") == (200, "ok\n"), 60, what="ready again")
