"""The state of node and archive: what ``status`` and ``check`` report, and whether a person must act.

``facts`` collects facts, ``findings`` derives from them what a person should do.  Sentences, exit code and JSON come
from one list of findings, so that they cannot disagree.
"""
