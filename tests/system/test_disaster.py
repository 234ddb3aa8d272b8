"""A disaster: restore 2,016 images to a console that refuses, fills up, restarts, hangs and is replaced."""

from __future__ import annotations

import dataclasses
import struct
import threading
from collections import Counter

import pytest
from pydicom.uid import (
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    UltrasoundImageStorage,
)

from tests.processes import Process, wait_until
from tests.samples import ct_series, dx, encode, replace
from tests.stored import stored_in
from tests.system.console import Console
from tests.system.peers import StoreSCP

STUDIES, SLICES = 63, 32
ODD_ELEMENT = struct.pack("<HH2s2xL", 0xFFFC, 0xFFFC, b"OB", 1) + b"x"
CT, DX, US = map(str, (CTImageStorage, DigitalXRayImageStorageForPresentation, UltrasoundImageStorage))


@pytest.fixture
def filled(make_node):
    """Return a node, not started, that holds 2,016 images of 64 studies, and their samples; one is an ultrasound."""
    node = make_node(settings={"node": {"network_timeout_s": 1}})
    node.home.mkdir(parents=True)
    samples = []
    with stored_in(node.home) as stored:
        for study in range(STUDIES):
            date = f"2026{study % 12 + 1:02}{study % 28 + 1:02}"
            slices = ct_series(SLICES if study else SLICES - 1, study=str(study))
            samples += [encode(replace(ds, StudyDate=date, PatientID=f"PID{study}")) for ds in slices]
        odd_one = replace(dx(study="us"), SOPClassUID=US, Modality="US", PatientName="DOE^JANE", PatientID="US7")
        samples.append(encode(odd_one))
        for sample in samples:
            stored.put(sample)
    return node, samples


class BadDay:
    """What happens to a console, by the number of images that it has taken."""

    def __init__(self, breaks_off_at: set[str]) -> None:
        self.breaks_off_at = breaks_off_at
        self.refused = 0
        self.hung = self.has_restarted = False
        self.is_down = threading.Event()

    def __call__(self, console: Console, uid: str) -> int | None:
        count = len(console.taken)
        if count == 500 and self.refused < 4:
            self.refused += 1
            return 0xA700
        if count == 900 and not self.has_restarted:
            self.has_restarted = True
            threading.Thread(target=self._go_down, args=(console,)).start()
            self.is_down.wait(30)
            console.event.assoc.abort()
            return 0xC000  # which nobody hears
        if count == 1200 and not self.hung:
            self.hung = True
            console.let_go.wait(60)
            return 0xC000
        if uid in self.breaks_off_at:
            console.event.assoc.abort()
            return 0xC000
        return None

    def _go_down(self, console: Console) -> None:
        console.stop()
        self.is_down.set()


@pytest.mark.timeout(600)
def test_a_console_that_refuses_fills_up_restarts_hangs_and_is_replaced(filled, processes, tmp_path):
    node, samples = filled
    uids = [sample.sop_instance_uid for sample in samples]
    assert len(uids) == len(set(uids)) == 2016
    day = BadDay(set(uids[1000:1003]))
    with Console([CT, DX], day, finds=True) as console:
        node.remotes = [console.remote]
        node.write_settings()

        # 1. Unattended, as at night
        process = Process(node._argv("restore", "--to", "console", "--all"), tmp_path / "restore.log", node.env)
        processes.add(process)
        process.launch(day.is_down.is_set, 300)
        wait_until(lambda: "CONSOLE at" in process.output, what="the word that it is down")
        console.start()
        assert process.wait(300) == 1
        assert process.terminate() == 1  # it has ended by itself, as it was to
        console.let_go.set()
        said = process.output
        assert "status 0xA700" in said  # in words, while it waited
        assert "cannot be reached" in said
        assert "It continues" in said
        assert "2,012 of 2,016 images are on console. 4 are not" in said
        assert "console does not accept Ultrasound Image Storage" in said
        assert "DOE^JANE (US7), study of " in said
        assert "3 images not sent: CONSOLE broke off the association" in said
        assert "Nothing was lost" in said
        assert sorted(console.taken) == sorted(set(uids) - set(uids[1000:1003]) - {uids[-1]})
        assert max(Counter(console.taken).values()) == 1
        assert day.refused == 4  # of 1,516 that there was no room for

        # 2. The same command again: only what is missing, and the same answer
        console.asked.clear()
        again = node.json("restore", "--to", "console", "--all", exit_code=1)
        assert (again["confirmed_before"], again["sent"], again["missing_images"]) == (2012, 0, 4)
        assert set(console.asked) == set(uids[1000:1003])
        us = next(one for one in again["missing"] if one["modality"] == "US")
        assert (us["patient_id"], us["sop_class"], us["images"]) == ("US7", "Ultrasound Image Storage", 1)

        # 3. It dies, and an empty one takes its place, with its name and address: it says that it has nothing
        day.breaks_off_at.clear()
        console.replace()
        console._takes.append(US)
        console.stop()
        console.start()
        new = node.json("restore", "--to", "console", "--all")
        assert (new["no_longer_there"], new["confirmed_before"], new["sent"]) == (2012, 0, 2016)
        assert sorted(console.taken) == sorted(uids)

        # 4. Nothing is left to do, and it says since when
        done = node.cli("restore", "--to", "console", "--all")
        assert "All 2,016 images that were asked for are on console" in done.stdout
        assert "2,016 confirmed by console from 20" in done.stdout
        assert len(console.taken) == 2016


def test_odd_lengths_reach_what_is_built_on_dcmtk(make_node, processes, tmp_path):
    """dcmtk breaks off at a fragment of odd length: three of them ended a whole restore, on each run."""
    node = make_node()
    node.home.mkdir(parents=True)
    odd = [encode(ds) for ds in ct_series(3, study="odd")]
    odd = [dataclasses.replace(one, data_set=one.data_set + ODD_ELEMENT) for one in odd]
    even = [encode(ds) for ds in ct_series(3, study="even")]
    with stored_in(node.home) as stored:
        for sample in [*odd, *even]:
            stored.put(sample)
    storescp = StoreSCP(tmp_path / "storescp")
    processes.add(storescp.process)
    storescp.start()
    node.remotes = [storescp.remote]
    node.write_settings()
    done = node.json("restore", "--to", storescp.remote.name, "--all")
    assert (done["sent"], done["complete"]) == (6, True)
    padded = [one.data_set[:-5] + struct.pack("<L", 2) + b"x\0" for one in odd]
    assert storescp.data_sets() == sorted([*padded, *(one.data_set for one in even)])
    storescp.stop()
