"""Share links, on a real archive, index and database of users."""

from __future__ import annotations

import contextlib

import pytest
from argon2 import PasswordHasher

from backup_scp.accounts.sql_accounts import SQLAccounts
from backup_scp.errors import InvalidSelection
from backup_scp.ports import SEES_ALL, AuditKind, SiteScope
from backup_scp.services import passwords
from backup_scp.services.logins import TooManyAttempts
from backup_scp.services.secret_tokens import digest_of
from backup_scp.services.share_links import MOST_FAILURES, ShareLinks, ShareLocked, WrongPin
from backup_scp.services.user_changes import Actor
from tests.samples import dx, encode

BY = Actor("maria", "192.0.2.1")
ADDRESS = "198.51.100.7"
STUDY = dx().StudyInstanceUID


@pytest.fixture
def accounts(tmp_path):
    with contextlib.closing(SQLAccounts.in_file(tmp_path / "accounts.sqlite")) as accounts:
        yield accounts


@pytest.fixture
def shares(accounts, stored, clock) -> ShareLinks:
    stored.put(encode(dx()), site="north")
    return ShareLinks(accounts, stored.index)


@pytest.fixture
def made(shares):
    return shares.make(STUDY, "north", "  Dr.  Müller ", 30, BY)


def wrong(made) -> str:
    return f"{(int(made.pin) + 1) % 1_000_000:06}"


def guess(shares, made, address: str = ADDRESS):
    with pytest.raises(WrongPin):
        shares.open(made.token, wrong(made), address)


class TestMade:
    def test_token_and_pin_are_in_no_row(self, made, accounts, tmp_path):
        assert len(made.token) == 43  # 256 bits
        assert (len(made.pin), made.pin.isdecimal()) == (6, True)
        stored = accounts.share(digest_of(made.token))
        assert (stored, stored.made_for) == (made.link, "Dr. Müller")
        everything = b"".join(file.read_bytes() for file in tmp_path.glob("accounts.sqlite*"))
        assert made.token.encode() not in everything
        assert made.pin not in repr(made) + repr(stored)

    def test_the_pin_cannot_be_tried_without_the_token(self, made):
        """Who has read the database tries a million PINs in vain: the hash is of PIN and token together."""
        assert passwords.is_right_pin(made.link.pin_hash, made.pin, made.token)
        assert not passwords.is_right_pin(made.link.pin_hash, made.pin, "")
        assert not passwords.is_right_pin("", made.pin, made.token)

    @pytest.mark.parametrize(
        ("whom", "days"), [("", 30), (" ", 30), ("x" * 101, 30), ("a\x00b", 30), ("x", 0), ("x", 366)]
    )
    def test_what_cannot_be(self, shares, whom, days):
        with pytest.raises(InvalidSelection):
            shares.make(STUDY, "north", whom, days, BY)

    @pytest.mark.parametrize(("study", "site"), [("1.2.3", "north"), (STUDY, "south"), (STUDY, ""), (STUDY, "*")])
    def test_a_study_that_is_not_there(self, shares, study, site):
        with pytest.raises(InvalidSelection, match="no such study"):
            shares.make(study, site, "x", 30, BY)

    def test_not_without_end(self, shares, monkeypatch):
        monkeypatch.setattr(passwords, "_PIN_HASHER", PasswordHasher(1, 8, 1))
        for _ in range(100):
            shares.make(STUDY, "north", "x", 30, BY)
        with pytest.raises(TooManyAttempts):
            shares.make(STUDY, "north", "x", 30, BY)
        shares.make(STUDY, "north", "x", 30, Actor("ben"))


class TestOpened:
    def test_with_the_pin_and_only_by_this_browser(self, shares, made, accounts, clock):
        link, session = shares.open(made.token, made.pin, ADDRESS)
        opened = shares.opened(made.token, session)
        assert (opened.link.opened, opened.link.number) == (1, link.number)
        assert shares.opened(made.token, "") is None
        assert shares.opened(made.token, "x" * 43) is None
        shares.close(opened)
        assert shares.opened(made.token, session) is None

    def test_a_session_opens_no_other_link(self, shares, made):
        other = shares.make(STUDY, "north", "x", 30, BY)
        _, session = shares.open(made.token, made.pin, ADDRESS)
        assert shares.opened(other.token, session) is None

    def test_it_ends_after_an_hour_and_with_a_clock_that_was_wrong(self, shares, made, clock):
        _, session = shares.open(made.token, made.pin, ADDRESS)
        clock.jump(minutes=59)
        assert shares.opened(made.token, session)
        clock.jump(minutes=2)
        assert shares.opened(made.token, session) is None
        clock.jump(days=-10)
        assert shares.opened(made.token, session) is None

    def test_unknown_ended_revoked_and_gone_are_the_same(self, shares, made, clock, accounts, monkeypatch):
        """None of them, with one look for the link, and without the work for a PIN."""
        _, session = shares.open(made.token, made.pin, ADDRESS)
        ended = shares.make(STUDY, "north", "x", 1, BY)
        revoked = shares.make(STUDY, "north", "x", 30, BY)
        shares.revoke(revoked.link.number, SEES_ALL, BY)
        clock.jump(days=1, seconds=1)
        monkeypatch.setattr("backup_scp.services.share_links.is_right_pin", None)
        for token, pin in (("x" * 43, "123456"), (ended.token, ended.pin), (revoked.token, revoked.pin), ("", "")):
            assert shares.shared(token) is None
            assert shares.open(token, pin, ADDRESS) is None
        assert shares.shared(made.token) is not None
        unseen = ShareLinks(accounts, shares._index.seen_by(SiteScope.of(["south"])))  # its study was taken from view
        assert unseen.shared(made.token) is None
        assert unseen.opened(made.token, session) is None

    def test_ends_at_once_when_revoked_or_over(self, shares, made, clock):
        short = shares.make(STUDY, "north", "x", 1, BY)
        _, session = shares.open(made.token, made.pin, ADDRESS)
        shares.revoke(made.link.number, SEES_ALL, BY)
        assert shares.opened(made.token, session) is None
        clock.jump(hours=23, minutes=30)
        _, session = shares.open(short.token, short.pin, ADDRESS)
        assert shares.opened(short.token, session)
        clock.jump(minutes=31)
        assert shares.opened(short.token, session) is None

    def test_a_link_that_a_wrong_clock_made_does_not_last_for_years(self, shares, clock):
        clock.jump(days=4000)
        made = shares.make(STUDY, "north", "x", 30, BY)
        clock.jump(days=-4000)
        assert shares.shared(made.token) is None


class TestGuessed:
    def test_each_wait_is_longer(self, shares, made):
        for number in range(4):
            guess(shares, made, f"198.51.100.{number}")
        waits = []
        for number in range(3):
            with pytest.raises(TooManyAttempts) as refused:
                shares.open(made.token, made.pin, f"203.0.113.{number}")
            waits.append(refused.value.wait_s)
        assert waits == [2, 2, 2]  # an attempt that has to wait is none

    def test_locked_at_last_until_somebody_unlocks_it(self, shares, made, clock, accounts):
        pauses = []
        for number in range(MOST_FAILURES):
            address = f"198.51.100.{number}"
            with pytest.raises((WrongPin, TooManyAttempts)) as refused:
                shares.open(made.token, wrong(made), address)
            if isinstance(refused.value, TooManyAttempts):
                pauses.append(refused.value.wait_s)
                clock.jump(seconds=refused.value.wait_s)
                guess(shares, made, address)
        assert (pauses, pauses[0], pauses[-1]) == (sorted(pauses), 2, 300)
        assert accounts.share(made.link.digest).failures == MOST_FAILURES
        clock.jump(hours=2)
        with pytest.raises(ShareLocked):
            shares.open(made.token, made.pin, ADDRESS)
        kinds = [event.kind for event in accounts.events(100)]
        assert (kinds.count(AuditKind.SHARE_FAILED), kinds.count(AuditKind.SHARE_LOCKED)) == (MOST_FAILURES, 1)
        shares.unlock(made.link.number, SEES_ALL, BY)
        assert shares.open(made.token, made.pin, ADDRESS)

    def test_an_address_waits_at_all_links(self, shares, made):
        others = [shares.make(STUDY, "north", str(number), 30, BY) for number in range(5)]
        for other in others * 4:
            guess(shares, other)
        with pytest.raises(TooManyAttempts):
            shares.open(made.token, made.pin, ADDRESS)
        assert shares.open(made.token, made.pin, "203.0.113.1")


class TestManaged:
    def test_only_by_those_of_the_clinic(self, shares, made):
        south = SiteScope.of(["south"])
        for change in (shares.revoke, shares.unlock):
            with pytest.raises(InvalidSelection, match="no such link"):
                change(made.link.number, south, BY)
            with pytest.raises(InvalidSelection, match="no such link"):
                change(made.link.number + 1, SEES_ALL, BY)
        assert shares.links(south, 10) == []
        assert shares.links(SiteScope.of(["north"]), 10) == [made.link]
        assert shares.shared(made.token)


def test_the_audit_has_each_look_and_no_patient(shares, made, accounts):
    guess(shares, made)
    _, session = shares.open(made.token, made.pin, ADDRESS)
    opened = shares.opened(made.token, session)
    for what in ("study", "study", "1.2.3"):
        shares.note_look(opened, what, ADDRESS)
    shares.note_save(opened, "DICOM", ADDRESS)
    shares.revoke(made.link.number, SEES_ALL, BY)
    events = accounts.events(20)[::-1]
    name, study = f"link {made.link.number}", events[1].about
    assert [(event.kind, event.who, event.address) for event in events] == [
        (AuditKind.SHARE_MADE, "maria", "192.0.2.1"),
        (AuditKind.SHARE_FAILED, name, ADDRESS),
        (AuditKind.SHARE_OPENED, name, ADDRESS),
        (AuditKind.SHARE_LOOKED, name, ADDRESS),
        (AuditKind.SHARE_LOOKED, name, ADDRESS),
        (AuditKind.SHARE_SAVED, name, ADDRESS),
        (AuditKind.SHARE_REVOKED, "maria", "192.0.2.1"),
    ]
    assert study.startswith("study ")
    assert events[0].about == f"{name}, {study}"
    text = repr(events)
    assert not [value for value in (STUDY, str(dx().PatientName), "Müller", made.token, made.pin) if value in text]


def test_saving_has_a_limit(shares, made):
    _, session = shares.open(made.token, made.pin, ADDRESS)
    opened = shares.opened(made.token, session)
    for _ in range(30):
        shares.note_save(opened, "DICOM", ADDRESS)
    with pytest.raises(TooManyAttempts):
        shares.note_save(opened, "DICOM", ADDRESS)
