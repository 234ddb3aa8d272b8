"""A modality: it echoes and stores an image, again and again, in a process of its own; each cycle is a line of JSON.

`python -m tests.system.probes.modality HOST PORT SOURCE AE_TITLE` ends with its standard input.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import select
import sys
import time

from tests.samples import Sample, encode, secondary_capture, uid
from tests.system import raw_sender
from tests.system.raw_sender import IMPLICIT_VR_LITTLE_ENDIAN, VERIFICATION

_PAUSE_S = 0.02  # less than a console has between two images
_NUMBER = "00000000"


@dataclasses.dataclass(frozen=True)
class Node:
    """Where it calls."""

    host: str
    port: int
    ae_title: str = "BACKUP_SCP"


def _template() -> Sample:
    """Return an image whose UID ends in a number to fill in."""
    image = secondary_capture(study="live", series="live")
    image.SOPInstanceUID = f"{uid('live')}.{os.getpid()}.1{_NUMBER}"
    return encode(image)


def images() -> itertools.chain[Sample]:
    """Return images without end, each with a UID of its own."""
    template = _template()
    stem = template.sop_instance_uid.removesuffix(_NUMBER)

    def numbered(number: int) -> Sample:
        name = f"{stem}{number:0{len(_NUMBER)}}"
        content = template.data_set.replace(template.sop_instance_uid.encode(), name.encode())
        return dataclasses.replace(template, sop_instance_uid=name, data_set=content)

    return itertools.chain(map(numbered, itertools.count(1)))


def cycle(node: Node, source: str, ae_title: str, image: Sample) -> tuple[float, float]:
    """Associate, echo, store and release; return the seconds until the echo, and those of the store."""
    contexts = [(VERIFICATION, (IMPLICIT_VR_LITTLE_ENDIAN,)), *raw_sender.contexts_of(image)]
    began = time.monotonic()
    with raw_sender.Association(node, contexts, calling=ae_title, source=source) as association:
        if status := association.echo():
            raise ConnectionError(f"C-ECHO: {status:04X}")
        echoed = time.monotonic()
        if status := association.store(image).status:
            raise ConnectionError(f"C-STORE: {status:04X}")
        return echoed - began, time.monotonic() - echoed


def main() -> None:
    """Run until the standard input ends."""
    host, port, source, ae_title = sys.argv[1:]
    node = Node(host, int(port))
    for image in images():
        began, error, echo_s, store_s = time.monotonic(), "", 0.0, 0.0
        try:
            echo_s, store_s = cycle(node, source, ae_title, image)
        except OSError as failed:
            error = f"{type(failed).__name__}: {failed}"
        said = {"began": began, "ended": time.monotonic(), "echo_s": echo_s, "store_s": store_s, "error": error}
        print(json.dumps(said), flush=True)
        if select.select([sys.stdin], [], [], _PAUSE_S)[0]:
            return


if __name__ == "__main__":
    main()
