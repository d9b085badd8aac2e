"""`detect_anomaly` stops at the first number that has gone bad, and says where."""

import warnings

import numpy as np
import pytest

import tinygrad_stab as tg
from tinygrad_stab.core.mode import mode
from tinygrad_stab.errors import AnomalyError, BroadcastWarning

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def leaf(data, **kwargs):
    return tg.tensor(data, requires_grad=True, **kwargs)


def stopped(work, match):
    with pytest.raises(AnomalyError, match=match) as caught, tg.detect_anomaly():
        work()
    assert mode.recording is True
    return str(caught.value)


def test_the_first_bad_result_is_named_with_path_line_and_ranges():
    x = leaf([-1.0, 4.0], name="x")

    def work():
        y = x * 2.0
        z = tg.log(y)  # here
        return tg.exp(z)

    words = stopped(work, r"^log: a result must be finite; NaN at 1 of 2 elements")
    assert "z = tg.log(y)  # here" in words and "x (multiply) (2,) from -2 to 8" in words
    assert "choose twice: where(ok, f(where(ok, x, 1)), 0)" in words


def test_infinities_too():
    stopped(lambda: tg.exp(leaf(800.0)), r"exp: .* inf at 1 of 1")


def test_inside_a_model_the_module_is_named():
    net = tg.nn.Sequential(tg.nn.Linear(2, 2, rng=0), tg.nn.ReLU())
    net[0].weight.data[0, 0] = np.nan
    assert "at 0.linear" in stopped(lambda: net(np.ones((1, 2))), "linear: a result must be finite")


def test_a_gradient_that_goes_bad_though_every_value_is_good():
    y = leaf([0.0, 4.0], name="y")
    y.grad = np.array([7.0, 7.0])

    def work():
        tg.sum(tg.where(y.data > 0, tg.sqrt(y), 0.0)).backward()

    words = stopped(work, r"sqrt, backward: the gradient for x must be finite; NaN at 1 of 2")
    assert "∂L/∂out from 0 to 1" in words
    np.testing.assert_array_equal(y.grad, [7.0, 7.0])  # as it was

    with tg.detect_anomaly():  # the remedy that it suggests
        ok = y.data > 0
        tg.sum(tg.where(ok, tg.sqrt(tg.where(ok, y, 1.0)), 0.0)).backward()
    np.testing.assert_array_equal(y.grad, [7.0, 7.25])


def test_silent_underflow_forward():
    stopped(lambda: leaf(1e-200) * 1e-200, "multiply: a result must not vanish in silence; 1 of 1")
    stopped(lambda: tg.exp(leaf([-1.0, -800.0])), "1 of 2 elements underflow to exactly 0")
    stopped(lambda: tg.matmul(leaf([[1e-200]]), np.array([[1e-200]])), "matmul: .* vanish")
    small = leaf(np.float32(1e-30))
    stopped(lambda: small * small, "multiply: a result must not vanish")


def test_silent_underflow_backward():
    net = tg.nn.Sequential(
        *[m for i in range(100)
          for m in (tg.nn.Linear(16, 16, rng=i, dtype=np.float32), tg.nn.Sigmoid())]
    )  # fmt: skip
    x = np.ones((2, 16), np.float32)
    words = stopped(lambda: net(x).sum().backward(), "backward: .* must not vanish in silence")
    assert "Scale the loss up, or compute in float64" in words
    net(x).sum().backward()
    assert not np.any(net[0].weight.grad)  # what it warned of


@pytest.mark.parametrize(
    "work",
    [
        lambda x: tg.sum(tg.relu(x)),
        lambda x: tg.sum(x - x),
        lambda x: tg.sum(x * np.array([0.0, 1.0, 0.0])),
        lambda x: tg.sum(tg.maximum(x, 0.0) * 1e-3),
        lambda x: tg.nn.functional.cross_entropy(x[None], np.array([1])),
        lambda x: tg.sum(tg.tril(np.ones((3, 3)) * x)),
    ],
)
def test_zeros_that_are_exact_are_no_anomaly(work):
    x = leaf([-1.0, 0.0, 2.0])
    with tg.detect_anomaly():
        work(x).backward()
    assert x.grad is not None


def test_a_column_against_a_row_is_warned_of():
    prediction, target = leaf(np.ones((3, 1))), np.ones(3)
    with tg.detect_anomaly():
        with pytest.warns(BroadcastWarning, match=r"subtract: shapes \(3, 1\) and \(3,\)"):
            tg.mean((prediction - target) ** 2)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            tg.mean((prediction - target[:, None]) ** 2)
            tg.linear(prediction, np.ones((2, 1)), np.ones(2))


def test_outside_nothing_is_checked():
    assert np.isnan(tg.log(leaf(-1.0)).data)


def test_it_nests_with_no_grad_and_enable_grad():
    x = leaf(-1.0)
    with tg.detect_anomaly():
        with tg.no_grad():
            assert np.isnan(tg.log(x).data)
        with tg.enable_grad(), pytest.raises(AnomalyError):
            tg.log(x)


# What was found by a hostile reader.


@pytest.mark.parametrize(
    "work",
    [
        lambda: tg.nn.functional.cross_entropy(leaf([[20.0, 0, 0]], dtype=np.float32), [0]),
        lambda: tg.nn.functional.cross_entropy(leaf([[40.0, 0, 0]]), [0]),
        lambda: tg.sum((x := leaf(np.random.default_rng(3).normal(size=7))) - tg.mean(x)),
        lambda: leaf(np.float32([0.1])) - 0.1,
        lambda: tg.softmax(leaf([1000.0, 0.0, 0.0])),
        lambda: tg.softmax(leaf([1.0, 2.0]) + np.array([0.0, -np.inf])),
        lambda: tg.softmax(tg.where(np.array([True, False]), leaf([1.0, 2.0]), -np.inf)),
    ],
)
def test_ordinary_saturation_and_masks_are_no_anomaly(work):
    with tg.detect_anomaly():
        tg.sum(work()).backward()


def test_training_to_the_end_is_no_anomaly():
    data = tg.datasets.digits()
    x, labels = data.features()[:60].astype(np.float32), data.labels[:60]
    net = tg.nn.Sequential(
        tg.nn.Linear(64, 32, rng=0, dtype=np.float32), tg.nn.ReLU(),
        tg.nn.Linear(32, 10, rng=1, dtype=np.float32),
    )  # fmt: skip
    sgd = tg.optim.SGD(net.parameters(), lr=0.5)
    with tg.detect_anomaly():
        for _ in range(300):
            sgd.zero_grad()
            tg.nn.functional.cross_entropy(net(x), labels).backward()
            sgd.step()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_large_gradients_and_other_types(dtype):
    x = tg.tensor([-1.0, 2.0], requires_grad=True, dtype=dtype)
    with tg.detect_anomaly():
        (tg.relu(x).sum() * (1e3 if dtype == np.float16 else 1e20)).backward()


def test_a_sum_that_overflows_is_seen():
    x = leaf([1.0, 1.0])

    def work():
        tg.stack([x * 1.0, x * 1.0]).backward(np.full((2, 2), 1.7e308))

    stopped(work, "backward: the gradient for .* must be finite; inf")


def test_functional_transforms_are_observed_too():
    stopped(
        lambda: tg.grad(lambda x: tg.sum(tg.sqrt(x)))([0.0, 1.0]), "sqrt, backward: .* inf at 1"
    )
    with tg.detect_anomaly():
        tg.hessian(lambda x: tg.sum(tg.exp(x) * x))(np.array([0.5, 1.0]))


def test_record_inside_keeps_the_detector_and_so_does_enable_grad():
    with tg.detect_anomaly():
        with tg.inspection.record(), pytest.raises(AnomalyError):
            tg.log(leaf(-1.0))
        with tg.no_grad(), tg.enable_grad(), pytest.raises(AnomalyError):
            tg.log(leaf(-1.0))


def test_a_decorator_shared_by_threads_leaves_each_its_own_mode():
    import threading

    inside, go_on, seen = threading.Event(), threading.Event(), {}

    @tg.no_grad()
    def work(name):
        if name == "A":
            inside.set()
            go_on.wait(5)

    def a():
        work("A")
        seen["A"] = mode.recording

    thread = threading.Thread(target=a)
    thread.start()
    inside.wait(5)
    with tg.no_grad():
        work("B")
        go_on.set()
        thread.join()
        seen["B"] = mode.recording
    assert seen == {"A": True, "B": False} and mode.recording is True
