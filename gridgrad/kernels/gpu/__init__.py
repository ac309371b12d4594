"""The CUDA kernels: compiled, loaded and launched. Only `streams` knows torch."""
