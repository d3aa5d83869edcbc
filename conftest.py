"""Settings of the whole suite, notebooks included."""

import os

# Two test processes share the cores, and each starts commands of its own: with a thread a core in every one of them
# they wait for each other (a notebook of 80 s took 340 s).
os.environ.setdefault("OMP_NUM_THREADS", "1")
