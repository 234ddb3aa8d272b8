"""QIDO-RS: one test for each sentence of PS3.18 8.3.4 and 10.6 that we claim."""

from __future__ import annotations

import pytest

from backup_scp.dicom.attributes import Level
from backup_scp.web.dicomweb.qido.parameters import read_search
from backup_scp.web.problems import Problem
from tests.samples import dx, encode
from tests.stored import stored_in
from tests.web.conftest import BASE, client_of
from tests.web.qido import found, put_studies, value


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    with stored_in(tmp_path_factory.mktemp("qido")) as stored:
        put_studies(stored)
        yield stored


@pytest.fixture
def web(archive):
    return client_of(archive)


STUDY = {"00080005", "00080020", "00080030", "00080050", "00080056", "00080061", "00080090", "00081190", "00100010",
         "00100020", "00100030", "00100040", "0020000D", "00200010", "00201206", "00201208"}  # fmt: skip
SERIES = {"00080005", "00080056", "00080060", "0008103E", "00081190", "0020000D", "0020000E", "00200011",
          "00201209", "00400244", "00400245", "00400275"}  # fmt: skip
INSTANCE = {"00080005", "00080016", "00080018", "00080056", "00081190", "00083002", "0020000D", "0020000E",
            "00200013", "00280010", "00280011", "00280100"}  # fmt: skip


class TestResources:
    """10.6.1.1, Table 10.6.1-2."""

    @pytest.mark.parametrize(
        ("path", "uids"),
        [
            ("/studies", ["1.2", "1.1"]),
            ("/studies/1.1/series", ["1.1.1", "1.1.2"]),
            ("/studies/1.1/instances", ["1.1.1.1", "1.1.1.2", "1.1.2.1"]),
            ("/studies/1.1/series/1.1.1/instances", ["1.1.1.1", "1.1.1.2"]),
            ("/series", ["1.1.1", "1.1.2", "1.2.1"]),
            ("/instances", ["1.1.1.1", "1.1.1.2", "1.1.2.1", "1.2.1.1"]),
            ("/studies/9/series", []),
            ("/studies/1.2/series/1.1.1/instances", []),
        ],
    )
    def test_what_is_searched(self, web, path, uids):
        assert sorted(found(web, path)) == sorted(uids)

    @pytest.mark.parametrize("path", ["/studies/1.1%5C1.2/series", "/studies/1.1,1.2/series", "/studies/*/series"])
    def test_the_path_has_one_uid(self, web, path):
        assert web.get(path).status_code == 400

    def test_head_has_no_body(self, web):
        answer = web.head("/studies")
        assert (answer.status_code, answer.content) == (200, b"")


class TestMatching:
    """8.3.4.1; PS3.4 C.2.2.2."""

    @pytest.mark.parametrize(
        ("query", "uids"),
        [
            ("PatientID=P1", ["1.1"]),
            ("00100020=P1", ["1.1"]),
            ("patientid=P1", None),
            ("0010,0020=P1", None),
            ("PatientID=", ["1.2", "1.1"]),
            ("PatientID=*", ["1.2", "1.1"]),
            ("PatientID=P?", ["1.2", "1.1"]),
            ("PatientID=Q*", []),
            ("PatientName=M%C3%BCller*", ["1.1"]),
            ("PatientName=m%C3%9CLLER%5EJ%C3%B6rg", ["1.1"]),
            ("PatientName=*J%C3%B6rg*", ["1.1"]),
            ("PatientName=muller*", ["1.1"]),
            ("AccessionNumber=A%2C1", ["1.1"]),
            ("AccessionNumber=A,1", ["1.1"]),
            ("StudyDescription=Thorax+in+2+Ebenen", ["1.1"]),
            ("StudyDescription=Thorax%20in*", ["1.1"]),
            ("StudyDate=20240131", ["1.1"]),
            ("StudyDate=20240131-20240201", ["1.2", "1.1"]),
            ("StudyDate=-20240131", ["1.1"]),
            ("StudyDate=20240201-", ["1.2"]),
            ("StudyTime=0900-0959", ["1.2"]),
            ("StudyInstanceUID=1.1", ["1.1"]),
            ("StudyInstanceUID=1.1,1.2", ["1.2", "1.1"]),
            ("StudyInstanceUID=1.1%5C1.2,9", ["1.2", "1.1"]),
            ("ModalitiesInStudy=CR", ["1.1"]),
            ("SOPClassesInStudy=1.2.840.10008.5.1.4.1.1.1.1", ["1.2", "1.1"]),
            ("NumberOfStudyRelatedInstances=3", ["1.1"]),
            ("PatientID=P1&StudyDate=20240201", []),
        ],
    )
    def test_studies(self, web, query, uids):
        if uids is None:
            assert web.get(f"/studies?{query}").status_code == 400
        else:
            assert found(web, f"/studies?{query}") == uids

    @pytest.mark.parametrize(
        ("path", "uids"),
        [
            ("/series?Modality=CR", ["1.1.2"]),
            ("/series?StudyInstanceUID=1.1&SeriesNumber=1", ["1.1.1"]),
            ("/series?PatientID=P2", ["1.2.1"]),
            ("/instances?SOPInstanceUID=1.1.1.1,1.2.1.1", ["1.1.1.1", "1.2.1.1"]),
            ("/instances?Rows=32", ["1.1.1.1", "1.1.1.2", "1.1.2.1", "1.2.1.1"]),
            ("/studies/1.1/instances?InstanceNumber=2", ["1.1.1.2"]),
            ("/studies/1.1/instances?Modality=CR", ["1.1.2.1"]),
            ("/studies/1.1/series?StudyInstanceUID=1.1&Modality=CR", ["1.1.2"]),
        ],
    )
    def test_series_and_instances(self, web, path, uids):
        assert sorted(found(web, path)) == uids

    @pytest.mark.parametrize(
        ("query", "uids"),
        [
            ("RequestAttributesSequence.ScheduledProcedureStepID=SPS1", ["1.1.2"]),
            ("00400275.00400009=SPS1", ["1.1.2"]),
            ("00400275.RequestedProcedureID=RP*", ["1.1.2"]),
            ("00400275.00400009=SPS1&RequestAttributesSequence.RequestedProcedureID=RP1", ["1.1.2"]),
            ("00400275.00400009=SPS1&RequestAttributesSequence.RequestedProcedureID=RP2", []),  # of two items
            ("RequestAttributesSequence=", ["1.1.1", "1.1.2", "1.2.1"]),
        ],
    )
    def test_sequences_by_dotted_path(self, web, query, uids):
        assert sorted(found(web, f"/series?{query}")) == uids

    def test_only_the_items_that_match_are_returned(self, web):
        (result,) = web.get("/series?00400275.00400009=SPS2").json()
        assert result["00400275"]["Value"] == [{"00400009": {"vr": "SH", "Value": ["SPS2"]}}]


class TestKindsOfMatching:
    """8.3.4.2, 8.3.4.5, 8.3.4.6."""

    @pytest.mark.parametrize(
        ("query", "uids"),
        [
            ("PatientName=j%C3%B6rg+m%C3%BCl&fuzzymatching=true", ["1.1"]),
            ("PatientName=j%C3%B6rg+m%C3%BCl&fuzzymatching=false", []),
            ("PatientName=jorg&fuzzymatching=true", ["1.1"]),
            ("PatientName=jorg", []),
            ("PatientName=org&fuzzymatching=true", []),
            ('StudyDescription=""&emptyvaluematching=true', ["1.2"]),
            ('StudyDescription=""', []),
            ("ModalitiesInStudy=CR%5CDX&multiplevaluematching=true", ["1.1"]),
            ("ModalitiesInStudy=CR%5CDX", ["1.2", "1.1"]),
        ],
    )
    def test_when_they_are_asked_for(self, web, query, uids):
        assert found(web, f"/studies?{query}") == uids

    @pytest.mark.parametrize("name", ["fuzzymatching", "emptyvaluematching", "multiplevaluematching"])
    def test_true_or_false(self, web, name):
        assert web.get(f"/studies?{name}=TRUE").status_code == 200
        assert web.get(f"/studies?{name}=yes").status_code == 400

    def test_times_in_the_zone_of_the_request(self, web, archive):
        query = "StudyInstanceUID=1.1&TimezoneOffsetFromUTC=%2B0200&StudyDate=20240131"
        (result,) = web.get(f"/studies?{query}").json()
        assert value(result, "00080201") == "+0200"
        assert web.get("/studies?TimezoneOffsetFromUTC=+0200").status_code == 200  # a plus sign as browsers send it
        assert web.get("/studies?TimezoneOffsetFromUTC=nonsense").status_code == 400


class TestRefused:
    """What is not understood is 400, and says why."""

    @pytest.mark.parametrize(
        ("query", "words"),
        [
            ("Nonsense=1", "Nonsense is neither"),
            ("00000000=1", "not searched by"),
            ("00091001=1", "not searched by"),
            ("ReasonForStudy=x", "not searched by"),
            ("Modality=CR", "ModalitiesInStudy"),
            ("InstanceNumber=1", "describes instances"),
            ("InstanceAvailability=ONLINE", "only returned"),
            ("RetrieveURL=x", "only returned"),
            ("PatientID=P1&PatientID=P1", "stands twice"),
            ("PatientID=P1&00100020=P2", "stands twice"),
            ("StudyInstanceUID=1&StudyInstanceUID=2", "with commas"),
            ("PatientID", "no NAME=VALUE"),
            ("=P1", "no NAME=VALUE"),
            ("PatientName=%FF", "not UTF-8"),
            ("PatientName=%00", "control character"),
            ("PatientID.StudyInstanceUID=1", "no sequence"),
            ("limit=-1", "whole number"),
            ("limit=x", "whole number"),
            ("limit=", "whole number"),
            ("limit=1&limit=2", "stands twice"),
            ("limit=" + "9" * 30, "whole number"),
            ("offset=-1", "whole number"),
            ("includefield=Nonsense", "Nonsense is neither"),
            ("includefield=", "neither"),
        ],
    )
    def test_studies(self, web, query, words):
        answer = web.get(f"/studies?{query}")
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"
        assert words in answer.json()["detail"]

    @pytest.mark.parametrize(
        "query",
        ["RequestAttributesSequence=x", "RequestAttributesSequence.PatientID=1", "00400275.00400009.00400009=1",
         "00400275.00400009=1&00400275.00400009=2", "Rows=x"],
    )  # fmt: skip
    def test_series_and_instances(self, web, query):
        assert web.get(f"/instances?{query}").status_code == 400

    def test_a_query_that_is_too_long(self):
        with pytest.raises(Problem) as raised:
            read_search(b"StudyInstanceUID=" + b"1," * 200_000, Level.STUDY, {})
        assert raised.value.status == 414

    def test_many_uids(self, web):
        assert found(web, f"/instances?SOPInstanceUID={'9.9.9,' * 10_000}1.1.1.1") == ["1.1.1.1"]

    def test_no_value_of_a_patient_is_repeated(self, web):
        assert "Doe" not in web.get("/studies?Doe%5EJane=1").text


class TestPages:
    """8.3.4.4."""

    def test_limit_and_offset(self, web):
        every = found(web, "/instances?limit=100")
        assert len(every) == 4
        pages = [found(web, f"/instances?limit=1&offset={number}") for number in range(5)]
        assert [uid for page in pages for uid in page] == every
        assert found(web, "/instances?offset=3") == every[3:]

    @pytest.mark.parametrize(("query", "remaining"), [("limit=1", 3), ("limit=3", 1), ("limit=2&offset=1", 1)])
    def test_a_cut_result_says_so(self, web, query, remaining):
        warning = web.get(f"/instances?{query}").headers["warning"]
        assert warning == f'299 {BASE} "There are {remaining} additional results that can be requested"'

    @pytest.mark.parametrize("query", ["", "limit=4", "limit=5", "offset=3", "limit=1&offset=3", "limit=5000"])
    def test_a_whole_one_does_not(self, web, query):
        assert "warning" not in web.get(f"/instances?{query}").headers

    def test_a_limit_of_nothing(self, web):
        answer = web.get("/studies?limit=0")
        assert (answer.status_code, answer.content) == (204, b"")
        assert "There are 2" in answer.headers["warning"]

    def test_a_large_limit_counts_before_it_sends(self, web, monkeypatch):
        monkeypatch.setattr("backup_scp.web.dicomweb.qido.searching._MOST_HELD", 1)
        answer = web.get("/instances?limit=3")
        assert (len(answer.json()), "There are 1" in answer.headers["warning"]) == (3, True)

    def test_many_behind_are_not_all_counted(self, web, monkeypatch):
        monkeypatch.setattr("backup_scp.web.dicomweb.qido.searching.MOST_COUNTED", 2)
        assert "There are 2 or more" in web.get("/instances?limit=1").headers["warning"]


class TestResults:
    """10.6.3.3."""

    @pytest.mark.parametrize(
        ("path", "tags"),
        [
            ("/studies", STUDY),
            ("/studies/1.1/series", SERIES),
            ("/series", STUDY | SERIES),
            ("/studies/1.1/series/1.1.1/instances", INSTANCE),
            ("/studies/1.1/instances", SERIES | INSTANCE),
            ("/instances", STUDY | SERIES | INSTANCE),
        ],
    )
    def test_what_each_has(self, web, path, tags):
        for result in web.get(path).json():
            assert set(result) == tags
            assert list(result) == sorted(result)

    def test_values(self, web):
        result = web.get("/studies?StudyInstanceUID=1.1").json()[0]
        assert result["00100010"] == {"vr": "PN", "Value": [{"Alphabetic": "Müller^Jörg"}]}
        assert result["00080061"] == {"vr": "CS", "Value": ["CR", "DX"]}
        assert result["00201208"] == {"vr": "IS", "Value": [3]}
        assert result["00081190"] == {"vr": "UR", "Value": [f"{BASE}/studies/1.1"]}
        assert result["00080005"] == {"vr": "CS", "Value": ["ISO_IR 192"]}
        assert result["00080056"] == {"vr": "CS", "Value": ["ONLINE"]}

    def test_urls_and_transfer_syntax(self, web):
        series = web.get("/studies/1.1/series").json()[0]
        assert value(series, "00081190") == f"{BASE}/studies/1.1/series/1.1.1"
        instance = web.get("/studies/1.1/instances").json()[0]
        assert value(instance, "00081190") == f"{BASE}/studies/1.1/series/1.1.1/instances/1.1.1.1"
        assert value(instance, "00083002") == "1.2.840.10008.1.2.1"

    def test_what_the_query_names_is_returned_also_without_a_value(self, web):
        query = "PatientAge=&includefield=PatientComments,00101020&includefield=TimezoneOffsetFromUTC"
        for result in web.get(f"/studies?{query}").json():
            assert set(result) == STUDY | {"00101010", "00104000", "00101020", "00080201"}
            assert result["00104000"] == {"vr": "LT"}

    def test_ohif_shows_no_list_where_modalities_in_study_is_empty(self, stored, make_client):
        stored.put(encode(dx(Modality="")))
        client = make_client()
        assert set(client.get("/studies").json()[0]) == STUDY - {"00080061"}
        for asked in ("ModalitiesInStudy=", "includefield=ModalitiesInStudy", "includefield=all"):
            assert client.get(f"/studies?{asked}").json()[0]["00080061"] == {"vr": "CS"}

    def test_all(self, web):
        result = web.get("/studies?includefield=all").json()[0]
        assert {"00081030", "00080062", "00201200", "00104000", "00101000", "00080201"} <= set(result)
        assert "00080060" not in result
        assert {"00080080", "00081010", "00181030"} <= set(web.get("/studies/1.1/series?includefield=all").json()[0])
        assert {"00080008", "00080022"} <= set(web.get("/instances?includefield=ALL").json()[0])

    def test_what_belongs_below_is_not_returned(self, web):
        assert set(web.get("/studies?includefield=00081030%2C00080060%2C00080090%2C00100030").json()[0]) == (
            STUDY | {"00081030"}
        )  # as OHIF asks

    def test_what_is_not_held_is_left_out(self, web):
        assert set(web.get("/studies?includefield=ReasonForStudy").json()[0]) == STUDY

    def test_the_host_is_as_the_caller_wrote_it(self, web):
        result = web.get("/studies", headers={"host": "localhost:9999"}).json()[0]
        assert value(result, "00081190").startswith("http://localhost:9999/dicom-web/studies/")


class TestMediaTypes:
    """8.7.4, 10.6.3.3."""

    @pytest.mark.parametrize(
        ("accept", "content_type"),
        [
            ("*/*", "application/dicom+json"),
            ("application/dicom+json", "application/dicom+json"),
            ("application/json", "application/json"),
            ('multipart/related; type="application/dicom+xml"', 'multipart/related; type="application/dicom+xml"'),
            ("multipart/related; type=application/dicom+xml", 'multipart/related; type="application/dicom+xml"'),
        ],
    )
    def test_as_asked(self, web, accept, content_type):
        answer = web.get("/studies", headers={"accept": accept})
        assert answer.headers["content-type"].partition("; boundary")[0] == content_type

    def test_none_fits(self, web):
        answer = web.get("/studies", headers={"accept": "image/jpeg"})
        assert (answer.status_code, "application/dicom+json" in answer.json()["detail"]) == (406, True)

    def test_nonsense(self, web):
        assert web.get("/studies", headers={"accept": "nonsense"}).status_code == 400

    def test_by_the_query(self, web):
        assert web.get("/studies?accept=application/json").headers["content-type"] == "application/json"
