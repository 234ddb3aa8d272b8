"""What a receipt says in each of its forms."""

from __future__ import annotations

import io
import json
import tracemalloc

import pypdf
import pytest

from backup_scp.receipts import pdf_fonts
from backup_scp.receipts.json_receipt import write_json
from backup_scp.receipts.pdf_receipt import MOST_ROWS, write_pdf
from backup_scp.receipts.text_receipt import write_text
from tests.receipts.examples import NAMES, receipt


def written(write, *arguments, **more):
    stream = io.BytesIO()
    write(receipt(*arguments, **more), stream)
    return stream.getvalue()


def pages(*arguments, **more):
    reader = pypdf.PdfReader(io.BytesIO(written(write_pdf, *arguments, **more)))
    return [page.extract_text() for page in reader.pages]


class TestText:
    def test_everything_is_there(self):
        lines = written(write_text, problems=["One is missing"]).decode().splitlines()
        assert lines[0] == "Receipt of a test"
        assert "All is there." in lines
        assert "Images sent  1,234,567" in lines
        assert "- One is missing" in lines
        assert [line.split("  ")[0] for line in lines if "1,00" in line] == list(NAMES)
        assert "Signature: ____" in lines[-1]
        assert not any("1.2.1000" in line for line in lines), "for JSON only"

    def test_wide_characters_take_two_columns(self):
        lines = written(write_text, ["A", "山田"]).decode().splitlines()
        a, yamada = (next(line for line in lines if line.startswith(name)) for name in ("A ", "山田"))
        assert len(a) - len(yamada) == 2

    def test_foreign_text_ends_no_line_and_controls_no_terminal(self):
        text = written(write_text, ["A\n- B\x1b[31m"], problems=["C\r\nD"]).decode()
        assert "A\ufffd- B\ufffd[31m" in text
        assert "C\ufffd\ufffdD" in text


class TestJSON:
    def test_everything_is_there(self):
        found = json.loads(written(write_json, complete=False, problems=["One is missing"]))
        assert (found["title"], found["complete"], found["problems"]) == (
            "Receipt of a test",
            False,
            ["One is missing"],
        )
        assert found["facts"] == {"from": "BACKUP_SCP", "images_sent": 1234567}
        assert [row["patient_name"] for row in found["rows"]] == list(NAMES)
        assert found["rows"][0] == {"patient_name": NAMES[0], "images": 1000, "uid": "1.2.1000"}

    def test_without_rows(self):
        assert json.loads(written(write_json, []))["rows"] == []


class TestPDF:
    def test_everything_is_there_in_all_scripts(self):
        (page,) = pages(problems=["One is missing: <i>"])
        text = page.replace("\n", "")
        for each in ("Receipt of a test", "All is there.", "1,234,567", "One is missing: <i>", "Signature", *NAMES):
            assert each in text
        assert "1.2.1000" not in text

    def test_names_of_right_to_left_scripts_are_set_from_right_to_left(self):
        fonts = pdf_fonts.Fonts()
        assert fonts.markup("כהן^דוד") == "כהן^דוד"[::-1]
        assert fonts.markup("Cohen=כהן^דוד=X") == f"Cohen={'כהן^דוד'[::-1]}=X"

    def test_what_only_the_viewer_has_a_font_for_is_told(self, monkeypatch):
        monkeypatch.setattr(pdf_fonts, "_FOLDERS", ())
        (page,) = pages(["Иванов", "山田", "\U00010380"])
        assert "Иванов" in page, "in a font of the viewer"
        assert "山田" in page
        assert "?" in page
        assert "no font for some of its characters" in page

    def test_of_what_has_a_font_nothing_is_told(self):
        assert "no font" not in pages(["Müller"])[0]

    def test_a_font_file_that_is_damaged_is_left_out(self, monkeypatch, tmp_path):
        (tmp_path / "DejaVuSans.ttf").write_bytes(b"\0\1\0\0" + bytes(100))
        monkeypatch.setattr(pdf_fonts, "_FOLDERS", (str(tmp_path),))
        assert "Müller" in pages(["Müller"])[0]

    def test_a_long_table_has_its_heading_on_each_page(self):
        found = pages(["Doe^John"] * 200)
        assert len(found) > 2
        assert all("Patient's name" in page for page in found[:-1])
        assert all(f"page {number}" in page for number, page in enumerate(found, 1))

    @pytest.mark.timeout(300)
    def test_a_very_long_one_ends_with_a_count(self):
        found = pages(["A"] * (MOST_ROWS + 7))
        assert "And 7 further rows" in found[-1]
        assert sum(page.count("A\n") for page in found) >= MOST_ROWS


@pytest.mark.parametrize("write", [write_text, write_json])
def test_memory_does_not_grow_with_the_rows(write):
    class Nowhere(io.RawIOBase):
        def writable(self):
            return True

        def write(self, data):
            return len(data)

    peaks = {}
    for count in (1000, 20_000):
        tracemalloc.start()
        try:
            write(receipt("Doe^John" for _ in range(count)), Nowhere())
            _, peaks[count] = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peaks[20_000] < 2 * peaks[1000]
