"""resnetcli: train, evaluate, inspect and predict with a small ResNet-50 on CIFAR-10-sized images."""

import os as _os

from resnetcli.surroundings import keep_torch_out_of_the_current_folder as _keep_torch_out

__version__ = "0.1.0"

# How often a waiting thread of GNU OpenMP, which torch's Linux wheels carry, spins before it goes to sleep. By default
# 300,000 times, on the very core that the thread it waits for may need: beside one other busy process two threads then
# run at a fraction of their speed (measured by examples/benchmarks/busy_neighbour.py). OpenMP reads the variable when
# torch is loaded, and the processes that are started from this one inherit it. Hence here, in front of everything; a
# program that imports torch before this package has to set it by itself. Whoever has chosen how OpenMP waits keeps the
# choice.
if "OMP_WAIT_POLICY" not in _os.environ:
    _os.environ.setdefault("GOMP_SPINCOUNT", "2000")

_keep_torch_out()
