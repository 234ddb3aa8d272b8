"""pydicom's optional libraries are not imported; another process decodes pixels."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from tests.samples import Sample

BEGIN = """
import sys
from backup_scp.cli.light_imports import keep_out
keep_out()
"""


def run(*arguments: str) -> str:
    return subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True).stdout


LOOK = """
import pydicom, pynetdicom
from backup_scp.dicom import transcode
kept = "PIL gdcm _gdcm jpeg_ls libjpeg numpy openjpeg pylibjpeg requests rle".split()
print([name for name in kept if name in sys.modules])
"""


def test_neither_pydicom_nor_our_own_transcoding_brings_them_in():
    assert run("-c", BEGIN + LOOK) == "[]\n"


REQUESTS = """
import pydicom.dataset
print("requests" in sys.modules)
import requests
"""


def test_what_pydicom_does_not_need_can_be_imported_by_others():
    assert run("-c", BEGIN + REQUESTS) == "False\n"


LATE = """
import sys
import pydicom
from backup_scp.cli.light_imports import keep_out
import_hooks = list(sys.meta_path)
keep_out()
print(sys.meta_path == import_hooks)
"""


def test_nothing_is_kept_out_of_a_process_that_has_pydicom_already():
    assert run("-c", LATE) == "True\n"


COMMAND = """
import sys
from backup_scp import cli
sys.argv[1:] = ["--version"]
try:
    cli.main()
except SystemExit:
    import pydicom
    print("numpy" in sys.modules, "_gdcm" in sys.modules)
"""


def test_every_command_keeps_them_out():
    assert run("-c", COMMAND).splitlines()[-1] == "False False"


NODE = """
import sys
import backup_scp.cli.serve, backup_scp.node.supervisor, backup_scp.node.node
import backup_scp.dimse.scp.service_table
print([name for name in ("starlette", "uvicorn", "anyio", "httptools") if name in sys.modules])
"""


def test_the_node_does_not_load_the_web_libraries():
    assert run("-c", NODE) == "[]\n"


DECODE = """
import hashlib
from pathlib import Path
from backup_scp.dicom.transcode import transcode
from backup_scp.dicom.transcode.decoders import DECODABLE, can_decode

assert all(map(can_decode, DECODABLE))
stored, offset = Path(sys.argv[1]), int(sys.argv[2])
with stored.open("rb") as stream:
    stream.seek(offset)
    size = stored.stat().st_size - offset
    result = transcode(stream, sys.argv[3], ["1.2.840.10008.1.2.1"], size, stored.parent).data_set
with result:
    print(hashlib.sha256(result.read()).hexdigest())
print("numpy" in sys.modules, "imagecodecs" in sys.modules)
"""


@pytest.mark.parametrize(
    "name", ["MR_small_RLE.dcm", "MR_small_jpeg_ls_lossless.dcm", "JPEG2000.dcm", "JPGExtended.dcm"]
)
def test_pixels_are_decoded_all_the_same_and_in_another_process(name):
    path = Path(str(get_testdata_file(name)))
    sample = Sample.of_file(path)
    assert sample is not None
    arguments = (str(path), str(path.stat().st_size - len(sample.data_set)), sample.transfer_syntax_uid)
    expected, _ = run("-c", "import sys" + DECODE, *arguments).splitlines()
    assert run("-c", BEGIN + DECODE, *arguments).splitlines() == [expected, "False False"]


def test_what_makes_pdf_is_let_in_and_pydicom_works_after_it():
    code = """
from backup_scp.cli.light_imports import keep_out
keep_out()
import backup_scp.receipts.pdf_page, backup_scp.receipts.pdf_receipt
import sys, pydicom.pixels
assert "numpy" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
