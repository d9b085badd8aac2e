"""What all benchmarks share."""

import gc

import numpy as np
import pytest


@pytest.fixture(scope="session", autouse=True)
def settled_process():
    """Raise glibc's thresholds, for all contestants alike.

    Otherwise it hands the pages of large temporaries back to the system and faults them in anew,
    which costs more than the difference to be measured.
    """
    array = np.empty((32 << 20) // 8 - 1024)
    array[:] = 0
    del array
    # The collector is to look at the work's objects, not at those of the test runner.
    gc.collect()
    gc.freeze()
