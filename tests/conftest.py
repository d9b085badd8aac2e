"""Settings for the whole suite."""

import os
import signal

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from tinygrad_stab.core.mode import mode
from tinygrad_stab.datasets import DATA_VARIABLE

# Machines differ in speed; a slow one must not turn a property into a failure.
settings.register_profile(
    "suite", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("suite")

# A suite that was started in the background may have been told to ignore Ctrl-C; what it starts
# would inherit that, and some tests press Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def rng():
    return np.random.default_rng(12345)


@pytest.fixture(autouse=True)
def leaves_no_trace():
    """No test may leave the engine switched off, or in the middle of a module."""
    yield
    assert mode.recording and mode.scope is None


@pytest.fixture(scope="session")
def mnist():
    """MNIST's training and test set, where they are at hand."""
    if not os.environ.get(DATA_VARIABLE):
        pytest.skip(f"needs MNIST: set {DATA_VARIABLE} to a directory with mnist/*.gz in it")
    from tinygrad_stab.datasets import mnist

    return mnist()
