"""The power cut program: `make test-power`, and a short run by tests/system/test_power_cut.py.

A kill loses nothing that the kernel knows; a power cut loses what was not flushed. Two ways to make one:

- `cutting`: at a random moment the file system is shut down without its log being flushed, under a node at work.
- `crash_points`: every write and flush of the block device is logged, and the disk is built anew as it may have been at
  any point of the log, with what was not flushed dropped, partly written or torn.

The program needs root: it mounts file systems, in a mount namespace of its own, which goes with it.
"""
