"""Kernels of our own, compiled on the machine where they run."""
