"""The services that the node offers, one file each (PS3.4).

It may import every other room of ``dimse``.
"""
