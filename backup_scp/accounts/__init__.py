"""Who may log in, in a database of its own: what is here cannot be made again from the files (docs/adr/0062).

Only this room and ``index`` use SQLAlchemy and alembic.  It imports ``ports``, ``machine`` and ``errors`` only.
``SQLAccounts`` implements ``ports.Accounts``.
"""
