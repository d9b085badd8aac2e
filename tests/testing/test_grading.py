"""Mistakes planted in gradients worked out by hand, and found again under their right names."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_stab as tg
from tinygrad_stab.core.backward import contribution
from tinygrad_stab.errors import ArgumentError, DtypeError, GraphError, ShapeError
from tinygrad_stab.testing.grading import Grade, Grades, compare

F = tg.nn.functional
N = 6  # examples


def classifier(seed=0, n=N, sizes=(4, 5, 3)):
    """A network with cross-entropy, and all of its gradients in plain NumPy."""
    rng = np.random.default_rng(seed)
    i, h, o = sizes
    net = tg.nn.Sequential(tg.nn.Linear(i, h, rng=rng), tg.nn.Tanh(), tg.nn.Linear(h, o, rng=rng))
    x, labels = rng.standard_normal((n, i)), rng.integers(0, o, n)
    loss = F.cross_entropy(net(x), labels)

    w1, b1, w2, b2 = (p._value for p in net.parameters())
    a = np.tanh(x @ w1.T + b1)
    e = np.exp(a @ w2.T + b2)
    p = e / e.sum(axis=1, keepdims=True)
    t = np.eye(o)[labels]
    dz2 = (p - t) / n
    da = dz2 @ w2
    dz1 = da * (1 - a**2)
    right = {
        "mean": np.array(1.0),
        "softmax_cross_entropy": np.full(n, 1 / n),
        "2.linear": dz2,
        "1.tanh": da,
        "0.linear": dz1,
        "2.weight": dz2.T @ a,
        "2.bias": dz2.sum(axis=0),
        "0.weight": dz1.T @ x,
        "0.bias": dz1.sum(axis=0),
    }
    return net, loss, right, {"x": x, "a": a, "p": p, "t": t, "w1": w1, "w2": w2}


NET, LOSS, RIGHT, SEEN = classifier()
X, A, P, T, W2 = (SEEN[k] for k in ("x", "a", "p", "t", "w2"))
DZ2, DA, DZ1 = RIGHT["2.linear"], RIGHT["1.tanh"], RIGHT["0.linear"]


def reasons(student, loss=LOSS, model=NET, **options):
    return {name: g.reason for name, g in compare(student, loss, model, **options).nodes.items()}


def leaf(rng, shape, name):
    return tg.tensor(rng.standard_normal(shape), requires_grad=True, name=name)


# --- what is right


def test_a_whole_network_worked_out_by_hand_is_right():
    grades = compare(RIGHT, LOSS, NET)
    assert grades.passed
    assert list(grades.nodes) == [
        "mean", "softmax_cross_entropy", "2.linear", "1.tanh", "0.linear",
        "2.bias", "2.weight", "0.bias", "0.weight",
    ]  # fmt: skip
    assert all(g.reason == "" and g.error < 1e-13 for g in grades.nodes.values())


@pytest.mark.parametrize("name", list(RIGHT))
def test_each_gradient_alone_is_right(name):
    assert compare({name: RIGHT[name]}, LOSS, NET).passed
    assert not compare({name: RIGHT[name] * 1.001}, LOSS, NET).passed


@given(st.integers(0, 10**6), st.integers(1, 5), st.tuples(*[st.integers(1, 4)] * 3))
def test_right_gradients_of_random_networks_pass(seed, n, sizes):
    net, loss, right, _ = classifier(seed, n, sizes)
    assert compare(right, loss, net).passed
    loss.backward()
    named = tg.inspection.intermediates(loss, net)
    assert compare({name: t.grad for name, t in named.items()}, loss, net).passed


def test_lists_tensors_and_integers_are_taken():
    x = tg.tensor([1.0, 2.0], requires_grad=True, name="x")
    loss = tg.sum(x * 3)
    assert compare({"x": [3, 3]}, loss).passed
    assert compare({"x": tg.tensor([3.0, 3.0])}, loss).passed


def test_what_rounding_alone_changes_is_right(rng):
    """A bias before batch normalisation: its gradient is 0 but for rounding, in any derivation."""
    x, b = rng.standard_normal((50, 4)), leaf(rng, 4, "b")
    loss = tg.sum(tg.square(tg.standardize(x + b, axis=0) - x))
    (engine,) = [t for t in tg.graph(loss) if t.name == "b"]
    loss.backward()
    assert 0 < np.max(np.abs(engine.grad)) < 1e-12, "or it tests nothing"
    assert compare({"b": np.zeros(4)}, loss).passed
    assert compare({"b": -engine.grad[::-1]}, loss).passed
    assert reasons({"b": np.full(4, 1e-3)}, loss, None) == {
        "b": "not zero, as it should be everywhere"
    }


def test_float32_is_held_to_the_rounding_of_float32(rng):
    x = rng.standard_normal((64, 30))
    w = tg.tensor(rng.standard_normal((20, 30)), requires_grad=True, dtype=np.float32, name="w")
    loss = tg.mean(tg.tanh(tg.linear(x.astype(np.float32), w)))
    w64 = w._value.astype(np.float64)
    by_hand = ((1 - np.tanh(x @ w64.T) ** 2) / (64 * 20)).T @ x
    assert compare({"w": by_hand}, loss).passed
    assert reasons({"w": 2 * by_hand}, loss, None) == {"w": "a factor 2 too much"}
    assert not compare({"w": by_hand * 1.0001}, loss).passed


def test_vanishing_gradients_are_compared_like_any():
    x = tg.tensor([1.0, 2.0], requires_grad=True, name="x")
    loss = tg.sum(x * 1e-200)
    assert compare({"x": [1e-200, 1e-200]}, loss).passed
    assert reasons({"x": [0.0, 0.0]}, loss, None) == {"x": "zero everywhere"}
    assert not compare({"x": [1e-200, 2e-200]}, loss).passed


# --- factors, shapes, batches: of the answer itself


@pytest.mark.parametrize(
    ("student", "reason"),
    [
        ({"0.weight": 0 * RIGHT["0.weight"]}, "zero everywhere"),
        ({"0.weight": -RIGHT["0.weight"]}, "wrong sign"),
        ({"2.linear": (T - P) / N}, "wrong sign"),
        ({"0.weight": 2 * RIGHT["0.weight"]}, "a factor 2 too much"),
        ({"0.weight": RIGHT["0.weight"] / 2}, "a factor 2 is missing"),
        ({"0.weight": 1.7 * RIGHT["0.weight"]}, "a factor 1.7 too much"),
        ({"0.weight": RIGHT["0.weight"].T}, "transposed"),
        (
            {"0.weight": RIGHT["0.weight"] + np.eye(5, 4) * [0, 0, 1, 0]},
            "only element (2, 2) differs",
        ),
        (
            {"2.weight": RIGHT["2.weight"] * N},
            "a factor 6 too much, as if summed over the batch instead of averaged",
        ),
        (
            {"2.weight": RIGHT["2.weight"] / N},
            "a factor 6 is missing, as if averaged over the batch instead of summed",
        ),
        (
            {"2.bias": DZ2},
            "forgot to sum over the batch: not summed over axis 0 of length 6",
        ),
        (
            {"2.weight": DZ2[:, :, None] * A[:, None, :]},
            "forgot to sum over the batch: not summed over axis 0 of length 6",
        ),
        ({"2.bias": DZ2[0]}, "forgot to sum over the batch: this is the first of 6 examples only"),
        (
            {"0.weight": np.outer(DZ1[0], X[0])},
            "forgot to sum over the batch: this is the first of 6 examples only",
        ),
        ({"2.bias": DZ2.sum(axis=1)}, "its shape is (6,), but that of the tensor, (3,), is needed"),
        (
            {"0.bias": DZ1.sum(axis=0, keepdims=True)},
            "right numbers in the shape (1, 5) instead of (5,)",
        ),
        (
            {"0.linear": DZ1.sum(axis=0)},
            "summed over axis 0 of length 6, though it should not be",
        ),
        ({"0.weight": SEEN["w1"]}, "this is the value of 0.weight, not its gradient"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_one_answer(student, reason):
    ((name, grade),) = compare(student, LOSS, NET).nodes.items()
    assert not grade.correct
    assert (name, grade.reason) == (next(iter(student)), reason)


@given(
    st.sampled_from(list(RIGHT)),
    st.floats(-100, 100).filter(lambda c: abs(c) > 0.01 and abs(abs(c) - 1) > 0.01),
)
def test_any_factor_is_reported_as_wrong_and_named(name, factor):
    ((_, grade),) = compare({name: factor * RIGHT[name]}, LOSS, NET).nodes.items()
    assert not grade.correct
    assert grade.error == pytest.approx(abs(factor - 1))
    assert grade.reason.startswith("wrong sign, and ") == (factor < 0)
    number = float(grade.reason.split("a factor ")[1].split()[0])
    ratio = number if "too much" in grade.reason else 1 / number
    assert ratio == pytest.approx(abs(factor), rel=1e-3)


def test_a_bias_that_is_added_forgets_its_batch_too(rng):
    x, b = rng.standard_normal((7, 3)), leaf(rng, 3, "b")
    z = x + b
    loss = tg.mean(tg.square(z))
    dz = 2 * z.data / 21
    assert compare({"b": dz.sum(axis=0)}, loss).passed
    forgot = "forgot to sum over the batch: "
    assert reasons({"b": dz}, loss, None)["b"] == forgot + "not summed over axis 0 of length 7"
    first = forgot + "this is the first of 7 examples only"
    assert reasons({"b": dz[0]}, loss, None)["b"] == first
    mean = "a factor 7 is missing, as if averaged over the batch instead of summed"
    assert reasons({"b": dz.mean(axis=0)}, loss, None)["b"] == mean


def test_the_mean_in_a_loss_is_forgotten(rng):
    x = leaf(rng, (3, 5), "x")
    loss = tg.mean(tg.square(x))
    reason = "a factor 15 too much (sum instead of mean over 15?)"
    assert reasons({"x": 2 * x._value}, loss, None) == {"x": reason}


# --- several consumers


def test_a_product_with_itself_is_two_contributions():
    x = tg.tensor([1.0, -2.0, 3.0], requires_grad=True, name="x")
    loss = tg.sum(x * x)
    assert compare({"x": 2 * x._value}, loss).passed
    reason = "forgot one consumer: the contribution through multiply (as its x) is missing"
    assert reasons({"x": x._value}, loss, None) == {"x": reason}


@pytest.fixture
def three_consumers(rng):
    h = leaf(rng, 4, "h")
    a, b, c = tg.tanh(h), tg.exp(h), tg.sin(h)
    parts = {"tanh": 1 - a.data**2, "exp": 2 * b.data, "sin": 3 * np.cos(h._value)}
    return tg.sum(a + 2 * b + 3 * c), parts


@pytest.mark.parametrize(
    ("kept", "reason"),
    [
        (("exp", "sin"), "forgot one consumer: the contribution through tanh is missing"),
        (("tanh", "sin"), "forgot one consumer: the contribution through exp is missing"),
        (("sin",), "forgot 2 consumers: the contributions through tanh and exp are missing"),
        (("tanh", "exp", "sin"), ""),
    ],
)
def test_a_forgotten_consumer_is_named(three_consumers, kept, reason):
    loss, parts = three_consumers
    assert reasons({"h": sum(parts[k] for k in kept)}, loss, None) == {"h": reason}


def test_a_contribution_twice_or_of_the_wrong_sign(three_consumers):
    loss, parts = three_consumers
    right = sum(parts.values())
    twice, minus = right + parts["exp"], right - 2 * parts["sin"]
    assert reasons({"h": twice}, loss, None)["h"] == "the contribution through exp is counted twice"
    assert reasons({"h": minus}, loss, None)["h"] == (
        "the contribution through sin has the wrong sign"
    )


def test_many_consumers(rng):
    h = leaf(rng, 3, "h")
    scales = rng.uniform(1, 2, (30, 3))
    loss = tg.sum(sum((h * s for s in scales[1:]), h * scales[0]))
    found = reasons({"h": scales.sum(axis=0) - scales[16]}, loss, None)
    assert found["h"] == "forgot one consumer: the contribution through multiply#17 is missing"


def test_the_second_use_of_a_shared_weight(rng):
    x, w = rng.standard_normal((5, 3)), leaf(rng, (3, 3), "w")
    first = tg.tanh(tg.linear(x, w))
    second = tg.tanh(tg.linear(first, w))
    loss = tg.sum(second)
    dz2 = 1 - second.data**2
    dz1 = (dz2 @ w._value) * (1 - first.data**2)
    late, early = dz2.T @ first.data, dz1.T @ x
    assert compare({"w": late + early, "linear": dz1, "linear#2": dz2}, loss).passed
    words = "forgot one consumer: the contribution through {} is missing"
    assert reasons({"w": late}, loss, None) == {"w": words.format("linear")}
    assert reasons({"w": early}, loss, None) == {"w": words.format("linear#2")}


def test_the_shortcut_of_a_residual_block(rng):
    x, h = rng.standard_normal((5, 3)), leaf(rng, (5, 3), "h")
    block = tg.nn.Residual(tg.nn.Sequential(tg.nn.Linear(3, 3, rng=0), tg.nn.Tanh()))
    loss = tg.sum(tg.square(block(h) - x))
    loss.backward()
    named = tg.inspection.intermediates(loss, block)
    shortcut = named["add"].grad
    assert reasons({"h": shortcut}, loss, block)["h"] == (
        "forgot one consumer: the contribution through inner.0.linear is missing"
    )
    assert reasons({"h": h.grad - shortcut}, loss, block)["h"] == (
        "forgot one consumer: the contribution through add is missing"
    )


def test_an_array_that_is_joined_with_itself(rng):
    x = leaf(rng, 3, "x")
    loss = tg.sum(tg.concatenate([x, 2 * x, x]) * np.arange(9.0))
    right = np.arange(3) + 2 * np.arange(3, 6) + np.arange(6, 9)
    assert compare({"x": right}, loss).passed
    assert reasons({"x": right - np.arange(6, 9)}, loss, None)["x"] == (
        "forgot one consumer: the contribution through concatenate (as its array 2) is missing"
    )


def test_the_contributions_of_all_consumers_add_up(rng):
    x, y = leaf(rng, (4, 3), "x"), leaf(rng, 3, "y")
    loss = tg.mean(tg.square(tg.concatenate([x * y, x + y, tg.linear(x, x)], axis=1)))
    loss.backward()
    total = {t: np.zeros(t.shape) for t in (x, y)}
    for node in tg.graph(loss):
        for index, arg in enumerate(node.args):
            if any(arg is t for t in total):
                part = contribution(node, index, node.grad)
                assert part.shape == arg.shape
                total[arg] += part
    for t in total:
        np.testing.assert_allclose(total[t], t.grad, rtol=1e-12)


# --- one step


@pytest.mark.parametrize(
    ("student", "reason"),
    [
        (
            {"0.linear": DA},
            "forgot the local derivative of 1.tanh: ∂L/∂1.tanh was passed on unchanged",
        ),
        (
            {"0.linear": DA * (1 - np.tanh(A) ** 2)},
            "the local derivative of 1.tanh was taken at its output, not at its input",
        ),
        (
            {"0.linear": DA * (1 - np.arctanh(A) ** 2)},
            "the local derivative of 1.tanh, written with its output, was given its input",
        ),
        (
            {"2.linear": P / N},
            "forgot to subtract the target from the softmax in the step through "
            "softmax_cross_entropy",
        ),
        # With nothing handed in for the nodes between, the mistake is found on the way.
        (
            {"0.weight": DA.T @ X},
            "on the way, at ∂L/∂0.linear: forgot the local derivative of 1.tanh: "
            "∂L/∂1.tanh was passed on unchanged",
        ),
        (
            {"0.bias": ((P / N) @ W2 * (1 - A**2)).sum(axis=0)},
            "on the way, at ∂L/∂2.linear: forgot to subtract the target from the softmax in the "
            "step through softmax_cross_entropy",
        ),
    ],
)
def test_what_is_wrong_with_a_step(student, reason):
    assert reasons(student) == {next(iter(student)): reason}


def test_the_local_derivative_in_one_branch_only(rng):
    h = leaf(rng, 4, "h")
    loss = tg.sum(3 * tg.tanh(h) + tg.exp(h))
    assert reasons({"h": 3 + np.exp(h._value)}, loss, None)["h"] == (
        "forgot the local derivative of tanh: ∂L/∂tanh was passed on unchanged"
    )


def test_a_scale_that_is_repeated_over_the_batch(rng):
    x, gamma = rng.standard_normal((5, 3)), leaf(rng, 3, "gamma")
    loss = tg.sum(tg.square(x * gamma))
    g = 2 * x * gamma._value
    assert compare({"gamma": (g * x).sum(axis=0)}, loss).passed
    assert reasons({"gamma": g.sum(axis=0)}, loss, None)["gamma"] == (
        "forgot the local derivative of multiply: ∂L/∂multiply was passed on unchanged"
    )


def test_a_transposed_weight(rng):
    h, w = leaf(rng, (5, 3), "h"), leaf(rng, (3, 3), "w")
    linear, product = tg.sum(tg.square(tg.linear(h, w))), tg.sum(tg.square(h @ w))
    g = 2 * h._value @ w._value.T
    assert reasons({"h": g @ w._value.T}, linear, None)["h"] == (
        "w is transposed in the step through linear, though it should not be"
    )
    g = 2 * h._value @ w._value
    assert reasons({"h": g @ w._value}, product, None)["h"] == (
        "w is not transposed in the step through matmul, though it should be"
    )


def test_a_constant_weight_goes_by_the_word_of_the_operation(rng):
    h, w = leaf(rng, (5, 3), "h"), rng.standard_normal((3, 3))
    loss = tg.sum(h @ w)
    assert reasons({"h": np.ones((5, 3)) @ w}, loss, None)["h"] == (
        "y is not transposed in the step through matmul, though it should be"
    )


def test_a_mistake_in_a_network_of_numbers():
    """Where any mistake is some factor, the mistake is named and not the factor."""
    w = tg.tensor(0.7, requires_grad=True, name="w")
    a = tg.tanh(w * 2.0)
    loss = tg.square(a)
    forgot = 2 * a.item() * 2.0
    assert reasons({"w": forgot}, loss, None)["w"] == (
        "on the way, at ∂L/∂multiply: forgot the local derivative of tanh: "
        "∂L/∂tanh was passed on unchanged"
    )
    right = forgot * (1 - a.item() ** 2)
    assert reasons({"w": 1.5 * right}, loss, None)["w"] == "a factor 1.5 too much"


# --- follow-through


def wrong_from_above():
    """Every step right, but for a forgotten 1/n at the top."""
    dz2 = P - T
    da = dz2 @ W2
    dz1 = da * (1 - A**2)
    return {
        "2.linear": dz2, "2.weight": dz2.T @ A, "2.bias": dz2.sum(axis=0),
        "1.tanh": da, "0.linear": dz1, "0.weight": dz1.T @ X, "0.bias": dz1.sum(axis=0),
    }  # fmt: skip


def test_one_mistake_is_not_marked_all_the_way_down():
    found = reasons(wrong_from_above())
    words = "right step, from a wrong ∂L/∂{0}: mend `{0}` first"
    assert found == {
        "2.linear": "a factor 6 too much (sum instead of mean over 6?)",
        "1.tanh": words.format("2.linear"),
        "0.linear": words.format("1.tanh"),
        "2.bias": words.format("2.linear"),
        "2.weight": words.format("2.linear"),
        "0.bias": words.format("0.linear"),
        "0.weight": words.format("0.linear"),
    }


def test_follow_through_goes_through_nodes_that_were_not_handed_in():
    student = {k: v for k, v in wrong_from_above().items() if k in ("2.linear", "0.weight")}
    assert reasons(student)["0.weight"] == (
        "right step, from a wrong ∂L/∂2.linear: mend `2.linear` first"
    )


def test_a_right_answer_below_a_wrong_one_is_right():
    student = {"2.linear": P - T, "0.weight": RIGHT["0.weight"]}
    assert reasons(student)["0.weight"] == ""


def test_follow_through_from_an_arbitrary_gradient(rng):
    dz1 = rng.standard_normal(DZ1.shape)
    found = reasons({"0.linear": dz1, "0.weight": dz1.T @ X, "0.bias": dz1.sum(axis=0)})
    assert found["0.linear"].startswith("no usual mistake explains it; it is off most at element (")
    words = "right step, from a wrong ∂L/∂0.linear: mend `0.linear` first"
    assert found["0.weight"] == found["0.bias"] == words


def test_a_second_mistake_after_a_wrong_gradient(rng):
    dz1 = rng.standard_normal(DZ1.shape)
    found = reasons({"0.linear": dz1, "0.weight": 2 * dz1.T @ X, "0.bias": dz1})
    besides = "; besides, it starts from a wrong ∂L/∂0.linear"
    assert found["0.weight"] == "a factor 2 too much" + besides
    assert found["0.bias"] == (
        "forgot to sum over the batch: not summed over axis 0 of length 6" + besides
    )


def test_follow_through_from_two_gradients(rng):
    h = leaf(rng, 4, "h")
    a, b = tg.tanh(h), tg.exp(h)
    loss = tg.sum(a * b)
    da, db = rng.standard_normal((2, 4))
    follows = da * (1 - a.data**2) + db * b.data
    assert reasons({"tanh": da, "exp": db, "h": follows}, loss, None)["h"] == (
        "right step, from a wrong ∂L/∂exp and ∂L/∂tanh: mend `exp` and `tanh` first"
    )


def test_one_slip_between_the_answers_is_named_once():
    found = reasons({"0.weight": DA.T @ X, "0.bias": DA.sum(axis=0)})
    assert found == {
        "0.bias": "on the way, at ∂L/∂0.linear: forgot the local derivative of 1.tanh: "
        "∂L/∂1.tanh was passed on unchanged",
        "0.weight": "right step, from a wrong ∂L/∂0.linear: mend `0.linear` first",
    }


def test_the_same_slip_in_every_layer(rng):
    """Of three layers only the weights' gradients are there, and tanh′ is forgotten throughout."""
    x = rng.standard_normal((5, 3))
    w1, w2, w3 = (leaf(rng, (3, 3), name) for name in ("w1", "w2", "w3"))
    h1 = tg.tanh(tg.linear(x, w1))
    h2 = tg.tanh(tg.linear(h1, w2))
    loss = tg.sum(tg.linear(h2, w3))
    d3 = np.ones((5, 3))
    d2 = d3 @ w3._value
    d1 = d2 @ w2._value
    found = reasons({"w3": d3.T @ h2.data, "w2": d2.T @ h1.data, "w1": d1.T @ x}, loss, None)
    slip = "on the way, at ∂L/∂{0}: forgot the local derivative of {1}: ∂L/∂{1} was passed on {2}"
    assert found == {
        "w3": "",
        "w2": slip.format("linear#2", "tanh#2", "unchanged"),
        "w1": slip.format("linear", "tanh", "unchanged")
        + "; besides, it starts from a wrong ∂L/∂linear#2",
    }


def test_a_wrong_shape_or_nan_above_does_not_stop_the_marking():
    found = reasons({"0.linear": DZ1.T, "0.weight": RIGHT["0.weight"], "0.bias": DZ1})
    assert found == {
        "0.linear": "transposed",
        "0.weight": "",
        "0.bias": "forgot to sum over the batch: not summed over axis 0 of length 6",
    }
    hole = DZ1.copy()
    hole[1, 2] = np.nan
    found = reasons({"0.linear": hole, "0.weight": hole.T @ X, "0.bias": RIGHT["0.bias"]})
    assert found == {
        "0.linear": "nan at element (1, 2)",
        "0.weight": "right step, from a wrong ∂L/∂0.linear: mend `0.linear` first",
        "0.bias": "",
    }


# --- numbers that are none


def test_nan_and_infinity_are_said():
    student = RIGHT["0.weight"].copy()
    student[1, 2], student[2:4, 3] = np.inf, np.nan
    grade = compare({"0.weight": student}, LOSS, NET).nodes["0.weight"]
    assert grade == Grade(False, "inf at element (1, 2) and at 2 more", np.inf)


def test_a_right_gradient_that_is_not_finite():
    x = tg.tensor([0.0, 1.0], requires_grad=True, name="x")
    loss = tg.sum(tg.sqrt(x))
    assert compare({"x": [np.inf, 0.5]}, loss).passed
    assert reasons({"x": [np.inf, 1.0]}, loss, None)["x"] == (
        "a factor 2 too much (sum instead of mean over 2?)"
    )
    assert reasons({"x": [0.0, 0.5]}, loss, None)["x"] == (
        "the right gradient is inf at element (0): "
        "is there a log of 0, or a division by 0, in the network?"
    )


def test_nearly_right():
    student = RIGHT["0.weight"] + 1e-5 * np.abs(RIGHT["0.weight"]).max() * X[:5] / np.abs(X).max()
    ((_, grade),) = compare({"0.weight": student}, LOSS, NET).nodes.items()
    assert grade.reason.startswith("nearly right: off by ")
    assert compare({"0.weight": student}, LOSS, NET, tolerance=1e-4).passed


# --- what is handed back


def test_the_table():
    grades = compare({"0.bias": RIGHT["0.bias"], "2.bias": -RIGHT["2.bias"]}, LOSS, NET)
    assert not grades.passed
    assert str(grades).splitlines() == [
        "✗ 2.bias  wrong sign", "✓ 0.bias", "1 of 2 gradients are right",
    ]  # fmt: skip


def test_json():
    grades = compare({"0.bias": RIGHT["0.bias"], "2.bias": DZ2}, LOSS, NET)
    again = json.loads(json.dumps(grades.to_dict(), allow_nan=False))
    assert again["passed"] is False
    assert again["nodes"]["2.bias"] == {
        "correct": False,
        "reason": "forgot to sum over the batch: not summed over axis 0 of length 6",
        "error": None,
    }
    assert again["nodes"]["0.bias"]["correct"] is True
    assert not Grades({}).passed, "nothing is not a pass"


# --- what is left alone


def test_nothing_is_changed():
    net, loss, right, _ = classifier(1)
    student = {name: (2 * array).copy() for name, array in right.items()}
    before = {name: array.copy() for name, array in student.items()}
    nodes = tg.graph(loss)
    stamps, values = [t.stamp for t in nodes], [t._value.copy() for t in nodes]
    compare(student, loss, net)
    assert all(t.grad is None for t in nodes)
    loss.backward()
    grads = [t.grad for t in nodes]
    copies = [g.copy() for g in grads]
    compare(student, loss, net)
    assert [t.stamp for t in nodes] == stamps
    for t, value, grad, copy in zip(nodes, values, grads, copies, strict=True):
        assert t.grad is grad
        np.testing.assert_array_equal(grad, copy)
        np.testing.assert_array_equal(t._value, value)
    for name in student:
        np.testing.assert_array_equal(student[name], before[name])


def test_marking_goes_on_without_recording():
    with tg.no_grad():
        assert compare(RIGHT, LOSS, NET).passed


# --- what is refused


@pytest.mark.parametrize(
    ("student", "error", "words"),
    [
        ({}, ArgumentError, "at least one gradient must be handed in"),
        ({"0.wieght": 0}, ArgumentError, "Did you mean '0.weight'"),
        ({"zzz": 0}, ArgumentError, r"received 'zzz'\. There are 0.weight, 0.bias"),
        ({3: 0}, ArgumentError, "received 3"),
        ([1.0], DtypeError, "a dict, name -> array"),
        (np.ones(3), DtypeError, "a dict, name -> array"),
        ({"0.bias": None}, DtypeError, "∂L/∂0.bias: an array needs numbers; received NoneType"),
        ({"0.bias": "text"}, DtypeError, "∂L/∂0.bias: an array needs numbers"),
        ({"0.bias": [[1.0], [1.0, 2.0]]}, ShapeError, "∂L/∂0.bias: an array needs rows"),
        ({"0.bias": np.ones(5) * 1j}, DtypeError, "gradients are real"),
    ],
)
def test_answers_that_are_refused(student, error, words):
    with pytest.raises(error, match=words):
        compare(student, LOSS, NET)


def test_a_name_without_the_model_is_told_of_the_model():
    with pytest.raises(ArgumentError, match="Pass model= to name parameters"):
        compare({"0.weight": RIGHT["0.weight"]}, LOSS)


def test_losses_that_are_refused(rng):
    x = leaf(rng, 3, "x")
    with pytest.raises(GraphError, match="computed from something that requires grad"):
        compare({"x": np.ones(3)}, tg.sum(tg.tensor([1.0])))
    with pytest.raises(GraphError, match="computed from something that requires grad"):
        compare({"x": 1.0}, tg.tensor(1.0, requires_grad=True, name="x"))
    with pytest.raises(GraphError, match=r"\(3,\) has axes"):
        compare({"x": np.ones(3)}, x * 2)
    with pytest.raises(DtypeError, match=r"received float 1\.0"):
        compare({"x": np.ones(3)}, 1.0)
    loss = tg.sum(x * x)
    x.data[0] = 5.0
    with pytest.raises(GraphError, match="was written to"):
        compare({"x": np.ones(3)}, loss)


@pytest.mark.parametrize("tolerance", [0.0, 1.0, -1e-6, np.nan, np.inf])
def test_a_tolerance_that_anything_would_pass_is_refused(tolerance):
    with pytest.raises(ArgumentError, match="above 0 and below 1"):
        compare(RIGHT, LOSS, NET, tolerance)
