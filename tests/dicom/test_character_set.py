"""Specific Character Set: the examples of PS3.5 Annexes H to K, and the mistakes of senders."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup_scp.dicom.character_set import DEFAULT, UTF_8, choose, decode, encode, encode_all, parse

# (0008,0005), bytes, text
EXAMPLES = {
    "H.3.1": (
        "\\ISO 2022 IR 87",
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
    ),
    "H.3.2": (
        "ISO 2022 IR 13\\ISO 2022 IR 87",
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    ),
    "I.2": (
        "\\ISO 2022 IR 149",
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
        "Hong^Gildong=洪^吉洞=홍^길동",
    ),
    "J.1": ("ISO_IR 192", "Wang^XiaoDong=王^小東=".encode(), "Wang^XiaoDong=王^小東="),
    "J.3": ("GB18030", b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab=", "Wang^XiaoDong=王^小东="),
    "J.4": ("GBK", b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab=", "Wang^XiaoDong=王^小东="),
    "K.2": (
        "\\ISO 2022 IR 58",
        b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=",
        "Zhang^XiaoDong=张^小东=",
    ),
    "Greek": ("ISO_IR 126", b"\xc4\xe9\xef\xed\xf5\xf3\xe9\xef\xf2", "Διονυσιος"),
    "Russian": ("ISO_IR 144", b"\xbb\xee\xdace\xdc\xd1yp\xd3", "Люкceмбypг"),
    "Arabic": ("ISO_IR 127", b"\xe2\xc8\xc7\xe6\xea^\xe4\xe6\xd2\xc7\xd1", "قباني^لنزار"),
    "Hebrew": ("ISO_IR 138", b"\xf9\xf8\xe5\xef^\xe3\xe1\xe5\xf8\xe4", "שרון^דבורה"),
    "Thai": ("ISO_IR 166", b"\xca\xc1\xaa\xd2\xc2^\xe3\xa8\xb4\xd5", "สมชาย^ใจดี"),
    "Turkish": ("ISO_IR 148", b"\xddnan\xe7^\xde\xfckr\xfc", "İnanç^Şükrü"),
    "Latin-1": ("ISO_IR 100", b"\xc4neas^R\xfcdiger", "Äneas^Rüdiger"),
    "Latin-2": ("ISO_IR 101", b"Wa\xb3\xeasa", "Wałęsa"),
    "Latin-3": ("ISO_IR 109", b"\xd5or\xf5^\xa1al", "Ġorġ^Ħal"),
    "Latin-4": ("ISO_IR 110", b"B\xbarzi\xf1\xb9^J\xe0nis", "Bērziņš^Jānis"),
    "Latin-9": ("ISO_IR 203", b"\xbduvre \xa4", "œuvre €"),
    "katakana": ("ISO_IR 13", b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3", "ﾔﾏﾀﾞ^ﾀﾛｳ"),
    "Latin-1 and Greek": (
        "ISO 2022 IR 100\\ISO 2022 IR 126",
        b"Buc^J\xe9r\xf4me=\x1b-F\xc4\xe9\x1b-A^\xe9",
        "Buc^Jérôme=Δι^é",
    ),
    "JIS X 0212": ("\\ISO 2022 IR 87\\ISO 2022 IR 159", b"\x1b$(D0!\x1b$B;3\x1b(B", "丂山"),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_decode(name):
    character_set, data, text = EXAMPLES[name]
    assert decode(data, parse(character_set), "PN") == text


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_encode_to_the_same_bytes_in_the_requesters_set(name):
    character_set, data, text = EXAMPLES[name]
    assert encode(text, parse(character_set)) == (data, character_set)


@pytest.mark.parametrize(
    ("character_set", "text"),
    [
        ("\\ISO 2022 IR 87", "Yamada^Taro=予宮^太郎=よ"),  # 予 is 4D 3D, 宮 is 35 5C
        ("ISO 2022 IR 13\\ISO 2022 IR 87", "ﾔﾏﾀﾞ=高^予"),
        ("GBK", "乗傓^乛"),
        ("GB18030", "乗傓^乛𠮷"),
    ],
)
def test_characters_that_contain_the_bytes_of_delimiters(character_set, text):
    data, chosen = encode(text, parse(character_set))
    assert chosen == character_set
    assert any(data.count(delimiter) > text.count(delimiter.decode()) for delimiter in (b"=", b"\\", b"^"))
    assert decode(data, parse(chosen), "PN") == text


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("ISO-IR 100", "ISO_IR 100"),
        ("ISO IR 100", "ISO_IR 100"),
        ("ISO_IR_100", "ISO_IR 100"),
        ("iso_ir 100 ", "ISO_IR 100"),
        ("ISO 8859-1", "ISO_IR 100"),
        ("ISO8859-5", "ISO_IR 144"),
        ("utf-8", "ISO_IR 192"),
        ("ISO 2022 IR 192", "ISO_IR 192"),
        ("GB 18030", "GB18030"),
        ("ISO 2022 GBK", "GBK"),
        ("ISO 2022 58", "\\ISO 2022 IR 58"),
        ("ISO_IR 13\\ISO 2022-IR 87", "ISO 2022 IR 13\\ISO 2022 IR 87"),
        ("ISO_IR 149", "\\ISO 2022 IR 149"),
        ("ISO_IR 192\\ISO 2022 IR 87", "ISO_IR 192"),
        ("ISO_IR 100\\GBK", "ISO 2022 IR 100"),
        ("ISO_IR 100\0old", "ISO_IR 100"),
        ("\0", ""),
        ("\\ISO 2022 IR 87\0x", "\\ISO 2022 IR 87"),
        ("ISO_IR 999", ""),
        ("KOI8-R", ""),
        ("", ""),
        ("\\" * 200, ""),
    ],
)
def test_wrongly_written_names_are_understood(wrong, right):
    assert parse(wrong).value == right
    assert parse(wrong.encode()).value == right


@pytest.mark.parametrize(
    ("character_set", "data", "text"),
    [
        pytest.param("", b"M\xfcller", "Müller", id="none, Latin-1"),
        pytest.param("", "Müller 王".encode(), "Müller 王", id="none, UTF-8"),
        pytest.param("ISO_IR 6", b"M\xfcller", "Müller", id="ASCII, Latin-1"),
        pytest.param("ISO_IR 999", "Łódź".encode(), "Łódź", id="unknown name"),
        pytest.param("ISO_IR 192", b"M\xfcller^Andr\xe9", "Müller^André", id="UTF-8 that is Latin-1"),
        pytest.param("ISO_IR 100", "Müller^Łucja".encode(), "Müller^Łucja", id="Latin-1 that is UTF-8"),
        pytest.param("ISO_IR 100", b"M\xfcller^\xc3\xa9\xe9", "Müller^Ã©é", id="Latin-1 that is no UTF-8"),
        pytest.param("\\ISO 2022 IR 100", b"M\xfcller", "Müller", id="Latin-1 as the second value"),
        pytest.param("\\ISO_IR 144", b"\xbb\xee\xda", "Люк", id="Cyrillic as the second value"),
        pytest.param("", b"\x1b$B;3ED\x1b(B", "山田", id="escape sequences without declaration"),
        pytest.param("\\ISO 2022 IR 149", b"\xfb\xf3^\xd1\xce\xd4\xd7", "洪^吉洞", id="no escape sequence"),
        pytest.param("\\ISO 2022 IR 149", b"\x1b$)C\xfb\xf3^\xd1\xce\xd4\xd7", "洪^吉洞", id="not repeated after ^"),
        pytest.param("\\ISO 2022 IR 87", b"\x1b$B;3ED^\x1b$BB@O:\x1b(B", "山田^太郎", id="ASCII forgotten before ^"),
        pytest.param("ISO 2022 IR 149", b"\xfb\xf3", "洪", id="multi-byte set as value 1"),
        pytest.param("ISO_IR 138", b"\xbf\xf9", "\ufffdש", id="undefined byte"),
        pytest.param("ISO_IR 13", b"\x80\xc0", "\ufffdﾀ", id="undefined byte of JIS X 0201"),
        pytest.param("ISO_IR 13", b"\x7f\x80\xa0\xa1\xdf\xe0", "\x7f\ufffd\ufffd｡ﾟ\ufffd", id="the ends of JIS X 0201"),
        pytest.param("ISO_IR 13", b"\xca\xdf^\xcb\xdf", "ﾊﾟ^ﾋﾟ", id="the half-width semi-voiced mark"),
        pytest.param(
            "\\ISO 2022 IR 87\\ISO 2022 IR 149",
            b"\x1b$)C\xfb\xf3^\xd1\xce",
            "洪^吉",
            id="first set in G0 only, G1 kept",
        ),
        pytest.param("\\ISO 2022 IR 87", b"\x1b$B\x7e\x30;3\x1b(B", "\ufffd山", id="undefined pair"),
        pytest.param("\\ISO 2022 IR 87", b"\x1b$B;3 \x21\x21ED\x1b(B", "山 \u3000田", id="blanks of both widths"),
        pytest.param(
            "ISO 2022 IR 13\\ISO 2022 IR 87",
            b"\x1b$B;3 \xd4;3\x7f\xcf\x1b(B",
            "山 ﾔ山\x7fﾏ",
            id="katakana among pairs, after a blank and a control",
        ),
        pytest.param(
            "\\ISO 2022 IR 149\\ISO 2022 IR 58",
            b"\x1b$)A\xd5\xc5^\xd0\xa1",
            "张^小",
            id="of two sets the designated one",
        ),
        pytest.param("GB18030", b"\xcd", "\ufffd", id="cut off"),
    ],
)
def test_wrong_bytes_decode_to_something_useful(character_set, data, text):
    assert decode(data, parse(character_set), "PN") == text


def test_a_delimiter_brings_back_the_initial_state():
    declared = parse("ISO 2022 IR 100\\ISO 2022 IR 126")
    name = b"\x1b-F\xc4^\xc4"
    assert decode(name, declared, "PN") == "Δ^Ä"
    assert decode(name, declared, "LO") == "Δ^Δ"  # ^ is no delimiter there
    assert decode(b"\x1b-F\xc4\\\xc4", declared, "LO") == "Δ\\Ä"
    assert decode(b"\x1b-F\xc4\\\xc4", declared, "LT") == "Δ\\Δ"
    assert decode(b"\x1b-F\xc4\r\n\xc4", declared, "LT") == "Δ\r\nÄ"


def test_korean_text_repeats_its_escape_sequence_on_each_line():
    declared = parse("\\ISO 2022 IR 149")
    text = "첫 줄\r\n둘째 줄 end\r\n"
    data, name = encode(text, declared)
    assert data.count(b"\x1b$)C") == 2
    assert decode(data, parse(name), "LT") == text


@pytest.mark.parametrize("preferred", ["", "ISO_IR 6", "ISO_IR 100", "\\ISO 2022 IR 149", "ISO_IR 999"])
def test_what_the_requesters_set_cannot_hold_is_utf_8(preferred):
    assert encode("山田𠮷", parse(preferred)) == ("山田𠮷".encode(), UTF_8)


@pytest.mark.parametrize("preferred", ["", "ISO_IR 100", "ISO_IR 192", "GB18030"])
def test_ascii_needs_no_character_set(preferred):
    assert encode("Doe^John", parse(preferred)) == (b"Doe^John", "")


def test_one_data_set_has_one_character_set():
    texts = ["Äneas", "Doe", "山田"]
    assert encode_all(texts, parse("ISO_IR 100")) == ([text.encode() for text in texts], UTF_8)
    assert encode_all(texts[:2], parse("ISO-IR 100")) == ([b"\xc4neas", b"Doe"], "ISO_IR 100")
    assert choose([], parse("ISO_IR 100")) is DEFAULT


def test_half_width_katakana_are_no_part_of_jis_x_0208():
    assert encode("ﾔﾏﾀﾞ", parse("\\ISO 2022 IR 87")) == ("ﾔﾏﾀﾞ".encode(), UTF_8)


def test_the_tilde_of_jis_x_0212_is_no_ascii():
    assert decode(b"\x1b$(D\x22\x37\x1b(B", parse("\\ISO 2022 IR 159")) == "\uff5e"


def test_the_way_of_reading_what_is_no_utf_8_is_not_one_of_writing():
    with pytest.raises(UnicodeEncodeError):
        "ß".encode("ascii", "backup_scp.latin_1")


def test_a_lone_surrogate_does_not_stop_an_answer():
    assert encode("\ud800", parse("ISO_IR 100")) == (b"?", UTF_8)


NAMES = sorted({character_set for character_set, _, _ in EXAMPLES.values()})


@given(st.sampled_from(NAMES), st.binary(max_size=80), st.sampled_from(["PN", "LO", "LT"]))
def test_decoding_never_raises(character_set, data, vr):
    assert isinstance(decode(data, parse(character_set), vr), str)


@given(st.binary(max_size=300))
def test_any_name_is_read(name):
    assert decode(b"A^B", parse(name), "PN") == "A^B"


ALPHABET = "aZ ~^=\\\r\n\tÄéßŁΔישжสﾔ山田予宮洪홍길王东小丂€"


@given(st.sampled_from(["", *NAMES]), st.text(ALPHABET), st.sampled_from(["PN", "LO", "LT"]))
def test_what_is_encoded_decodes_again(preferred, text, vr):
    data, name = encode(text, parse(preferred))
    assert decode(data, parse(name), vr) == text
    assert parse(name).value == name
