"""The server: silent connections, limits, stopping without leftovers."""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backup_scp import errors
from backup_scp.dimse.association import association_threads as crew_module
from backup_scp.dimse.association import closing, pending
from backup_scp.dimse.association import listener as listener_module
from backup_scp.dimse.association import server as server_module
from backup_scp.dimse.association.association import Timing
from backup_scp.dimse.association.pending import PendingConnections
from backup_scp.dimse.association.request_dispatch import Service
from backup_scp.dimse.messages.command_set import Field, response
from backup_scp.errors import InvalidSettings
from backup_scp.ports import RemoteAE, ServiceKind
from backup_scp.services.permissions import Right
from tests.dimse.conftest import Recorder, associations_ended, threads
from tests.dimse.wire import (
    ABORT,
    ASSOCIATE_RJ,
    COMMAND,
    CT_IMAGE_STORAGE,
    DATA,
    EXPLICIT,
    IMPLICIT,
    LAST,
    RELEASE_RP,
    TIMEOUT_S,
    VERIFICATION,
    Peer,
    abort,
    associate_rq,
    cancel_rq,
    command,
    echo_rq,
    p_data,
    pdu,
    pdv,
    release_rq,
    store_rq,
)
from tests.processes import wait_until

ECHO = (VERIFICATION, (IMPLICIT,))
CT = (CT_IMAGE_STORAGE, (EXPLICIT,))


def ended(running):
    """Wait until no association is under way."""
    associations_ended()


# ------------------------------------------------------------------------------------------------- connections


def test_silent_connections_do_not_lock_out_a_real_one(server):
    silent = [Peer(server.port) for _ in range(200)]
    with server.peer(ECHO) as peer:
        assert peer.echo() == 0
        peer.release()
    for one in silent[: 201 - pending.MOST_OF_ONE_PEER]:
        assert one.until_closed() == []
    assert silent[-1].ask(associate_rq([ECHO]))[0] == 2
    for one in silent:
        one.socket.close()


def test_the_oldest_silent_connection_goes_first(server, monkeypatch):
    monkeypatch.setattr(pending, "MOST", 2)
    with Peer(server.port) as oldest, Peer(server.port) as second, Peer(server.port) as third:
        assert oldest.until_closed() == []
        for late in (second, third):
            kind, body = late.ask(associate_rq([ECHO]))
            assert kind == 2, body
            late.release()


def test_a_flood_of_one_peer_pushes_out_its_own_connections_only(server):
    """Also when all of them are new, and that of the other is the oldest."""
    with Peer(server.port, source="127.0.0.2") as console:
        flood = [Peer(server.port) for _ in range(pending.MOST_OF_ONE_PEER + 1)]
        assert flood[0].until_closed() == []
        assert console.ask(associate_rq([ECHO]))[0] == 2
        console.release()
    for one in flood:
        one.socket.close()


def test_floods_of_several_peers_push_out_those_who_have_most(server, monkeypatch):
    monkeypatch.setattr(pending, "MOST", 10)
    with Peer(server.port, source="127.0.0.9") as console:
        flood = [Peer(server.port, source=f"127.0.0.{2 + number % 2}") for number in range(20)]
        for one in flood[:8]:
            assert one.until_closed() == []
        assert console.ask(associate_rq([ECHO]))[0] == 2
        console.release()
    for one in flood:
        one.socket.close()


def test_rejected_connections_that_stay_hold_no_thread(server):
    """A rejected caller must close the connection; meanwhile the thread serves others."""
    rejected = [Peer(server.port) for _ in range(5)]
    for one in rejected:
        assert one.ask(associate_rq([ECHO], called=b"OTHER"))[0] == ASSOCIATE_RJ
    ended(server)
    assert rejected[0].socket.send(b"what comes late is dropped")
    for one in rejected[:2]:
        one.socket.close()
    server.server.stop(0)
    for one in rejected[2:]:
        assert one.until_closed() == []
        one.socket.close()


def test_a_rejection_over_tls_is_enciphered(start_server, secured):
    ours, theirs = secured
    running = start_server(tls=ours)
    with Peer(running.secured_port, tls=theirs) as peer:
        assert peer.ask(associate_rq([ECHO], called=b"OTHER")) == (ASSOCIATE_RJ, b"\0\1\1\7")


def test_rejected_connections_that_stay_are_closed_after_a_while(server, monkeypatch):
    monkeypatch.setattr(closing, "_WAIT_S", 0.01)
    with Peer(server.port) as rejected:
        assert rejected.ask(associate_rq([ECHO], called=b"OTHER"))[0] == ASSOCIATE_RJ
        assert rejected.until_closed() == []


def test_of_too_many_rejected_connections_the_oldest_goes(server, monkeypatch):
    monkeypatch.setattr(closing, "MOST", 1)
    with Peer(server.port) as first:
        assert first.ask(associate_rq([ECHO], called=b"OTHER"))[0] == ASSOCIATE_RJ
        ended(server)
        second = Peer(server.port)
        assert second.ask(associate_rq([ECHO], called=b"OTHER"))[0] == ASSOCIATE_RJ
        assert first.until_closed() == []
        second.socket.close()


def test_without_a_thread_for_it_a_rejected_connection_is_closed(server, monkeypatch):
    start = threading.Thread.start

    def no_more(thread):
        if thread.name == "closing":
            raise MemoryError
        start(thread)

    with monkeypatch.context() as patch, Peer(server.port) as rejected:
        patch.setattr(threading.Thread, "start", no_more)
        assert rejected.ask(associate_rq([ECHO], called=b"OTHER"))[0] == ASSOCIATE_RJ
        assert rejected.until_closed() == []
    with Peer(server.port) as rejected:
        assert rejected.ask(associate_rq([ECHO], called=b"OTHER"))[0] == ASSOCIATE_RJ


def test_there_are_never_more_threads_than_there_may_be(start_server, recorder, monkeypatch):
    """All threads are busy: new callers are rejected at once, and recorded."""
    monkeypatch.setattr(server_module, "_most_threads", lambda _: 3)
    running = start_server()
    busy = [running.peer(ECHO) for _ in range(3)]
    with Peer(running.port) as refused:
        assert refused.until_closed() == []
    wait_until(lambda: recorder.rejections)
    ((kind, *_, address, reason, fix),) = recorder.rejections
    assert (kind, address, reason) == ("association", "127.0.0.1", "no thread is free to serve it")
    assert not list(running.server._pending)  # else it would displace others that are silent
    assert "limits" in fix
    for one in busy:
        assert one.echo() == 0
        one.release()
    ended(running)
    with running.peer(ECHO) as peer:
        peer.release()


def test_a_connection_that_is_gone_at_once(server, caplog):
    for _ in range(20):
        Peer(server.port).reset()
    with server.peer(ECHO) as peer:
        assert peer.echo() == 0
        peer.release()
    ended(server)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
def test_out_of_threads_the_listener_goes_on(server, monkeypatch, error):
    start = threading.Thread.start

    def no_more(thread):
        if thread.name == "association":
            raise error
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more)
        with Peer(server.port) as refused:
            assert refused.until_closed() == []
    with server.peer(ECHO) as peer:
        assert peer.echo() == 0
        peer.release()


def test_a_thread_serves_one_connection_after_another(server):
    served_by = set()
    for _ in range(5):
        with server.peer(ECHO) as peer:
            assert peer.echo() == 0
            served_by |= {thread for thread in threads() if thread.name != "listener"}
            peer.release()
        ended(server)
    assert len(served_by) == 1


def test_only_a_few_threads_are_kept(server):
    peers = [server.peer(ECHO) for _ in range(crew_module._MOST_SPARE + 3)]
    for peer in peers:
        peer.release()
    ended(server)
    kept = wait_until(lambda: [thread for thread in threads() if thread.name == "spare"])
    assert len(kept) <= crew_module._MOST_SPARE
    with server.peer(ECHO) as peer:
        assert peer.echo() == 0
        peer.release()


def test_out_of_memory_the_listener_goes_on(server, monkeypatch):
    monkeypatch.setattr(listener_module, "_PAUSE_S", 0)
    failing = iter([OSError(12, "Cannot allocate memory")] * 3)
    accept = socket.socket.accept

    def fails(listener):
        error = next(failing, None)
        if error:
            raise error
        return accept(listener)

    monkeypatch.setattr(socket.socket, "accept", fails)
    for _ in range(2):  # the first wakes the listener from the real accept
        with server.peer(ECHO) as peer:
            assert peer.echo() == 0
            peer.release()
    assert next(failing, None) is None


def test_an_error_of_any_kind_does_not_end_the_listener(server, monkeypatch, caplog):
    """Nobody notices a running node that accepts no callers: each such error is counted and logged."""
    monkeypatch.setattr(listener_module, "_PAUSE_S", 0)
    failing = iter([MemoryError(), KeyError("x")])
    add = PendingConnections.add

    def fails(connections, *facts):
        error = next(failing, None)
        if error:
            raise error
        return add(connections, *facts)

    monkeypatch.setattr(PendingConnections, "add", fails)
    for _ in range(2):
        with Peer(server.port) as lost:
            assert lost.until_closed() == []
    with server.peer(ECHO) as peer:
        assert peer.echo() == 0
        peer.release()
    assert server.server.faults == 2
    assert [facts[4] for facts in server.rejections] == [
        f"it was lost through an error in the node ({name})" for name in ("MemoryError", "KeyError")
    ]
    assert caplog.text.count("was lost through an error in the node: MemoryError") == 1


def test_out_of_memory_for_tls_the_listener_goes_on(start_server, secured, monkeypatch):
    monkeypatch.setattr(listener_module, "_PAUSE_S", 0)
    ours, theirs = secured
    running = start_server(tls=ours)
    failing = iter([MemoryError()])

    def wrap_bio(*arguments, **options):
        error = next(failing, None)
        if error:
            raise error
        return real(*arguments, **options)

    real = ours.wrap_bio
    monkeypatch.setattr(ours, "wrap_bio", wrap_bio, raising=False)
    with Peer(running.secured_port) as lost:
        assert lost.until_closed() == []
    with Peer(running.secured_port, tls=theirs) as peer:
        assert peer.ask(associate_rq([ECHO]))[0] == 2
        peer.release()
    assert running.server.faults == 1


def test_a_handshake_that_fails_is_noted_and_one_that_does_not_is_a_success(start_server, secured, recorder, caplog):
    caplog.set_level(logging.INFO)
    ours, theirs = secured
    running = start_server(tls=ours)
    with Peer(running.secured_port, source="127.0.0.2") as plain:
        plain.send(associate_rq([ECHO]))
        plain.until_closed()
    ended(running)
    advice = "switch on TLS there, or let it call the port without"
    assert recorder.rejections == [("tls", "", "", "127.0.0.2", "it does not speak TLS", advice)]
    assert [record.getMessage() for record in caplog.records] == [
        f"TLS with 127.0.0.2 failed: it does not speak TLS; {advice}"
    ]
    with Peer(running.secured_port, tls=theirs) as peer:
        assert peer.ask(associate_rq([ECHO]))[0] == 2
        assert recorder.successes[0] == ("tls", "", "127.0.0.1")
        peer.release()


def test_a_port_with_tls_alone(start_server, secured):
    ours, theirs = secured
    running = start_server(tls=ours, plain=False)
    assert running.port == running.secured_port
    with Peer(running.port) as peer:
        peer.send(associate_rq([ECHO]))
        assert len(peer.until_closed()) == 0  # an alert of TLS is no PDU
    with Peer(running.port, tls=theirs) as peer:
        assert peer.ask(associate_rq([ECHO]))[0] == 2
        peer.release()


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
def test_ipv6_and_ipv4_on_one_port(start_server):
    remote = RemoteAE("console", "TESTER", "127.0.0.1")
    callers = []

    def note(association, context, request):
        callers.append(association.caller)
        association.send(context.context_id, response(request, 0))

    service = Service(VERIFICATION.__eq__, note, Right.ECHO)
    running = start_server(host="::", remotes=[remote], services={Field.C_ECHO_RQ: service})
    for host in ("127.0.0.1", "::1"):
        with Peer(running.port, host) as peer:
            peer.accept(peer.ask(associate_rq([ECHO]))[1])
            assert peer.echo() == 0
            peer.release()
    assert [(c.address, c.remote is not None, c.is_this_machine) for c in callers] == [
        ("127.0.0.1", True, True),
        ("::1", False, True),
    ]


# ----------------------------------------------------------------------------------------------------- limits


def test_the_limit_and_the_reserved_places(start_server):
    remote = RemoteAE("console", "CONSOLE", "127.0.0.1")
    running = start_server(trust_this_machine=False, remotes=[remote], maximum_associations=2, reserved_associations=1)
    strangers = [running.peer(ECHO) for _ in range(2)]
    with Peer(running.port) as stranger:
        assert stranger.ask(associate_rq([ECHO])) == (ASSOCIATE_RJ, b"\0\2\3\2")
    known = running.peer(ECHO, calling=b"CONSOLE")
    with Peer(running.port) as another:
        assert another.ask(associate_rq([ECHO], calling=b"CONSOLE")) == (ASSOCIATE_RJ, b"\0\2\3\2")
    for peer in (*strangers, known):
        peer.release()
    ended(running)
    assert [reason for *_, reason, _ in running.rejections] == [
        "more than 2 associations at once",
        "more than 3 associations at once",
    ]
    with running.peer(ECHO) as peer:  # the places are free again
        peer.release()


def test_one_address_cannot_take_the_places_of_all(start_server):
    """64 idle Associations of one host would shut out each console that is not configured."""
    remote = RemoteAE("console", "CONSOLE", "127.0.0.1")
    running = start_server(
        trust_this_machine=False, remotes=[remote], maximum_associations=6, maximum_associations_per_address=2
    )
    hog = [running.peer(ECHO) for _ in range(2)]
    with Peer(running.port) as stranger:
        assert stranger.ask(associate_rq([ECHO])) == (ASSOCIATE_RJ, b"\0\2\3\2")
    others = [running.peer(ECHO, source="127.0.0.2"), running.peer(ECHO, calling=b"CONSOLE")]
    ((*_, reason, fix),) = running.rejections
    assert reason == "more than 2 associations at once from one address that is not configured"
    assert "[[remote]]" in fix
    hog.pop().release()
    wait_until(lambda: running.server._places.total == 3)
    hog.append(running.peer(ECHO))
    for peer in (*hog, *others):
        peer.release()
    ended(running)


def test_the_limit_of_one_address_can_be_switched_off(start_server):
    running = start_server(trust_this_machine=False, maximum_associations_per_address=0)
    for peer in [running.peer(ECHO) for _ in range(20)]:
        peer.release()
    ended(running)


def test_the_limit_holds_when_all_come_at_once(start_server):
    running = start_server(maximum_associations=3, reserved_associations=0)
    peers = [Peer(running.port) for _ in range(20)]
    for peer in peers:
        peer.send(associate_rq([ECHO]))
    kinds = [peer.pdu()[0] for peer in peers]
    assert (kinds.count(2), kinds.count(3)) == (3, 17)
    for peer in peers:
        peer.socket.close()


def test_a_place_is_free_again_however_an_association_ends(start_server):
    running = start_server(maximum_associations=1, reserved_associations=0)
    for end in (b"", abort(), release_rq(), p_data(pdv(1, COMMAND, length=0))):
        with running.peer(ECHO) as peer:
            peer.send(end)
            if end:
                peer.socket.shutdown(socket.SHUT_WR)
                peer.until_closed()
        ended(running)


def test_nothing_is_remembered_of_connections_that_have_ended(server):
    with Peer(server.port):
        pass
    with server.peer(ECHO) as peer:
        peer.release()
    with Peer(server.port) as rejected:
        assert rejected.ask(associate_rq([ECHO], called=b"OTHER"))[0] == ASSOCIATE_RJ
    ended(server)
    assert not list(server.server._pending)
    assert not server.server._associations


# --------------------------------------------------------------------------------------------------- requests


@pytest.mark.parametrize("request_", [associate_rq([ECHO], called=b"OTHER"), pdu(1, bytes(100))])
def test_what_becomes_no_association_is_not_served(server, caplog, request_):
    caplog.set_level(logging.INFO)
    with Peer(server.port) as peer:
        peer.send(request_)
        peer.pdu()
    ended(server)
    assert len(server.rejections) == 1
    assert "Association with" not in caplog.text


@pytest.mark.parametrize("calling", [b"", b"   ", b"CON\7SOLE", b"\x1b[2J"])
def test_a_caller_without_a_name_that_can_be_shown_is_rejected(server, calling):
    with Peer(server.port) as peer:
        assert peer.ask(associate_rq([ECHO], calling=calling)) == (ASSOCIATE_RJ, b"\0\1\1\3")


def test_a_remote_that_has_to_use_tls_does(start_server, secured):
    ours, theirs = secured
    remote = RemoteAE("console", "CONSOLE", "127.0.0.1", tls_required=True)
    running = start_server(tls=ours, remotes=[remote])
    with Peer(running.port) as plain:
        assert plain.ask(associate_rq([ECHO], calling=b"CONSOLE")) == (ASSOCIATE_RJ, b"\0\1\1\1")
    with Peer(running.secured_port, tls=theirs) as peer:
        assert peer.ask(associate_rq([ECHO], calling=b"CONSOLE"))[0] == 2
        peer.release()


def test_there_is_a_thread_for_each_who_may_be_here():
    listening = listener_module.ListenSettings(
        "X", "127.0.0.1", 0, maximum_associations=1000, reserved_associations=500
    )
    assert server_module._most_threads(listening) > 1500


def test_an_early_second_request_is_not_lost(start_server):
    """Another request while one is served: it breaks PS3.7 D.3.3.3, and is answered in its turn."""
    arrived = threading.Event()

    def slow(association, context, request):
        association.skip_data_set()
        association.send(context.context_id, response(request, 0xFF00))
        assert arrived.wait(TIMEOUT_S)
        while not association.upper_layer.has_input():
            pass
        assert not association.cancelled(request.message_id)
        association.send(context.context_id, response(request, 0))

    running = start_server({Field.C_FIND_RQ: Service(lambda _: True, slow, Right.FIND)})
    find = command({0x0002: CT_IMAGE_STORAGE, 0x0100: 0x0020, 0x0110: 7, 0x0800: 0x0001})
    with running.peer(CT) as peer:
        peer.send(p_data(pdv(1, COMMAND | LAST, find), pdv(1, DATA | LAST, b"ab")))
        assert peer.message().status == 0xFF00
        peer.send(p_data(pdv(1, COMMAND | LAST, store_rq("4.5.6", message_id=8))), p_data(pdv(1, DATA | LAST, b"cd")))
        arrived.set()
        assert peer.message().elements[0x0120] == b"\7\0"
        answer = peer.message()
        assert (answer.elements[0x0120], answer.status) == (b"\x08\0", 0)
        peer.release()
    assert running.sink.stored == [("4.5.6", b"cd")]


def test_a_stale_cancel_and_a_stray_response_are_passed_over(server):
    stray = command({0x0100: 0x8001, 0x0120: 9, 0x0800: 0x0101, 0x0900: 0})
    stray_with_data = command({0x0100: 0x8020, 0x0120: 9, 0x0800: 0x0001, 0x0900: 0xFF00})
    with server.peer(ECHO) as peer:
        peer.send(p_data(pdv(1, COMMAND | LAST, cancel_rq(1))))
        peer.send(p_data(pdv(1, COMMAND | LAST, stray)))
        peer.send(p_data(pdv(1, COMMAND | LAST, stray_with_data)), p_data(pdv(1, DATA | LAST, b"ab")))
        assert peer.echo() == 0
        peer.release()


@pytest.mark.parametrize(
    ("field", "status"), [(0x0001, 0x0122), (0x0150, 0x0211), (0x0110, 0x0211), (0x0FFE, 0x0211), (0, 0x0211)]
)
def test_a_request_that_nothing_answers(server, field, status):
    request = command({0x0002: VERIFICATION, 0x0100: field, 0x0110: 3, 0x0800: 0x0001})
    with server.peer(ECHO) as peer:
        peer.send(p_data(pdv(1, COMMAND | LAST, request)), p_data(pdv(1, DATA, b"ab")), p_data(pdv(1, DATA | LAST)))
        answer = peer.message()
        assert (answer.field, answer.status, answer.elements[0x0120]) == (field | 0x8000, status, b"\3\0")
        assert peer.echo() == 0
        peer.release()


@pytest.mark.parametrize("parts_read", [0, 1, 3])
def test_an_error_in_the_node_is_answered_in_step_and_says_nothing_of_a_patient(start_server, caplog, parts_read):
    caplog.set_level(logging.DEBUG)

    def fails(association, context, request):
        parts = association.data_set()
        for _ in range(parts_read):
            next(parts, None)  # what has come together is one part
        raise ValueError("Doe^John 19700501")

    running = start_server({Field.C_STORE_RQ: Service(lambda _: True, fails, Right.STORE)})
    with running.peer(CT, ECHO) as peer:
        for _ in range(2):
            peer.send(p_data(pdv(1, COMMAND | LAST, store_rq())))
            peer.send(
                *(p_data(pdv(1, DATA, b"PatientName")) for _ in range(2)), p_data(pdv(1, DATA | LAST, b"Doe^John"))
            )
            answer = peer.message()
            assert (answer.status, answer.comment) == (0x0110, "Internal error")
        assert peer.echo(3) == 0
        peer.release()
    ended(running)
    assert "Doe" not in caplog.text
    assert "Traceback" not in caplog.text
    assert "ValueError at fails" in caplog.text


def test_an_error_before_the_association_is_answered_with_an_abort(server, monkeypatch, caplog):
    def fails(*_):
        raise ValueError("Doe^John")

    monkeypatch.setattr(server.server._policy, "identify", fails)
    with Peer(server.port) as peer:
        assert peer.ask(associate_rq([ECHO]))[0] == ABORT
    ended(server)
    assert "ValueError" in caplog.text
    assert "Doe" not in caplog.text


class IdleTask:
    """An idle task that records its calls, and whether it was ended."""

    def __init__(self) -> None:
        self.ends = 0

    def look(self) -> None:
        pass

    def end(self) -> None:
        self.ends += 1


@pytest.mark.parametrize("end", [release_rq(), abort(), b""])
def test_an_errand_ends_with_its_association(start_server, end):
    """Otherwise no other worker could send its report before the lease expires."""
    errand = IdleTask()

    def sent_on_an_errand(association, context, request):
        association.errand = errand
        association.send(context.context_id, response(request, 0))

    running = start_server({Field.C_ECHO_RQ: Service(VERIFICATION.__eq__, sent_on_an_errand, Right.ECHO)})
    with running.peer(ECHO) as peer:
        assert peer.echo() == 0
        if end:
            peer.send(end)
            peer.until_closed()
    ended(running)
    assert errand.ends == 1


@pytest.mark.parametrize(
    ("called", "check", "ours"),
    [
        (b"ARCHIVE", False, "ARCHIVE"),
        (b"", False, "BACKUP_SCP"),
        (b"TWO\\AES", False, "BACKUP_SCP"),
        (b"BELL\7", False, "BACKUP_SCP"),
        (b"BACKUP_SCP", True, "BACKUP_SCP"),
    ],
)
def test_the_node_is_called_as_its_caller_calls_it(start_server, called, check, ours):
    """Retrieve AE Title (PS3.4 C.4.2.3.2) is the AE that the answers come from."""
    names = []

    def note(association, context, request):
        names.append(association.our_ae_title)
        association.send(context.context_id, response(request, 0))

    service = Service(VERIFICATION.__eq__, note, Right.ECHO)
    running = start_server({Field.C_ECHO_RQ: service}, check_called_ae_title=check)
    with running.peer(ECHO, called=called) as peer:
        peer.echo()
        peer.release()
    assert names == [ours]


@pytest.mark.parametrize(("right", "status"), [(Right.ECHO, 0), (Right.FIND, 0x0124)])
def test_a_stranger_is_served_what_is_for_everyone_alone(start_server, right, status):
    def answers(association, context, request):
        association.send(context.context_id, response(request, 0))

    service = Service(VERIFICATION.__eq__, answers, right)
    running = start_server({Field.C_ECHO_RQ: service}, trust_this_machine=False)
    with running.peer(ECHO) as peer:
        assert peer.echo() == status
        peer.release()


def test_who_calls_is_judged_by_both_addresses_of_the_connection(server, monkeypatch):
    """A caller from the called address is this machine."""
    identify, asked = server.server._policy.identify, []

    def noted(*facts):
        asked.append(facts[:3])
        return identify(*facts)

    monkeypatch.setattr(server.server._policy, "identify", noted)
    with server.peer(ECHO, source="127.0.0.2") as peer:
        peer.release()
    assert asked == [("TESTER", "127.0.0.2", "127.0.0.1")]


# ------------------------------------------------------------------------------------------------- what is noted

NOTED = (
    (errors.NotAuthorised("'A' may not query here", "add a [[remote]]"), "add a [[remote]]"),
    (errors.ArchiveFull("Archive full"), "make room"),
    (errors.ArchiveUnavailable("Archive cannot be written"), "backup-scp check"),
    (errors.IndexUnavailable("The index does not answer"), "backup-scp check"),
    (errors.InvalidDataSet("SOP Instance UID: Command Set 1.2, Data Set 1.3"), "contradict themselves"),
    (errors.InvalidIdentifier("No level"), "another query model or level"),
    (ValueError("Doe^John"), "the log"),
)


@pytest.mark.parametrize("kind", [ServiceKind.STORE, ServiceKind.QUERY])
@pytest.mark.parametrize(("error", "fix"), NOTED, ids=lambda value: type(value).__name__)
def test_each_refusal_is_noted_as_the_peer_is_told_with_what_to_do(start_server, recorder, error, fix, kind):
    def refuses(*_):
        raise error

    running = start_server({Field.C_STORE_RQ: Service(lambda _: True, refuses, Right.ECHO, kind=kind)})
    with running.peer(CT, calling=b"CONSOLE") as peer:
        for _ in range(2):
            peer.send(p_data(pdv(1, COMMAND | LAST, store_rq())), p_data(pdv(1, DATA | LAST, b"cd")))
            told = peer.message().comment
        peer.release()
    ended(running)
    assert len(running.rejections) == 2
    *facts, advice = running.rejections[0]
    assert facts == [kind, "CONSOLE", "BACKUP_SCP", "127.0.0.1", told]
    assert fix in advice
    assert [success[0] for success in recorder.successes] == ["association", "release"]


def test_a_request_that_does_not_suit_its_context_is_noted(start_server, sink):
    service = Service(lambda _: False, sink.serve, Right.STORE, kind=ServiceKind.STORE)
    running = start_server({Field.C_STORE_RQ: service})
    with running.peer(CT) as peer:
        peer.send(p_data(pdv(1, COMMAND | LAST, store_rq())), p_data(pdv(1, DATA | LAST, b"cd")))
        assert peer.message().status == 0x0122
        peer.release()
    ended(running)
    ((kind, *_, reason, _),) = running.rejections
    assert (kind, reason) == ("store", "The request does not suit its Presentation Context")


def test_the_line_of_an_association_counts_what_was_refused(start_server, caplog):
    caplog.set_level(logging.INFO)

    def refuses(*_):
        raise errors.InvalidDataSet("It contradicts itself")

    running = start_server({Field.C_STORE_RQ: Service(lambda _: True, refuses, Right.ECHO)})
    with running.peer(CT) as peer:
        for _ in range(3):
            peer.send(p_data(pdv(1, COMMAND | LAST, store_rq())), p_data(pdv(1, DATA | LAST, b"cd")))
            peer.message()
        peer.release()
    ended(running)
    assert "released: 0 stored, 0 already held, 3 refused, 0.0 MB" in caplog.text


def test_the_line_of_an_association_does_not_wait_until_the_peer_closes(server, caplog):
    caplog.set_level(logging.INFO)
    with server.peer(ECHO) as peer:
        assert peer.ask(release_rq())[0] == RELEASE_RP
        wait_until(lambda: " released: " in caplog.text)
        assert not select.select([peer.socket], [], [], 0)[0]
    ended(server)


def test_what_a_service_refuses_itself_is_noted_and_no_success(start_server, recorder):
    def refuses(association, context, request):
        association.skip_data_set()
        association.send(context.context_id, response(request, 0x0123))
        return "No such Action Type", "report it"

    service = Service(lambda _: True, refuses, Right.ECHO, kind=ServiceKind.COMMITMENT)
    running = start_server({Field.C_STORE_RQ: service})
    with running.peer(CT) as peer:
        peer.send(p_data(pdv(1, COMMAND | LAST, store_rq())), p_data(pdv(1, DATA | LAST, b"cd")))
        assert peer.message().status == 0x0123
        peer.release()
    ended(running)
    assert [noted[-2:] for noted in running.rejections] == [("No such Action Type", "report it")]
    assert [success[0] for success in recorder.successes] == ["association", "release"]


@pytest.mark.parametrize(
    ("outcomes", "is_success"), [([True, True], True), ([True, False, True], False), ([False], False), ([], False)]
)
def test_images_succeed_when_none_of_an_association_was_refused(start_server, recorder, outcomes, is_success):
    """Else the image after a refused one would hide that."""
    due = iter(outcomes)

    def stores(association, context, request):
        association.skip_data_set()
        if not next(due):
            raise errors.InvalidDataSet("It contradicts itself")
        association.tally.stored += 1
        association.send(context.context_id, response(request, 0))

    service = Service(lambda _: True, stores, Right.ECHO, kind=ServiceKind.STORE)
    running = start_server({Field.C_STORE_RQ: service})
    with running.peer(CT, calling=b"CONSOLE") as peer:
        for _ in outcomes:
            peer.send(p_data(pdv(1, COMMAND | LAST, store_rq())), p_data(pdv(1, DATA | LAST, b"cd")))
            peer.message()
        peer.release()
    ended(running)
    assert (("store", "CONSOLE", "127.0.0.1") in recorder.successes) is is_success


def test_each_answered_query_is_a_success(start_server, recorder):
    def answers(association, context, request):
        association.skip_data_set()
        association.send(context.context_id, response(request, 0))

    running = start_server({Field.C_STORE_RQ: Service(lambda _: True, answers, Right.FIND, kind=ServiceKind.QUERY)})
    with running.peer(CT, calling=b"VIEWER") as peer:
        peer.send(p_data(pdv(1, COMMAND | LAST, store_rq())), p_data(pdv(1, DATA | LAST, b"cd")))
        assert peer.message().status == 0
        peer.release()
    ended(running)
    assert recorder.successes[1] == ("query", "VIEWER", "127.0.0.1")


def test_a_repetition_is_no_second_line_in_the_log(start_server, recorder, monkeypatch, caplog):
    """A caller with a wrong setting that tries again at once must not fill the disk with lines."""
    running = start_server()
    for is_first in (True, False, False):
        monkeypatch.setattr(recorder, "rejected", lambda *_, is_first=is_first: is_first)
        with Peer(running.port) as peer:
            assert peer.ask(associate_rq([ECHO], called=b"OTHER"))[0] == ASSOCIATE_RJ
        ended(running)
    assert caplog.text.count("rejected") == 1


# --------------------------------------------------------------------------------------------------- stopping


def test_stop_ends_idle_associations_and_silent_connections_at_once(server):
    with server.peer(ECHO) as idle, Peer(server.port) as silent:
        assert idle.echo() == 0
        server.server.stop(TIMEOUT_S)
        assert threads() == []
        assert silent.until_closed() == []
        idle.until_closed()
    with pytest.raises(ConnectionRefusedError):
        Peer(server.port)


def test_stop_lets_a_request_under_way_end(server):
    stopping = threading.Thread(target=server.server.stop, args=(TIMEOUT_S,))
    with server.peer(CT) as peer:
        peer.send(p_data(pdv(1, COMMAND | LAST, store_rq())), p_data(pdv(1, DATA, b"ab")))
        assert server.sink.began.wait(TIMEOUT_S)
        stopping.start()
        with server.server._lock:
            (association,) = server.server._associations
        while not association.ending:
            pass
        peer.send(p_data(pdv(1, DATA | LAST, b"cd")))
        assert peer.message().status == 0
        assert peer.pdu()[0] == ABORT
    stopping.join(TIMEOUT_S)
    assert threads() == []
    assert server.sink.stored == [("1.2.3", b"abcd")]


def test_stop_breaks_off_what_does_not_end_in_time(server):
    with server.peer(CT) as peer:
        peer.send(p_data(pdv(1, COMMAND | LAST, store_rq())), p_data(pdv(1, DATA, b"ab")))
        assert server.sink.began.wait(TIMEOUT_S)
        server.server.stop(0)
        assert threads() == []
        peer.until_closed()
    assert server.sink.stored == []
    assert server.sink.voided


def test_an_association_that_comes_while_the_node_stops_is_rejected(server, monkeypatch):
    crew, answers = server.server._crew, []
    stop = crew.stop

    def later() -> None:
        answers.append(peer.ask(associate_rq([ECHO])))
        stop()

    monkeypatch.setattr(crew, "stop", later)
    with Peer(server.port) as peer:
        wait_until(lambda: [thread for thread in threads() if thread.name == "association"])
        server.server.stop(0)
    assert answers == [(ASSOCIATE_RJ, b"\0\2\3\1")]


def test_stop_before_start_and_twice(start_server):
    running = start_server()
    running.server.stop(0)
    running.server.stop(0)
    server_module.Server(running.server._listening, running.server._policy, {}, Recorder()).stop(0)
    assert threads() == []
    with pytest.raises(ConnectionRefusedError):
        Peer(running.port)


def test_a_port_that_is_taken(server, start_server):
    other = server_module.Server(
        listener_module.ListenSettings("X", "127.0.0.1", server.port), server.server._policy, {}, Recorder()
    )
    with pytest.raises(InvalidSettings, match=r"is already in use\. Is backup-scp already running\?"):
        other.start()


def test_when_the_tls_port_is_taken_the_plain_one_is_free_again(server, secured):
    """Else the node could not be started with other settings in the same process."""
    with contextlib.closing(listener_module.Listener("127.0.0.1", 0)) as free:
        port = free.port
    listening = listener_module.ListenSettings("X", "127.0.0.1", port, tls=secured[0], tls_port=server.port)
    with pytest.raises(InvalidSettings):
        listener_module.open_ports(listening)
    listener_module.Listener("127.0.0.1", port).close()


# ---------------------------------------------------------------------------------------------------- fuzzing

# Long enough for a busy machine: most streams end by themselves, and the deadlines have their own tests.
BRIEF = Timing(association_s=10, idle_s=10, network_s=1)


def _pdvs():
    context = st.sampled_from([1, 3, 5, 0, 255])
    control = st.one_of(st.sampled_from([0, 1, 2, 3]), st.integers(0, 255))
    body = st.one_of(
        st.just(echo_rq()), st.just(store_rq()), st.just(cancel_rq(1)), st.binary(max_size=200), st.just(bytes(5000))
    )
    length = st.one_of(st.none(), st.none(), st.integers(0, 20), st.integers(0, 0xFFFFFFFF))
    return st.builds(lambda c, k, d, n: pdv(c, k, d, length=n), context, control, body, length)


STREAMS = st.lists(
    st.one_of(
        st.builds(lambda pdvs: p_data(*pdvs), st.lists(_pdvs(), max_size=4)),
        st.builds(lambda pdvs, n: p_data(*pdvs, length=n), st.lists(_pdvs(), max_size=2), st.integers(0, 0xFFFFFFFF)),
        st.builds(pdu, st.integers(0, 255), st.binary(max_size=100)),
        st.sampled_from([release_rq(), abort(), associate_rq([ECHO])]),
        st.binary(max_size=50),
    ),
    max_size=6,
)


@given(streams=st.lists(STREAMS, min_size=1, max_size=4), shut=st.booleans())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_stream_of_bytes_hangs_the_server_or_stays(fuzzed, streams, shut):
    with fuzzed.peer(ECHO, CT) as other:
        peers = [fuzzed.peer(ECHO, CT) for _ in streams]
        for peer, stream in zip(peers, streams, strict=True):
            try:
                peer.send(*stream)
                if shut:
                    peer.socket.shutdown(socket.SHUT_WR)
            except ConnectionError:
                pass
        assert other.echo() == 0
        for peer in peers:
            if shut:
                peer.until_closed()
            peer.socket.close()
        other.release()
    ended(fuzzed)


@pytest.fixture
def fuzzed(start_server, monkeypatch, caplog):
    monkeypatch.setattr("backup_scp.dimse.upper_layer.association_control._LINGER_S", 0.05)
    yield start_server(timing=BRIEF)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@given(request=st.binary(max_size=400), keep=st.integers(0, 250))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_association_request_hangs_the_server_or_stays(fuzzed, request, keep):
    good = associate_rq([ECHO, CT])
    stream = good[6 : 6 + keep] + request
    with Peer(fuzzed.port) as peer:
        try:
            peer.send(pdu(1, stream))
            peer.socket.shutdown(socket.SHUT_WR)
        except ConnectionError:
            pass
        peer.until_closed()
    ended(fuzzed)
