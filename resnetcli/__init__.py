"""resnetcli: train, evaluate, inspect and predict with a small ResNet-50 on CIFAR-10-sized images."""

import os as _os

__version__ = "0.1.0"

# How often a thread of GNU OpenMP, which torch's Linux wheels carry, looks for work before it goes to sleep. By default
# it looks on for milliseconds, on the very core that the thread it waits for may need: two threads beside one other
# busy process then run at a sixth of their speed (examples/benchmarks/busy_neighbour.py). OpenMP reads the variable
# when torch is loaded, and the processes that are started from this one inherit it; hence here, in front of everything.
# Whoever has chosen how OpenMP waits keeps the choice.
if "OMP_WAIT_POLICY" not in _os.environ:
    _os.environ.setdefault("GOMP_SPINCOUNT", "2000")
