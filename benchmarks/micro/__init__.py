"""The kernels of `saq._speedups`, each self on its own: times (`make bench`) and ratios (`ratio.py`)."""
