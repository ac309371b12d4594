// The unmodified kernels, compiled for the CPU; build.py puts the contract before them.
#include "cuda_shim.h"
#include "../../cuda/density.cu"

SHIM_EXPORT(density)
SHIM_EXPORT(density_aligned)
SHIM_EXPORT(density_tangent)
SHIM_EXPORT(density_tangent_aligned)
SHIM_EXPORT(density_tangent_tangent)
SHIM_EXPORT(density_tangent_tangent_aligned)
SHIM_EXPORT(density_backward)
SHIM_EXPORT(density_backward_backward)
SHIM_EXPORT(density_relevance)
SHIM_EXPORT(radii_sum)
SHIM_EXPORT(weight_bits)
SHIM_EXPORT(list_cells)
