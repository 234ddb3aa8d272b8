"""The web service of a node that runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from tests.processes import wait_until
from tests.system.node import Node

ENABLED = {"BACKUP_SCP_WEB__ENABLED": "true"}


def web_node(make_node: Callable[..., Node], web: Mapping[str, object] | None = None, **arguments: object) -> Node:
    """Return a node with DICOMweb at a port that the system chooses, not started."""
    settings = {"web": {"port": 0} | dict(web or {})} | dict(arguments.pop("settings", {}))  # type: ignore[call-overload]
    node: Node = make_node(env=ENABLED, settings=settings, **arguments)
    return node


def record(node: Node) -> dict:
    return json.loads((node.home / "node.json").read_text())


def web_address(node: Node) -> str:
    """Return the base URI of a node that was started."""
    return wait_until(lambda: record(node)["web_address"], what="DICOMweb's address")
