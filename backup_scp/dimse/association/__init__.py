"""Establish Associations: ports, callers, limits, negotiation (PS3.8 9, PS3.7 D.3).

It imports ``messages`` and ``upper_layer`` only.
"""
