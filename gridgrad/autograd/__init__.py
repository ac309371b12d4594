"""The kernels as functions of torch: arguments checked, operators by device, derivatives, vmap."""
