"""The count of Associations over the processes of a node."""

from __future__ import annotations

import copy

from backup_scp.dimse.association import association_count as places_module
from backup_scp.dimse.association.association_count import SharedCount


def test_places_are_counted_in_all_and_for_each_peer():
    places = SharedCount()
    for peer in ("A", "B", "A", "C"):
        places.take(peer)
    places.leave("A")
    assert (places.total, [places.taken_by(peer) for peer in "ABCD"]) == (3, [1, 1, 1, 0])
    for peer in "CBA":
        places.leave(peer)
    assert (places.total, [places.taken_by(peer) for peer in "ABC"]) == (0, [0, 0, 0])


def test_processes_count_together_and_one_that_ended_counts_no_more():
    places = SharedCount(3)
    places.take("A")
    other = copy.copy(places)  # as in a process that has come of this one: the memory is the same
    other._here = []
    other.begin(2)
    other.take("A")
    other.take("B")
    for each in (places, other):
        assert (each.total, each.taken_by("A"), each.taken_by("B")) == (3, 2, 1)
    other.begin(2)
    assert (places.total, places.taken_by("A")) == (1, 1)


def test_more_than_are_told_apart_are_counted_nevertheless(monkeypatch):
    monkeypatch.setattr(places_module, "_MOST_TOLD_APART", 2)
    places = SharedCount(2)
    for peer in "AABB":
        places.take(peer)
    assert (places.total, places.taken_by("A"), places.taken_by("B")) == (4, 2, 0)
    places.leave("A")
    places.leave("A")
    assert (places.total, places.taken_by("B")) == (2, 2)
