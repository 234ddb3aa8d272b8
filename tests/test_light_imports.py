"""What pydicom would load is kept out, and still works where it is needed."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydicom.data import get_testdata_file

from backup_scp.transcode.decoders import _plugins, can_decode

JPEG_LOSSLESS, JPEG_LOSSLESS_SV1 = "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"
LOOK = """
import sys
from backup_scp.light_imports import keep_out
keep_out()
import pydicom.pixels
from backup_scp.transcode.decoders import _plugins
print("_gdcm" in sys.modules, "urllib3" in sys.modules, _plugins(sys.argv[1]))
"""


def run(*arguments: str) -> str:
    return subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True).stdout


def test_gdcm_and_requests_stay_out_and_the_decoder_is_still_known():
    if not can_decode(JPEG_LOSSLESS):
        pytest.skip("no decoder is installed")
    assert run("-c", LOOK, JPEG_LOSSLESS) == f"False False {_plugins(JPEG_LOSSLESS)}\n"


LIKE_THE_REAL = """
import sys
import gdcm
real = gdcm.Version.GetVersion()
del sys.modules["gdcm"]
from backup_scp.light_imports import keep_out
keep_out()
import gdcm
print(gdcm.__doc__.startswith("Says"), gdcm.Version.GetVersion() == real)
"""


def test_the_stand_in_says_what_gdcm_says():
    pytest.importorskip("gdcm")
    assert run("-c", LIKE_THE_REAL) == "True True\n"


COMMAND = """
import sys
from backup_scp import cli
sys.argv[1:] = ["--version"]
try:
    cli.main()
except SystemExit:
    import pydicom
    print("_gdcm" in sys.modules)
"""


def test_every_command_keeps_them_out():
    assert run("-c", COMMAND).splitlines()[-1] == "False"


DECODE = """
import sys
from backup_scp.light_imports import keep_out

if __name__ == "__main__":
    keep_out()
    from pydicom import dcmread
    from pydicom.encaps import generate_frames
    from backup_scp.transcode.decoders import Decoders

    dataset = dcmread(sys.argv[1])
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    options = {
        "rows": dataset.Rows, "columns": dataset.Columns, "samples_per_pixel": dataset.SamplesPerPixel,
        "photometric_interpretation": dataset.PhotometricInterpretation, "bits_allocated": dataset.BitsAllocated,
        "bits_stored": dataset.BitsStored, "pixel_representation": dataset.PixelRepresentation,
        "number_of_frames": 1, "planar_configuration": 0, "pixel_keyword": "PixelData",
    }
    with Decoders(dataset.file_meta.TransferSyntaxUID) as decoders:
        pixels, _ = decoders.decode(frame, options)
    print("_gdcm" in sys.modules, pixels.shape[:2] == (dataset.Rows, dataset.Columns))
"""


def test_gdcm_decodes_in_its_own_process_all_the_same(tmp_path):
    if _plugins(JPEG_LOSSLESS_SV1) != ["gdcm"]:
        pytest.skip("another decoder is installed")
    program = tmp_path / "decode.py"  # a file: a process that is spawned reads it once more
    program.write_text(DECODE)
    stored = get_testdata_file("SC_rgb_jpeg_gdcm.dcm")
    assert run(str(program), str(stored)) == "False True\n"
