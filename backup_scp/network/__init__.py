"""The DIMSE edge: the only user of pynetdicom.

Read in this order: ``server`` accepts a connection, ``negotiation`` answers the Association request, ``association``
reads and writes DIMSE messages over ``upper_layer``, ``services`` says which service answers which request.
"""
