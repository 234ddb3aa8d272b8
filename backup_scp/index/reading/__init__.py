"""Answers queries: conditions as SQL, the rows of an answer, the index as it was at a moment.

It imports ``writing`` and what stands below it.
"""
