"""What pydicom would load is kept out, and still works where it is needed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from backup_scp.transcode.decoders import DECODABLE, _plugins, can_decode

BEGIN = """
import sys
from backup_scp.light_imports import keep_out
keep_out()
"""


def run(*arguments: str) -> str:
    return subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True).stdout


LOOK = """
import pydicom, pynetdicom
from backup_scp import transcode
kept = "PIL gdcm _gdcm jpeg_ls libjpeg numpy openjpeg pylibjpeg requests rle".split()
print([name for name in kept if name in sys.modules])
"""


def test_neither_pydicom_nor_our_own_transcoding_brings_them_in():
    assert run("-c", BEGIN + LOOK) == "[]\n"


AT_ONCE = """
import json, threading
from concurrent.futures import ThreadPoolExecutor
from backup_scp.transcode.decoders import DECODABLE, _plugins, can_decode

sys.setswitchinterval(1e-6)
syntaxes = sorted(DECODABLE)
together = threading.Barrier(len(syntaxes))

def look(syntax):
    together.wait()
    return can_decode(syntax) and _plugins(syntax)

with ThreadPoolExecutor(len(syntaxes)) as pool:
    print(json.dumps(dict(zip(syntaxes, pool.map(look, syntaxes)))))
print("_gdcm" in sys.modules)
"""


def test_the_same_decoders_are_found_by_whoever_asks_first_and_gdcm_stays_out():
    found, gdcm = run("-c", BEGIN + AT_ONCE).splitlines()
    assert json.loads(found) == {syntax: can_decode(syntax) and _plugins(syntax) for syntax in DECODABLE}
    assert gdcm == "False"


LIKE_THE_REAL = """
import sys
import gdcm
real = gdcm.Version.GetVersion()
del sys.modules["gdcm"]
from backup_scp.light_imports import keep_out, let_in
keep_out()
let_in()
import gdcm
print(gdcm.__doc__.startswith("Says"), gdcm.Version.GetVersion() == real)
"""


def test_the_stand_in_says_what_gdcm_says():
    pytest.importorskip("gdcm")
    assert run("-c", LIKE_THE_REAL) == "True True\n"


LATE = """
import sys
import pydicom
from backup_scp.light_imports import keep_out
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


DECODE = """
if __name__ == "__main__":
    import hashlib
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
    print(pixels.shape[:2] == (dataset.Rows, dataset.Columns), hashlib.sha256(pixels.tobytes()).hexdigest())
    print("_gdcm" in sys.modules)
"""


@pytest.mark.parametrize(
    "name",
    [
        "MR_small_RLE.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "JPEG2000.dcm",
        "SC_rgb_jpeg_dcmtk.dcm",
        "SC_rgb_jpeg_gdcm.dcm",  # in a process of its own
    ],
)
def test_pixels_are_decoded_as_if_nothing_had_been_kept_out(tmp_path, name):
    stored = str(get_testdata_file(name))
    if not can_decode(dcmread(stored).file_meta.TransferSyntaxUID):
        pytest.skip("no decoder is installed")
    program = tmp_path / "decode.py"  # a file: a process that is spawned reads it once more
    program.write_text("import sys\n" + DECODE)
    expected = run(str(program), stored).splitlines()
    program.write_text(BEGIN.replace("\nkeep_out()", '\nif __name__ == "__main__": keep_out()') + DECODE)
    pixels, gdcm = run(str(program), stored).splitlines()
    assert pixels == expected[0]
    assert pixels.startswith("True ")
    assert gdcm == "False"
