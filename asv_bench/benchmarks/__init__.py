"""Benchmarks of gridgrad, run by asv."""
