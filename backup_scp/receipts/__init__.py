"""Papers: what a restore or a recovery did, to keep or to sign; the disaster plan, for the wall; a study's pictures.

It knows neither archive nor index: others hand over a ``Receipt``, a ``Page`` or a ``PictureDocument``.  It may import
``ports``, ``machine`` and ``errors`` only.
"""
