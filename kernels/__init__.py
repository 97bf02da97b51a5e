"""Numba kernels: arrays in, arrays out.

A kernel is a small pure function over NumPy arrays. Kernels never touch files, zarr, logging or the
domain types of :mod:`tracer`; those belong to the layers above. Every kernel is compiled through
:mod:`tracer.kernels._jit`.
"""
