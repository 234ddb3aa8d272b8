"""The services that the node provides as SCP, one file each (PS3.4).

It may import every other room of ``dimse``.
"""
