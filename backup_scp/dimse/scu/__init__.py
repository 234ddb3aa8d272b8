"""The services that the node uses as SCU, one file each (PS3.4).

It imports ``association`` and the rooms below it.
"""
