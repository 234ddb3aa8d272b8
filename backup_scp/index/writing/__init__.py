"""Enters versions of images: the rows of one, which version answers, one commit for several threads.

It imports ``connection`` and ``schema`` only.
"""
