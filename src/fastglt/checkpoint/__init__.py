"""Checkpoints of a run: what they hold, how they lie on the disk, and going on from one.

:func:`fastglt.checkpoint.folder.opened` begins; importing this package imports nothing heavy.
"""
