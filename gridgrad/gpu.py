"""The GPU, as users meet it: whether it can be used, through what, and what its kernels reported.

The kernels themselves are in gridgrad.kernels.gpu.
"""

from gridgrad.kernels.gpu.streams import availability, check, parts

__all__ = ["availability", "check", "parts"]
