"""How the node and its archive are: what ``status`` and ``check`` say, and whether a person must act.

``facts`` gathers what is known, ``findings`` derives from it what somebody should do.  Sentences, exit code and JSON
come from one list of findings, so that they cannot disagree.
"""
