"""Why a TLS handshake failed, by what OpenSSL says."""

from __future__ import annotations

import ssl

import pytest

from backup_scp.dimse.upper_layer.tls_faults import why_not_secured, why_not_trusted


def failed(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, reason)
    error.reason = reason
    return error


def not_verified(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.reason, error.verify_code = "CERTIFICATE_VERIFY_FAILED", code
    return error


@pytest.mark.parametrize("why", [why_not_secured, why_not_trusted])
def test_a_wrong_clock_is_told_from_a_wrong_ca(why):
    assert "has expired" in why(not_verified(10))[0]
    reason, fix = why(not_verified(9))
    assert "not valid yet" in reason
    assert "clocks" in fix
    assert "CA" in why(not_verified(20))[0]


@pytest.mark.parametrize(
    ("why", "reason", "said"),
    [
        (why_not_secured, "TLSV1_ALERT_UNKNOWN_CA", "does not know the CA of our certificate"),
        (why_not_secured, "SSLV3_ALERT_CERTIFICATE_EXPIRED", "says that our certificate has expired"),
        (why_not_secured, "SSLV3_ALERT_BAD_CERTIFICATE", "does not accept our certificate"),
        (why_not_secured, "TLSV1_ALERT_PROTOCOL_VERSION", "accepts neither TLS 1.2 nor 1.3"),
        (why_not_secured, "BAD_RECORD_TYPE", "no TLS was agreed on (bad record type)"),
        (why_not_trusted, "WRONG_VERSION_NUMBER", "does not speak TLS on this port"),
        (why_not_trusted, "UNEXPECTED_EOF_WHILE_READING", "it broke off"),
        (why_not_trusted, "SSLV3_ALERT_HANDSHAKE_FAILURE", "no cipher suite in common"),
        (why_not_trusted, "TLSV1_ALERT_PROTOCOL_VERSION", "accepts neither TLS 1.2 nor 1.3"),
    ],
)
def test_each_reason_has_its_words(why, reason, said):
    sentence, fix = why(failed(reason))
    assert said in sentence
    assert fix
