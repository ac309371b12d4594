"""The compiled kernels on the CPU and on the GPU, called by address."""
