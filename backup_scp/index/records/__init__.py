"""What the node keeps beside the images: commitments, tasks, rejections, verification, the archive's state.

It imports ``reading`` and what stands below it.
"""
