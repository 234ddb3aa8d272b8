"""Establish Associations, and pass their requests to services: ports, callers, limits, negotiation, messages.

It imports ``messages`` and ``upper_layer`` only (PS3.8 9, PS3.7 8 and D.3).
"""
