"""Tests of the channels of alerts, with real servers on loopback."""
