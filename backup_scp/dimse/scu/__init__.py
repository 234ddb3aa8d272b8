"""The services that the node uses at others, one file each (PS3.4).

It imports ``association`` and what stands below it.
"""
