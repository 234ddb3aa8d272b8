"""The node's other records: commitments, tasks, rejections, verification, the archive's state.

It imports ``reading`` and the rooms below it.
"""
