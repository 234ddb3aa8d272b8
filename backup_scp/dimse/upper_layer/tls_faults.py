"""Say in words why a TLS handshake failed, and what to do on which side (PS3.15 B.12)."""

from __future__ import annotations

import ssl

_DATES = {  # by X509_V_ERR_CERT_HAS_EXPIRED and X509_V_ERR_CERT_NOT_YET_VALID of OpenSSL
    10: ("its certificate has expired", "renew it there; if it is valid, set this computer's clock"),
    9: ("its certificate is not valid yet", "compare the clocks of both computers"),
}
_NOT_OF_OURS = ("its certificate is not from our CA", "give it one of the CA in [tls] ca")
_NOT_TRUSTED = ("its certificate is not from a CA in [tls] ca", "add its CA to that file")
_OTHER = "no TLS was agreed on ({})"
_OURS = "let it trust the CA of [tls] certificate"
_RENEW = "renew ours:  backup-scp tls renew. If  backup-scp check  finds ours valid, set the clock there"

_CALLERS = {
    "unsupported protocol": ("it offers no TLS 1.2 or newer", "switch on TLS 1.2 or 1.3 there"),
    "no shared cipher": ("it offers no cipher suite of BCP 195", "switch on ECDHE with AES-GCM there"),
    "http request": ("it does not speak DICOM", "connect a DICOM node to this port"),
    "wrong version number": ("it does not speak TLS", "switch on TLS there, or let it call the port without"),
    "peer did not return a certificate": ("it shows no certificate", "give it one of the CA in [tls] ca"),
    "alert unknown ca": ("it does not know the CA of our certificate", _OURS),
    "alert certificate expired": ("it says that our certificate has expired", _RENEW),
    "alert bad certificate": (
        "it does not accept our certificate",
        _OURS + "; if it does, let it call us by a name in it (backup-scp tls init --name HOST adds one)",
    ),
    "alert protocol version": ("it accepts neither TLS 1.2 nor 1.3", "switch on TLS 1.2 or 1.3 there"),
    "alert": ("it does not accept our certificate", _OURS),
}
"""By words of OpenSSL's reason, when another AE calls us; the first that fits."""

_CALLED = {
    "unexpected eof": ("it broke off", "is that its port with TLS? Set the port in its [[remote]], or tls = false"),
    "wrong version number": (
        "it does not speak TLS on this port",
        "set its port with TLS in its [[remote]], or tls = false",
    ),
    "alert protocol version": ("it accepts neither TLS 1.2 nor 1.3", "switch on TLS 1.2 or 1.3 there"),
    "unsupported protocol": ("it offers no TLS 1.2 or newer", "switch on TLS 1.2 or 1.3 there"),
    "alert handshake failure": (
        "it has no cipher suite in common with us, or wants a certificate",
        "switch on ECDHE with AES-GCM there, and let it trust the CA of [tls] certificate",
    ),
    "alert": ("it does not accept our certificate", _OURS),
}
"""The same when we call another AE."""


def tls_reason(error: ssl.SSLError) -> str:
    """Return OpenSSL's reason, without its source lines."""
    return (error.reason or "no more is known").lower().replace("_", " ")


def why_not_secured(error: ssl.SSLError) -> tuple[str, str]:
    """Return why a handshake with a caller failed, and what to do."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _DATES.get(error.verify_code, _NOT_OF_OURS)
    return _found(_CALLERS, error, "compare the TLS settings of both sides")


def why_not_trusted(error: ssl.SSLError) -> tuple[str, str]:
    """Return why a handshake with an AE that we call failed, and what to do."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _DATES.get(error.verify_code, _NOT_TRUSTED)
    return _found(_CALLED, error, "compare the TLS settings of both sides, and its certificate with ca in [tls]")


def _found(reasons: dict[str, tuple[str, str]], error: ssl.SSLError, otherwise: str) -> tuple[str, str]:
    reason = tls_reason(error)
    return next((said for words, said in reasons.items() if words in reason), (_OTHER.format(reason), otherwise))
