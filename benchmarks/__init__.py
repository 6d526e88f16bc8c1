"""Ratios that scripts print, each as `python -m benchmarks.<name>`."""

import stages  # noqa: F401  # before NumPy, whose kernels it chooses
