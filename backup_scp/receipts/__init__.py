"""Receipts: what a restore or a recovery did, as a file to keep or to sign; and the disaster plan, for the wall.

It knows neither archive nor index: a command hands over a ``Receipt``.  It may import ``machine`` and ``errors`` only.
"""
