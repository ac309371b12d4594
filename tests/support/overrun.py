"""Make a kernel write past the end of an array, which a build with AddressSanitizer must notice.

``--cuda``: the CUDA kernels, compiled for the CPU.
"""

import sys

import torch

import gridgrad as gg
from gridgrad.autograd.ops import Call

if "--cuda" in sys.argv:
    from cuda_on_cpu import plugin

    plugin.pytest_configure()
coords, types, radii = torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64), torch.ones(4)
call = Call(coords, types, radii, None, None, gg.GridMaker(1.0, 3.0).spec, (0.0, 0.0, 0.0), 1)
grid = torch.empty(1, 4, 4, 3)  # a plane short
call.launch("density", (), (grid,))
print("seen by nobody")
