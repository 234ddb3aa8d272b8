"""Fixtures that start real processes; each process ends with its test, and the report has its last output."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.processes import Processes
from tests.pynetdicom_answers import keep_answers
from tests.pynetdicom_sockets import close_forgotten_sockets
from tests.system.mounts import Mounts, private_mounts
from tests.system.network_namespace import OtherMachine
from tests.system.node import Node
from tests.system.peers import Orthanc, StoreSCP

close_forgotten_sockets()
keep_answers()


@pytest.fixture
def mounts() -> Iterator[Mounts]:
    """Yield the test's own mounts; needs root."""
    with private_mounts() as mounts:
        yield mounts


@pytest.fixture
def other_machine() -> Iterator[OtherMachine]:
    """Yield another computer on the network; needs root.  Ask for it before the processes that are to run there."""
    machine = OtherMachine()
    machine.connect()
    yield machine
    machine.disconnect()


@pytest.fixture
def make_node(tmp_path: Path, processes: Processes) -> Iterator[Callable[..., Node]]:
    """Yield `make_node(remotes=..., settings=..., ...)`: a further node each time, not started (see Node)."""
    number = itertools.count(1)
    with contextlib.ExitStack() as stack:

        def make(**arguments: object) -> Node:
            node = Node(tmp_path / f"node{next(number)}", **arguments)  # type: ignore[arg-type]
            processes.add(node.process)
            stack.callback(node.close)
            return node

        yield make


@pytest.fixture
def start_node(make_node: Callable[..., Node]) -> Callable[..., Node]:
    """Return `start_node(remotes=..., settings=..., ...)`: a further node each time, answering C-ECHO."""

    def start(**arguments: object) -> Node:
        node = make_node(**arguments)
        node.start()
        return node

    return start


@pytest.fixture
def node(start_node: Callable[..., Node]) -> Node:
    """Return a node on the defaults, without remote AEs."""
    return start_node()


@pytest.fixture
def start_storescp(tmp_path: Path, processes: Processes) -> Callable[..., StoreSCP]:
    """Return `start_storescp(ae_title=..., options=...)`: a further Move Destination each time."""
    number = itertools.count(1)

    def start(**arguments: object) -> StoreSCP:
        storescp = StoreSCP(tmp_path / f"storescp{next(number)}", **arguments)  # type: ignore[arg-type]
        processes.add(storescp.process)
        storescp.start()
        return storescp

    return start


@pytest.fixture
def storescp(start_storescp: Callable[..., StoreSCP]) -> StoreSCP:
    """Return a Move Destination with AE title SINK that takes every Transfer Syntax dcmtk knows."""
    return start_storescp()


@pytest.fixture
def start_orthanc(tmp_path: Path, processes: Processes) -> Callable[..., Orthanc]:
    """Return `start_orthanc(modalities=..., **settings)`: a further Orthanc each time."""
    number = itertools.count(1)

    def start(**arguments: object) -> Orthanc:
        orthanc = Orthanc(tmp_path / f"orthanc{next(number)}", **arguments)  # type: ignore[arg-type]
        processes.add(orthanc.process)
        orthanc.start()
        return orthanc

    return start


@pytest.fixture
def orthanc(start_orthanc: Callable[..., Orthanc]) -> Orthanc:
    """Return an Orthanc that knows no modality yet (`orthanc.add_modality(node.remote)`)."""
    return start_orthanc()
