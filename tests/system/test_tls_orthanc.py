"""Orthanc over TLS, in both directions: it sends, finds and retrieves, and is sent to."""

from __future__ import annotations

import dataclasses

import pytest

from tests.samples import make_study
from tests.system.contents import visible
from tests.system.node import Remote
from tests.system.test_tls import authority, console, start_secured  # noqa: F401 - fixtures

pytestmark = pytest.mark.system


def test_orthanc_sends_finds_and_retrieves_over_tls(start_secured, start_orthanc, console, tmp_path):  # noqa: F811
    orthanc = start_orthanc(
        DicomTlsEnabled=True,
        DicomTlsCertificate=str(console.certificate),
        DicomTlsPrivateKey=str(console.key),
        DicomTlsTrustedCertificates=str(console.ca),
    )
    node, port = start_secured(remotes=[dataclasses.replace(orthanc.remote, tls=True)])
    orthanc.add_modality(Remote("backup", node.ae_title, port.port, tls=True))
    make_study(tmp_path / "study", patients=1, studies=1, instances=4)

    orthanc.echo("backup")
    sent = orthanc.upload(*sorted((tmp_path / "study").rglob("*.dcm")))
    assert orthanc.store("backup", sent)["FailedInstancesCount"] == 0
    assert len(visible(node)) == 4
    query, found = orthanc.find("backup", "Study", {"PatientID": ""})
    assert len(found) == 1
    expected = orthanc.data_sets()
    for bring_back in (
        lambda: orthanc.retrieve(query),  # C-MOVE: the node calls it with TLS
        lambda: node.cli("restore", "--to", "orthanc", "--all"),
    ):
        for held in orthanc.instances():
            orthanc.delete(held)
        assert orthanc.instances() == []
        bring_back()
        assert orthanc.data_sets() == expected
    node.cli("echo", "orthanc")


def test_orthanc_without_tls_is_told_so(start_secured, start_orthanc):  # noqa: F811
    """It calls the port with TLS without it: `status` says what to switch on."""
    node, port = start_secured()
    orthanc = start_orthanc(modalities=[Remote("backup", node.ae_title, port.port)])
    with pytest.raises(AssertionError, match="echo: 500"):
        orthanc.echo("backup")
    reasons = [each["reason"] for each in node.json("status", exit_code=None)["rejections"]]
    assert "it does not speak TLS" in reasons
