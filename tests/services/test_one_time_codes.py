from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyotp
import pytest

from backup_scp.services import one_time_codes

RFC = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"  # RFC 6238 Appendix B, in base32
AT = datetime.fromtimestamp(1111111109, UTC)


def test_the_vector_of_the_rfc():
    assert one_time_codes.step_of(RFC, "081804", AT) == 1111111109 // 30
    assert one_time_codes.step_of(RFC, " 081 804 ", AT) == 1111111109 // 30


@pytest.mark.parametrize(("late_s", "is_taken"), [(-60, False), (-30, True), (0, True), (30, True), (60, False)])
def test_a_clock_may_differ_by_one_step(late_s, is_taken):
    code = pyotp.TOTP(RFC).at(AT)
    step = one_time_codes.step_of(RFC, code, AT + timedelta(seconds=late_s))
    assert step == (1111111109 // 30 if is_taken else None)


@pytest.mark.parametrize("code", ["", "081805", "81804", "0818040", "٠٨١٨٠٤", "x" * 10_000])
def test_wrong(code):
    assert one_time_codes.step_of(RFC, code, AT) is None


def test_recovery_codes_are_ten_of_80_bits_and_read_as_people_type_them():
    codes = one_time_codes.new_recovery_codes()
    assert (len(set(codes)), {len(code) for code in codes}) == (10, {19})
    typed = codes[0].upper().replace("-", " ")
    assert one_time_codes.recovery_digest(typed) == one_time_codes.recovery_digest(codes[0])
    assert one_time_codes.recovery_digest(codes[0]) != one_time_codes.recovery_digest(codes[1])


def test_the_address_for_the_app_names_the_node_and_the_user():
    address = one_time_codes.address_for_app(one_time_codes.new_secret(), "José", "CLINIC A")
    assert address.startswith("otpauth://totp/CLINIC%20A:Jos%C3%A9?secret=")
