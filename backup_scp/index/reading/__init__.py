"""Answer queries: conditions as SQL, the rows of an answer, the index as of a time.

It imports ``writing`` and the rooms below it.
"""
