"""The index's database server hangs: senders get an error in time, and the node continues when it answers again."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor

from backup_scp.archive.filesystem import FilesystemArchive
from backup_scp.index.connection import postgresql_engine
from backup_scp.index.connection.database import index_url
from backup_scp.index.connection.migrate import upgrade
from backup_scp.index.sql_index import SQLIndex
from tests import samples
from tests.dimse.conftest import OpenStores, associations_ended
from tests.dimse.test_storage_scp import CT, SAMPLE, store
from tests.dimse.wire import EXPLICIT
from tests.processes import LOOPBACK
from tests.relay import Relay

SENDERS = 8


def test_c_store_is_refused_and_taken_again_later(start_server, tmp_path, recorder, monkeypatch, postgres_url):
    monkeypatch.setattr(postgresql_engine, "ANSWER_S", 0.5)
    monkeypatch.setattr(postgresql_engine, "CONNECT_S", 2)
    upgrade(postgres_url)
    url = index_url(postgres_url)
    images = [samples.encode(ds, EXPLICIT) for ds in samples.ct_series(SENDERS)]
    with contextlib.ExitStack() as stack:
        relay = stack.enter_context(Relay((url.host or LOOPBACK, url.port or 5432)))
        index = stack.enter_context(contextlib.closing(SQLIndex(str(url.set(host=LOOPBACK, port=relay.port)))))
        archive = FilesystemArchive(tmp_path / "archive")
        node = start_server(OpenStores(tmp_path / "archive", archive, index, recorder).services())
        pool = stack.enter_context(ThreadPoolExecutor(SENDERS))

        def send(image):
            with node.peer(CT) as peer:
                answer = store(peer, image)
                peer.release()
                return answer

        assert send(SAMPLE).status == 0
        relay.swallows = True
        answers = list(pool.map(send, images))
        assert [answer.status for answer in answers] == [0xA700] * SENDERS
        assert all("index" in answer.comment for answer in answers)
        associations_ended()
        relay.swallows = False
        assert [answer.status for answer in pool.map(send, images)] == [0] * SENDERS
        assert index.holdings().versions == 1 + SENDERS
        node.server.stop(0)
