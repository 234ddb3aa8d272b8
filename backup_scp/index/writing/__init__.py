"""Add versions of images to the index: their rows, which version answers, one commit for several threads.

It imports ``connection`` and ``schema`` only.
"""
