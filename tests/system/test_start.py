"""The modules that a node loads before it answers, and those that it loads when needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pydicom.data import get_testdata_file

from tests.processes import clean_environment
from tests.samples import Sample
from tests.system.contents import decoder_processes
from tests.system.pynetdicom_peers import NATIVE, get

# A module of each package: the packages' own names are written where their import fails as well.
DECODERS = {"PIL.Image", "_gdcm", "jpeg_ls.CharLS", "numpy.linalg", "openjpeg.utils", "pylibjpeg._version"}
DECODERS |= {"imagecodecs._imagecodecs"}
NOT_NEEDED = {"alembic", "psycopg", "pydantic", "rich", "sqlalchemy.dialects.postgresql", "typer", "urllib3"}
TELLING = {"PYTHONPROFILEIMPORTTIME": "1"}  # Python writes a line for each module that it loads


def loaded(node) -> set[str]:
    return {line.rpartition("|")[2].strip() for line in node.output.splitlines() if line.startswith("import time:")}


def test_a_start_loads_what_it_needs(start_node):
    node = start_node(env=TELLING)
    assert {"pynetdicom", "sqlalchemy"} <= loaded(node)
    assert loaded(node) & (DECODERS | NOT_NEEDED) == set()


def test_a_decoder_is_started_when_pixels_are_decoded_and_kept(start_node):
    sample = Sample.of_file(Path(str(get_testdata_file("MR_small_RLE.dcm"))))
    assert sample is not None
    study = sample.dataset().StudyInstanceUID
    node = start_node(env=TELLING)
    assert [answer.status for answer in node.send([sample])] == [0]
    _, stored = get(node, "STUDY", {"StudyInstanceUID": study}, {sample.sop_class_uid: [sample.transfer_syntax_uid]})
    assert [each.transfer_syntax_uid for each in stored] == [sample.transfer_syntax_uid]
    assert decoder_processes(node) == []

    for _ in range(2):
        _, stored = get(node, "STUDY", {"StudyInstanceUID": study}, {sample.sop_class_uid: NATIVE})
        assert [each.transfer_syntax_uid for each in stored] == [NATIVE[0]]
        assert len(decoder_processes(node)) == 1
    assert loaded(node) & DECODERS == set()


GARBAGE = """
import gc, os, signal, sys
from backup_scp.cli import main

class Told:
    def write(self, text):
        if " is ready" in text:
            seen.append((gc.get_stats()[2]["collections"], gc.isenabled(), gc.get_freeze_count() > 10_000))
            os.kill(os.getpid(), signal.SIGTERM)

    def flush(self):
        pass

seen, sys.stdout, sys.argv = [], Told(), ["backup-scp", "serve"]
main()
print(*seen, file=sys.stderr)
"""


def test_garbage_is_collected_once_all_is_loaded_and_not_before(tmp_path):
    environment = clean_environment(
        BACKUP_SCP_HOME=str(tmp_path), BACKUP_SCP_NODE__PORT="0", BACKUP_SCP_LOG__LEVEL="ERROR"
    )
    done = subprocess.run([sys.executable, "-c", GARBAGE], capture_output=True, text=True, check=True, env=environment)
    assert done.stderr == "(0, True, True)\n"
