"""Store Instances (PS3.18 10.5): what is stored, and what the caller is told."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from backup_scp.errors import ArchiveFull, ArchiveUnavailable
from tests.samples import dx, encode, odd_identities, pydicom_samples, structured_report, uid
from tests.web.stow.bodies import BOUNDARY, CONTENT_TYPE, body, joined, part

LARGE = dx(PixelData=bytes(3_000_000))  # too large for the journal: it gets a file of its own


def store(client, content, path="/studies", content_type=CONTENT_TYPE, **headers):
    return client.post(path, content=content, headers={"content-type": content_type, **headers})


def held(stored):
    try:
        return [stored.archive.read(location) for location in sorted(stored.archive.locations())]
    except ArchiveUnavailable:  # nothing was ever stored
        return []


def bytes_of(file):
    with file.data_set() as stream:
        return stream.read()


def staged(tmp_path):
    """Return the files in staging with bytes in them; empty ones and journals wait for images to come."""
    return [file.name for file in (tmp_path / "archive" / ".staging").rglob("*.dcm") if file.stat().st_size]


def test_the_bytes_are_those_that_came(web, stored):
    sample = encode(dx())
    answer = store(web, body(sample.file_bytes()))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/dicom+json"
    (file,) = held(stored)
    assert file.sha256 == sample.sha256
    assert bytes_of(file) == sample.data_set
    assert (file.arrival.service, file.arrival.calling_ae_title, file.arrival.address) == ("STOW-RS", "", "127.0.0.1")


def test_the_answer_names_each_image(web):
    samples = [encode(dx(number=number)) for number in (1, 2)]
    answer = store(web, body(*(sample.file_bytes() for sample in samples))).json()
    base = f"http://127.0.0.1:8042/dicom-web/studies/{uid('1')}"
    assert answer == {
        "00081190": {"vr": "UR", "Value": [base]},
        "00081199": {
            "vr": "SQ",
            "Value": [
                {
                    "00081150": {"vr": "UI", "Value": [sample.sop_class_uid]},
                    "00081155": {"vr": "UI", "Value": [sample.sop_instance_uid]},
                    "00081190": {
                        "vr": "UR",
                        "Value": [f"{base}/series/{uid('1', '1')}/instances/{sample.sop_instance_uid}"],
                    },
                }
                for sample in samples
            ],
        },
    }


def test_images_of_two_studies_have_no_common_url(web):
    answer = store(web, body(encode(dx()).file_bytes(), encode(dx(study="2")).file_bytes()))
    assert answer.status_code == 200
    assert set(answer.json()) == {"00081199"}


def test_an_image_that_is_held_is_success_again(web, stored):
    content = body(encode(dx()).file_bytes())
    assert [store(web, content).status_code for _ in range(2)] == [200, 200]
    assert len(held(stored)) == 1


def test_another_version_is_kept_beside_the_first(web, stored):
    for name in ("Before", "After"):
        assert store(web, body(encode(dx(PatientName=name)).file_bytes())).status_code == 200
    assert len(held(stored)) == 2


class TestStudyOfTheURL:
    def test_the_same(self, web, stored):
        assert store(web, body(encode(dx()).file_bytes()), f"/studies/{uid('1')}").status_code == 200
        assert len(held(stored)) == 1

    def test_another_one(self, web, stored, tmp_path):
        sample = encode(LARGE)
        answer = store(web, body(sample.file_bytes()), f"/studies/{uid('2')}")
        assert answer.status_code == 409
        (failed,) = answer.json()["00081198"]["Value"]
        assert failed["00081155"]["Value"] == [sample.sop_instance_uid]
        assert failed["00081197"]["Value"] == [0xA901]
        assert "another study" in answer.headers["warning"]
        assert (held(stored), staged(tmp_path)) == ([], [])

    def test_some(self, web, stored):
        samples = [encode(dx()), encode(dx(study="2"))]
        answer = store(web, body(*(sample.file_bytes() for sample in samples)), f"/studies/{uid('1')}")
        assert answer.status_code == 202
        assert set(answer.json()) == {"00081190", "00081198", "00081199"}
        assert [file.sha256 for file in held(stored)] == [samples[0].sha256]

    def test_no_uid(self, web):
        assert store(web, body(encode(dx()).file_bytes()), "/studies/..%2f..%2fetc").status_code in {400, 404}
        assert store(web, body(encode(dx()).file_bytes()), "/studies/1.2.x").status_code == 400


class TestWhatIsNoImage:
    def test_alone(self, web, stored):
        answer = store(web, body(b"GIF89a and so on"))
        assert (answer.status_code, answer.json()) == (
            409, {"0008119A": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [0xC000]}}]}},
        )  # fmt: skip
        assert held(stored) == []

    def test_among_images(self, web, stored):
        answer = store(web, body(b"", encode(dx()).file_bytes(), b"text", encode(dx(number=2)).file_bytes()))
        assert answer.status_code == 202
        assert len(answer.json()["0008119A"]["Value"]) == 2
        assert len(held(stored)) == 2

    def test_a_part_of_another_type(self, web, stored):
        parts = [part(encode(dx()).file_bytes(), "image/jpeg"), part(encode(dx(number=2)).file_bytes())]
        assert store(web, joined(parts)).status_code == 202
        assert len(held(stored)) == 1


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 415),
        ("application/dicom", 415),
        ("multipart/form-data; boundary=b", 415),
        ("multipart/related; boundary=b", 415),
        ('multipart/related; type="image/png"; boundary=b', 415),
        ('multipart/related; type="application/dicom"', 400),
        (f'multipart/related; type="application/dicom"; boundary="{"x" * 201}"', 400),
        ("nonsense", 400),
        ("", 400),
    ],
)
def test_what_media_types_are_taken(web, content_type, status):
    answer = store(web, body(encode(dx()).file_bytes()), content_type=content_type)
    assert answer.status_code == status
    assert answer.json()["detail"]


@pytest.mark.parametrize("written", [f"boundary={BOUNDARY}", f'boundary="{BOUNDARY}"', f"Boundary={BOUNDARY}"])
@pytest.mark.parametrize("root", ['type="application/dicom"', "type=application/dicom", "TYPE=Application/Dicom"])
def test_how_clients_write_the_media_type(web, written, root):
    content = body(encode(dx()).file_bytes())
    assert store(web, content, content_type=f"Multipart/Related; {root}; {written}").status_code == 200


def test_the_boundary_of_orthanc_is_longer_than_the_70_characters_of_rfc_2046(web):
    boundary = "-".join(["8a88511f-d6cb-4992-b258-a3e1b7d6eaac"] * 2)
    content = body(encode(dx()).file_bytes()).replace(BOUNDARY.encode(), boundary.encode())
    content_type = f'multipart/related; type="application/dicom"; boundary={boundary}'
    assert store(web, content, content_type=content_type).status_code == 200


def test_the_answer_as_xml(web):
    sample = encode(dx())
    content = body(sample.file_bytes(), b"text")
    answer = store(web, content, accept="application/dicom+xml")
    assert (answer.status_code, answer.headers["content-type"]) == (202, "application/dicom+xml")
    study = f"http://127.0.0.1:8042/dicom-web/studies/{uid('1')}"
    assert xml_of(answer) == {
        "RetrieveURL": [study, f"{study}/series/{uid('1', '1')}/instances/{sample.sop_instance_uid}"],
        "ReferencedSOPClassUID": [sample.sop_class_uid],
        "ReferencedSOPInstanceUID": [sample.sop_instance_uid],
        "FailureReason": ["49152"],
    }


def xml_of(answer) -> dict[str, list[str]]:
    """Return the values of all elements, by keyword."""
    found: dict[str, list[str]] = {}
    for element in ET.fromstring(answer.content).iter():
        found.setdefault(element.get("keyword", ""), []).extend(
            value.text or "" for value in element if value.tag.endswith("Value")
        )
    return {keyword: values for keyword, values in found.items() if values}


def test_only_json_and_xml_can_be_accepted(web, stored):
    assert store(web, body(encode(dx()).file_bytes()), accept="image/png").status_code == 406
    assert held(stored) == []


def test_a_body_without_parts(web):
    assert store(web, joined([])).status_code == 400
    assert store(web, b"").status_code == 400


def test_without_its_closing_boundary_a_part_may_be_incomplete(web, stored, tmp_path):
    sample = encode(LARGE)
    answer = store(web, part(sample.file_bytes()))
    assert (answer.status_code, "closing boundary" in answer.json()["detail"]) == (400, True)
    assert (held(stored), staged(tmp_path)) == ([], [])


def test_what_came_wholly_before_is_stored_and_told(web, stored):
    answer = store(web, part(encode(dx()).file_bytes()) + part(encode(dx(number=2)).file_bytes()))
    assert (answer.status_code, set(answer.json())) == (202, {"00081190", "00081199", "0008119A"})
    assert "closing boundary" in answer.headers["warning"]
    assert len(held(stored)) == 1


def test_preamble_and_epilogue_are_no_parts(web, stored):
    content = b"This is a message\r\n" + body(encode(dx()).file_bytes()) + b"That was it"
    assert store(web, content).status_code == 200
    assert len(held(stored)) == 1


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_every_transfer_syntax(web, stored, syntax):
    sample = encode(structured_report(), syntax)
    assert store(web, body(sample.file_bytes())).status_code == 200
    (file,) = held(stored)
    assert (file.heading.transfer_syntax_uid, file.sha256) == (syntax, sample.sha256)


def test_an_image_of_many_chunks(web, stored):
    sample = encode(dx(PixelData=bytes(range(256)) * 12_000 + b"\r\n--" + BOUNDARY.encode()[:-1] + b"\r\n"))
    content = body(sample.file_bytes())
    chunks = (content[start : start + 70_001] for start in range(0, len(content), 70_001))
    assert store(web, chunks).status_code == 200
    (file,) = held(stored)
    assert bytes_of(file) == sample.data_set


@pytest.mark.parametrize("step", [1, 7, 64])
def test_a_boundary_is_found_wherever_chunks_end(web, stored, step):
    content = body(*(encode(dx(number=number)).file_bytes() for number in (1, 2)))
    assert store(web, (content[at : at + step] for at in range(0, len(content), step))).status_code == 200
    assert len(held(stored)) == 2


def test_the_samples_are_stored_byte_for_byte(web, stored):
    samples = {sample.sha256: sample for sample in (*pydicom_samples(), *odd_identities())}
    answer = store(web, body(*(sample.file_bytes() for sample in samples.values())))
    found = {file.sha256: bytes_of(file) for file in held(stored)}
    assert found == {sha256: sample.data_set for sha256, sample in samples.items()}
    assert (answer.status_code, len(answer.json()["00081199"]["Value"])) == (200, len(samples))


class TestArchive:
    @pytest.mark.parametrize(("error", "status"), [(ArchiveFull("Full"), 507), (ArchiveUnavailable("Away"), 503)])
    def test_that_takes_nothing(self, web, stored, monkeypatch, error, status):
        monkeypatch.setattr(type(stored.archive), "stage", lambda *_: (_ for _ in ()).throw(error))
        answer = store(web, body(encode(dx()).file_bytes()))
        assert (answer.status_code, answer.json()["detail"]) == (status, str(error))

    def test_that_becomes_full(self, web, stored, monkeypatch):
        stage, calls = stored.archive.stage, []

        def stage_once(heading):
            calls.append(heading)
            if len(calls) > 1:
                raise ArchiveFull("Full")
            return stage(heading)

        monkeypatch.setattr(stored.archive, "stage", stage_once)
        answer = store(web, body(*(encode(dx(number=number)).file_bytes() for number in (1, 2))))
        assert answer.status_code == 202
        (failed,) = answer.json()["00081198"]["Value"]
        assert failed["00081197"]["Value"] == [0xA700]
