"""The base URI of the service, which RetrieveURL and BulkDataURI begin with."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from backup_scp.web.route import base_of


def request(scheme: str = "http", port: int = 8042, **headers: str) -> Request:
    fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "scheme": scheme, "server": ("127.0.0.1", port), "headers": fields})


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (request(host="pacs:8042"), "http://pacs:8042/dicom-web"),
        (request(host="pacs"), "http://pacs:8042/dicom-web"),
        (request(host="[::1]"), "http://[::1]:8042/dicom-web"),
        (request("https", 443, host="pacs"), "https://pacs/dicom-web"),
        (request(host="pacs", x_forwarded_for="1.2.3.4"), "http://pacs/dicom-web"),
        (
            request(
                host="inner:8042", x_forwarded_for="1.2.3.4", x_forwarded_proto="https", x_forwarded_host="pacs.example"
            ),
            "https://pacs.example/dicom-web",
        ),
        (request(host="pacs", x_forwarded_for="1.2.3.4", x_forwarded_proto="javascript"), "http://pacs/dicom-web"),
        (request(host="pacs:1", x_forwarded_proto="https"), "http://pacs:1/dicom-web"),
    ],
)
def test_the_base_is_how_the_caller_reaches_it(asked, expected):
    assert base_of(asked) == expected
