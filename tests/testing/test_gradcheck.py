"""`check_gradients`: what it catches, what it must not cry wolf over, and what it says."""

import json
import warnings

import numpy as np
import pytest

import tinygrad_stab as tg
from tinygrad_stab.errors import ArgumentError, DtypeError, GradientCheckError, VacuousCheckError
from tinygrad_stab.testing import check_gradients, check_primitive
from tinygrad_stab.testing.records import calls

F = tg.nn.functional


def operation(forward, *rules, **options):
    """An operation with these rules, that leaves no record behind."""
    made = tg.primitive("users_checked", forward, *rules, replace=True, **options)
    del tg.REGISTRY["users_checked"]
    return made


# Where other checkers go wrong.


def test_a_zero_gradient_of_a_tiny_slope_is_caught():
    zero = operation(np.exp, lambda g, out, x: 0 * g)
    with pytest.raises(GradientCheckError, match="zero everywhere"):
        check_gradients(zero, np.array([-12.0]))
    with pytest.raises(GradientCheckError, match="zero everywhere"):
        check_gradients(zero, np.array([-12.0]), oracle="differences")
    with pytest.raises(GradientCheckError, match="wrong at 2 of 2"):
        check_gradients(lambda x: tg.sum(zero(x)), np.array([0.0, -30.0]))


@pytest.mark.parametrize("x", [1e-12, 1e-5, 1e-3])
@pytest.mark.parametrize("oracle", ["complex", "differences"])
def test_a_right_log_near_zero_passes(x, oracle):
    report = check_gradients(tg.log, np.array([x]), oracle=oracle)
    assert report.count("correct") == 1 and report.power < 1e-6


@pytest.mark.parametrize("oracle", ["auto", "differences"])
@pytest.mark.parametrize("block", range(10))
def test_one_entry_in_a_hundred_that_is_off_by_one_in_100_000_is_caught(block, oracle):
    for seed in range(20 * block, 20 * (block + 1)):
        rng = np.random.default_rng(seed)
        x, place = rng.normal(size=100), rng.integers(100)
        off = np.ones(100)
        off[place] += 1e-5

        def gradient(g, x, off=off):
            return g * np.cos(x) * off

        with pytest.raises(GradientCheckError, match="wrong at 1 of 100") as caught:
            check_gradients((np.sin, gradient), x, seed=seed, oracle=oracle)
        assert f"only element ({place}) differs" in str(caught.value)


@pytest.mark.parametrize(
    ("f", "x", "kinks"),
    [
        (tg.relu, [0.0, 1.0, -1.0], [0]),
        (tg.abs, [0.0, 2.0], [0]),
        (lambda x: tg.max(x), [1.0, 1.0, 0.0], [0, 1]),
        (lambda x: tg.maximum(x, 1.0), [1.0, 2.0], [0]),
        (lambda x: tg.clip(x, -1, 1), [-1.0, 0.5, 1.0], [0, 2]),
        (lambda x: tg.norm(x), [0.0, 0.0], [0, 1]),
        (lambda x: tg.relu(x) + 100.0, [0.0, 1.0], [0]),
    ],
)
def test_the_conventions_at_kinks_are_called_kinks(f, x, kinks):
    report = check_gradients(f, np.array(x))
    found = np.flatnonzero(report.inputs[0].verdict == "kink")
    assert list(found) == kinks
    assert report.passed and report.count("correct") == len(x) - len(kinks)


def test_at_a_kink_a_value_outside_the_slopes_is_wrong():
    bad = operation(lambda x: np.maximum(x, 0), lambda g, out, x: g * np.where(x < 0, 0, 1.5))
    with pytest.raises(GradientCheckError, match=r"from left, right    0, 1\n"):
        check_gradients(lambda x: tg.sum(bad(x)), np.array([0.0]))


# No false alarms.

RULED = [p for p in tg.REGISTRY.values() if p.rules and p.forward.__module__ != __name__]


@pytest.mark.parametrize("primitive", RULED, ids=lambda p: p.name)
def test_right_rules_are_never_called_wrong(primitive):
    """More than 10 000 checks in all: each case of each record, with many draws."""
    for k, call in enumerate(calls(primitive, draws=42, seed=1)):
        oracle = "differences" if k % 4 == 0 else "auto"
        report = call.check(primitive, seed=k, oracle=oracle)
        assert report.passed and not report.count("kink")


@pytest.mark.parametrize("primitive", RULED, ids=lambda p: p.name)
def test_second_derivatives_of_right_rules_are_right(primitive):
    for report in check_primitive(primitive, draws=1, order=2):
        assert report.second.passed


def test_the_false_alarm_test_is_as_large_as_it_says():
    assert sum(sum(1 for _ in calls(p, draws=42, seed=1)) for p in RULED) > 10_000


@pytest.mark.parametrize("x", [0.1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-7])
def test_round_off_of_complex_arithmetic_is_no_error_of_the_gradient(x):
    # sin(u)/u cancels on complex numbers near 0, so that there the complex step is not exact.
    def f(x):  # as sinc is written, which has no complex step here
        return tg.sin(x) / x

    assert check_gradients(tg.sinc, np.array([x, -1.7 * x, 1.0])).passed
    assert check_gradients(f, np.array([x, -1.7 * x, 1.0])).count("correct") >= 1


# Vacuous checks.


def test_an_output_that_does_not_depend_on_an_input_is_refused():
    with pytest.raises(VacuousCheckError, match=r"constant in y.*Leave it out by argnums"):
        check_gradients(lambda x, y: x * 2.0, np.ones(2), np.ones(3))
    assert check_gradients(lambda x, y: x * 2.0, np.ones(2), np.ones(3), argnums=0).passed
    with pytest.raises(VacuousCheckError, match="constant in x"):
        check_gradients(tg.sign, np.array([1.0, 2.0]))
    assert check_gradients(tg.sign, np.array([1.0, 2.0]), allow_constant=True).passed


def test_no_elements_are_refused():
    with pytest.raises(VacuousCheckError, match="there must be elements to check; x has none"):
        check_gradients(tg.exp, np.ones((0, 3)))
    with pytest.raises(VacuousCheckError, match="sample=0 has none"):
        check_gradients(tg.exp, np.ones(3), sample=0)
    with pytest.raises(VacuousCheckError, match="there must be an output"):
        check_gradients(lambda x: x[:0], np.ones(3))


def test_inconclusive_everywhere_is_refused():
    with pytest.raises(VacuousCheckError, match="hides all derivatives of f"):
        check_gradients(lambda x: tg.sum(tg.softmax(x)), np.array([1.0, 2.0, 3.0]))
    with pytest.raises(VacuousCheckError, match="must be finite somewhere"):
        check_gradients(tg.exp, np.array([800.0]))


def test_overflow_in_one_place_leaves_the_others_to_be_checked():
    report = check_gradients(tg.exp, np.array([800.0, 1.0]))
    assert list(report.inputs[0].verdict) == ["inconclusive", "correct"]


def test_a_tolerance_above_the_gradient_is_refused():
    x = np.array([-12.0, 0.0])
    with pytest.raises(VacuousCheckError, match=r"atol=1e-05 is above that by x\[0\], 6"):
        check_gradients(tg.exp, x, atol=1e-5)
    assert check_gradients(tg.exp, x, atol=1e-11).passed


def test_a_tolerance_that_hides_the_planted_error_is_refused():
    with pytest.raises(VacuousCheckError, match=r"a planted error must be found.*Lower rtol"):
        check_gradients(tg.exp, np.ones(3), rtol=1e-3)
    assert check_gradients(tg.exp, np.ones(3), rtol=1e-3, control=1e-2).passed
    bad = operation(np.exp, lambda g, out, x: g * out * (1 + 1e-4))
    assert check_gradients(bad, np.ones(3), rtol=1e-3, control=None).passed


@pytest.mark.parametrize(
    "options",
    [{"order": 3}, {"oracle": "magic"}, {"rtol": 1.0}, {"atol": -1.0}, {"precision": 0.0},
     {"control": 1e-9}, {"argnums": 4}, {"argnums": "x"}],
)  # fmt: skip
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ArgumentError):
        check_gradients(tg.exp, np.ones(3), **options)


# What may be checked.


def test_a_pair_of_plain_functions_needs_no_tensor():
    w = np.random.default_rng(0).normal(size=(4, 3))

    def loss(x, w):
        return np.sum(np.tanh(x @ w) ** 2)

    def gradient(x, w):
        out = np.tanh(x @ w)
        back = 2 * out * (1 - out**2)
        return back @ w.T, x.T @ back

    x = np.random.default_rng(1).normal(size=(5, 4))
    report = check_gradients((loss, gradient), x, w)
    assert [one.name for one in report.inputs] == ["x", "w"]
    assert report.count("correct") == 32 and report.power < 1e-7
    assert check_gradients((loss, lambda x, w: gradient(x, w)[1]), x, w, argnums=1).passed
    with pytest.raises(GradientCheckError, match="transposed"):
        check_gradients((loss, lambda x, w: (gradient(x, w)[0], gradient(x, w)[1].T)), x, w[:, :])


def test_a_pair_whose_output_is_no_scalar_gets_the_gradient_of_its_output():
    def layer(x, w):
        return x @ w, np.sum(x, axis=1)

    def backward(g, x, w):
        g_out, g_sum = g
        return g_out @ w.T + g_sum[:, None], x.T @ g_out

    rng = np.random.default_rng(0)
    assert check_gradients((layer, backward), rng.normal(size=(2, 3)), rng.normal(size=(3, 2)))
    with pytest.raises(GradientCheckError, match=r"one array an input; .* 1 for 2 \(x, w\)"):
        check_gradients((layer, lambda g, x, w: g[0] @ w.T), np.ones((2, 3)), np.ones((3, 2)))


def test_a_function_that_uses_loops_and_math_is_checked_by_differences():
    import math

    def f(x):
        return sum(math.exp(n) * n for n in x)

    report = check_gradients((f, lambda x: np.exp(x) * (1 + x)), np.array([0.3, -2.0]))
    assert report.count("correct") == 2
    assert any("no complex step" in note for note in report.notes)


def test_parameters_of_a_model_are_checked_where_they_are():
    model = tg.nn.Sequential(tg.nn.Linear(4, 5, rng=0), tg.nn.Tanh(), tg.nn.Linear(5, 3, rng=1))
    x, labels = np.random.default_rng(0).normal(size=(6, 4)), np.arange(6) % 3

    def loss(x):
        return F.cross_entropy(model(x), labels)

    report = check_gradients(loss, x, parameters=model.parameters())
    assert len(report.inputs) == 5 and report.count("correct") == 24 + 20 + 5 + 15 + 3
    halved = operation(np.tanh, lambda g, out, x: g * (1 - out**2) / 2)
    with pytest.raises(GradientCheckError, match=r"parameter 0 \(weight\): a factor 2 is missing"):
        check_gradients(lambda: tg.sum(halved(model[0](x))), parameters=model[0].parameters())
    model32 = tg.nn.Linear(4, 5, rng=0, dtype=np.float32)
    with pytest.raises(ArgumentError, match="parameters are float64 leaves"):
        check_gradients(model32, x, parameters=model32.parameters())


def test_constants_labels_and_options_are_passed_on():
    logits = np.random.default_rng(0).normal(size=(3, 4))
    report = check_gradients(F.cross_entropy, logits, np.array([0, 3, 1]), None, "sum")
    assert len(report.inputs) == 1 and report.count("correct") == 12


def test_only_tensors_that_require_grad_are_differentiated():
    x, w = tg.tensor([1.0, 2.0], requires_grad=True), tg.tensor([3.0, 4.0])
    assert [one.name for one in check_gradients(lambda x, w: x * w, x, w).inputs] == ["x"]


def test_a_sample_of_the_elements_is_enough_for_a_large_input():
    report = check_gradients(lambda x: np.tanh(x), np.linspace(-2, 2, 5000), sample=100)
    assert report.count("correct") == 100
    assert "100 of the 5000 elements of x" in report.notes


def test_second_derivatives_are_checked_on_request():
    report = check_gradients(lambda x, y: x**3 * y, np.array([1.0, 2.0]), np.array([3.0, 4.0]),
                             order=2)  # fmt: skip
    assert [one.name for one in report.second.inputs] == ["x", "y", "g0"]
    assert report.second.count("correct") == 6
    # A right gradient whose own derivative is cut off: only the second order can tell.
    cut = operation(lambda x: x**2, lambda g, out, x: g * 2 * getattr(x, "data", x))
    check_gradients(cut, np.array([1.0, 2.0]))
    with pytest.raises(GradientCheckError, match="the gradient of the gradient of"):
        check_gradients(cut, np.array([1.0, 2.0]), order=2)
    with pytest.raises(ArgumentError, match="received a pair"):
        check_gradients((np.sum, np.ones_like), np.ones(2), order=2)


def test_what_is_no_function_of_floats_is_refused():
    with pytest.raises(DtypeError, match=r"f returns floating-point numbers.*Is a return missing"):
        check_gradients(lambda x: None, np.ones(2))
    with pytest.raises(DtypeError, match="a pair is"):
        check_gradients((np.sum,), np.ones(2))


# What it says.


def test_a_failure_names_place_values_ratio_and_how_to_see_it_again():
    doubled = operation(np.exp, lambda g, out, x: 2 * g * out)

    def total(x):
        return tg.sum(doubled(x))

    with pytest.raises(GradientCheckError) as caught:
        check_gradients(total, np.array([[0.5, -1.0]]))
    words = str(caught.value)
    for part in (
        "of total is wrong at 2 of 2", "worst at x[0, 0] = 0.5", "analytic            3.29",
        "central differences 1.648", "complex step        1.648", "analytic / numeric  2\n",
        "in the whole of x: a factor 2 too much",
    ):  # fmt: skip
        assert part in words, words
    again = words.partition("again: ")[2].strip()
    with pytest.raises(GradientCheckError) as repeated:
        eval(again, {"tg": tg, "np": np, "total": total})
    assert str(repeated.value) == words


def test_power_is_what_it_claims_to_be():
    # An error of twice the power is seen at every element; of a hundredth of it, at none.
    x = np.linspace(-3, 3, 200)
    for oracle in ("auto", "differences"):
        report = check_gradients((np.sin, lambda g, x: g * np.cos(x)), x, oracle=oracle)
        power = report.inputs[0].power
        assert report.power == np.max(power) < 1e-6
        rng = np.random.default_rng(0)
        for place in rng.choice(200, 10, replace=False):
            for times, caught in ((3.0, True), (0.001, False)):
                off = np.ones(200)
                off[place] += times * power[place]

                def gradient(g, x, off=off):
                    return g * np.cos(x) * off

                if caught:
                    with pytest.raises(GradientCheckError):
                        check_gradients((np.sin, gradient), x, oracle=oracle)
                else:
                    assert check_gradients((np.sin, gradient), x, oracle=oracle).passed


def test_the_report_holds_the_numbers():
    report = check_gradients(tg.relu, np.array([-1.0, 0.0, 2.0]))
    one = report.inputs[0]
    assert list(one.verdict) == ["correct", "kink", "correct"]
    assert one.analytic[0] == 0 and one.index(2) == (2,) and one.reference[2] == one.numeric[2]
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["counts"] == {"correct": 2, "wrong": 0, "kink": 1, "inconclusive": 0}
    assert plain["inputs"][0]["verdict"] == list(one.verdict)


def test_nothing_is_warned_of_on_the_way():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_gradients(tg.sqrt, np.array([0.0, 1.0]))
        check_gradients(tg.log, np.array([1e-5, 3.0]))


# What was found by drawing at random, and by reviewers.


def test_memory_layout_of_inputs_does_not_matter():
    x = np.arange(1, 7.0).reshape(2, 3)
    for laid_out in (np.asfortranarray(x), x[::-1, ::-1], np.repeat(x, 2, axis=1)[:, ::2]):
        assert check_gradients(tg.abs, laid_out).count("correct") == 6
        assert check_gradients(lambda x: x * np.arange(3.0), laid_out).count("correct") == 6


@pytest.mark.parametrize(
    ("f", "inputs"),
    [
        (tg.square, [np.array([0.0, -5e-324])]),
        (lambda x, y: tg.sum(x * y), [np.array([1.0]), np.array([5e-324])]),
        (tg.square, [np.array([2.2e-308, 1.0])]),
    ],
)
def test_what_underflows_is_no_error(f, inputs):
    assert check_gradients(f, *inputs).passed


def test_where_the_derivative_is_zero_the_next_ones_are_no_error():
    # Im (ih)³/h = −h²: there is nothing else of x³ at 0.
    assert check_gradients(lambda x: x**3, np.array([0.0, 1.0])).count("correct") == 2
    assert check_gradients(lambda x: (x - 2.0) ** 3, np.array([2.0, 1.0])).count("correct") == 2


def test_a_stack_that_looks_right_by_chance_is_no_crash():
    def f(x, y):
        return tg.minimum(tg.sum(x, axis=0), y)

    assert check_gradients(f, np.zeros((3, 4)), np.zeros(4)).passed
    assert check_gradients(f, np.zeros((13, 4)), np.zeros(4)).passed


@pytest.mark.parametrize(
    ("f", "inputs"), [(tg.floor, [np.array([0.0, 0.5])]), (tg.sign, [np.array([0.0, 1.0])]),
                      (tg.remainder, [np.array([4.0, 0.5]), np.array([2.0, 2.0])])],
)  # fmt: skip
def test_at_a_jump_nothing_can_be_said(f, inputs):
    report = check_gradients(f, *inputs, allow_constant=True)
    assert list(report.inputs[0].verdict) == ["inconclusive", "correct"]


def refused(f, *inputs, match="is wrong at", **options):
    with pytest.raises(GradientCheckError, match=match):
        check_gradients(f, *inputs, **options)


def test_an_infinite_gradient_is_no_tolerance():
    refused((lambda x: np.sum(np.sin(x)), lambda x: np.array([np.inf, np.cos(1.0)])),
            np.array([0.5, 1.0]))  # fmt: skip


def test_a_rule_for_positive_seeds_only_is_refused_also_for_scalars():
    guided = operation(
        lambda x: np.maximum(x, 0), lambda g, out, x: np.maximum(g, 0) * (x > 0), analytic=False
    )
    refused(lambda x: guided(x).sum(), np.array([1.0, -1.0, 2.0]), match="is not −2 times itself")


@pytest.mark.parametrize("k", [5, 8, 11, 12])
def test_a_period_that_is_a_power_of_two_does_not_look_straight(k):
    wave = 2 * np.pi * 2.0**k

    def f(x):
        return tg.sum(tg.maximum(x, -9) + tg.sin(wave * x) / wave)

    refused((f, np.ones_like), np.array([0.3]))
    assert check_gradients(f, np.array([0.3])).count("correct") == 1


def test_what_only_looks_like_a_kink_is_judged_by_the_complex_step():
    x = np.full(5, 3.3) + 1e-9 * np.arange(5)
    refused((lambda x: np.std(x), lambda x: 0 * x), x)


@pytest.mark.parametrize("points", [np.linspace(-4.7e-4, -2.7e-4, 60), np.linspace(1e-7, 1e-3, 60)])
def test_near_a_kink_no_two_steps_agree_by_chance(points):
    for z in points:
        assert check_gradients(tg.relu, np.array([z, 1.0])).passed
        assert check_gradients(lambda x: tg.relu(x) ** 2, np.array([z, 1.0])).passed


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (lambda x: np.sum(1 - np.cos(x)), [1e-5]),  # noise coarser than the slope
        (lambda x: np.mean(np.sqrt(1 + np.abs(x) ** 2) - 1), [1e-5, 0.5]),
        (lambda x: np.mean(tg.elu(x) ** 2), [1e-5, 0.3]),  # a kink of the second derivative
        (lambda x: tg.sum(tg.relu(x) ** 3), [3e-4, 0.3]),
        (lambda x: np.sum(np.sqrt(x)), [0.0, 1.0, 4.0]),
        (np.tanh, [15.0, 1.0]),  # 1 − out² is in the last place
        (np.tanh, [18.5, 1.0]),
        (lambda x: -(x - np.log(np.sum(np.exp(x))))[0], [0.0, -30.0, -40.0, -50.0]),
        (lambda x: 1e10 * x + tg.relu(x), [0.0, 1.0]),  # a kink beside a large slope
        (lambda x: tg.exp(-28 * tg.abs(x)), [-2.76383e-7, 0.1]),
        (tg.softplus, [40.0, -40.0, 800.0, -800.0, 1.0]),
        (lambda x: np.exp(x) / np.sum(np.exp(x)), [0.0, -30.0, -40.0, -50.0]),
        (np.log, [1e-300, 1.0]),
        (np.tanh, [np.inf, 1.0]),
        (lambda x: x**0.99, [0.0, 1.0]),  # diverges slowly
        (lambda x: x**1.01, [0.0, 1.0]),
        (lambda x: tg.maximum(x, 0) + 1e3, [0.0, 1.0]),
        (tg.exp, [-700.0, -20.0, 3.0]),
    ],
)
def test_hard_places_are_no_false_alarm(f, x):
    assert check_gradients(f, np.array(x)).passed


def test_what_rounds_on_the_way_is_no_false_alarm():
    x = np.array([0.123, 1.7])
    with pytest.raises(VacuousCheckError, match="hides all derivatives"):
        check_gradients((lambda x: np.sum(np.round(x, 6)), lambda x: 0 * x), x, allow_constant=True)


def test_power_counts_in_the_gradient_also_where_outputs_cancel():
    def f(x):
        return x[0] * np.ones(10_000)

    report = check_gradients((f, lambda g, x: np.array([g.sum()])), np.array([1.3]))
    off = 1 + 3 * report.power
    refused((f, lambda g, x: np.array([g.sum() * off])), np.array([1.3]))


@pytest.mark.parametrize("oracle", ["auto", "differences"])
def test_three_times_the_stated_power_is_seen(oracle):
    rng = np.random.default_rng(3)
    for _ in range(40):
        x = rng.normal(size=3) * 10 ** rng.uniform(-2, 1)
        f, slope = [(np.sin, np.cos), (np.exp, np.exp), (np.abs, np.sign),
                    (np.square, lambda x: 2 * x)][rng.integers(4)]  # fmt: skip
        report = check_gradients((f, lambda g, x, d=slope: g * d(x)), x, oracle=oracle)
        one = report.inputs[0]
        for i in np.flatnonzero(one.power > 0):
            off = np.ones(3)
            off[i] += 4 * one.power[i]
            refused((f, lambda g, x, d=slope, off=off: g * d(x) * off), x, oracle=oracle)


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (tg.exp, np.array([100, 1], np.float32)),
        (lambda x: np.sin(1e5 * x), np.array([0.3, 0.7, 1.1], np.float32)),
        (lambda x: 1 / (1 - np.tanh(x)), np.array([8.0, 1.0], np.float32)),
        (np.sin, np.array([0.3, 2.0], np.float16)),
    ],
)
def test_low_precision_is_judged_by_its_own_conditioning(f, x):
    with pytest.warns(UserWarning, match="checked in float64"):
        assert check_gradients(f, x).passed


def test_other_byte_orders_and_wider_types():
    pair = (np.sin, lambda g, x: g * np.cos(x))
    assert check_gradients(pair, np.ones(3, ">f8")).passed
    assert check_gradients(pair, np.ones(3, np.longdouble)).passed


@pytest.mark.parametrize(
    ("gradient", "match"),
    [
        (lambda x: None, "is a NoneType. Is a return missing"),
        (lambda x: {"x": x}, "is a dict"),
        (lambda g, x: g * x, r"called as gradient\(\*inputs\), for f is a scalar"),
    ],
)
def test_a_gradient_of_the_wrong_form_is_named(gradient, match):
    refused((np.sum, gradient), np.ones(3), match=match)
    refused((np.exp, lambda x: x), np.ones(3), match=r"gradient\(g, \*inputs\), for f is no scalar")


def test_models_duplicates_and_domains():
    model = tg.nn.Linear(3, 2, rng=0)
    assert len(check_gradients(model, np.ones(3), parameters=model).inputs) == 3
    twice = check_gradients(model, np.ones(3), parameters=[model.weight, model.weight])
    assert len(twice.inputs) == 2 and twice.passed
    assert len(check_gradients(tg.exp, np.ones(3), argnums=(0, 0)).inputs) == 1
    import math

    f = (lambda x: math.log(x[0]), lambda x: 1 / x)  # which raises where it is not defined
    assert check_gradients(f, np.array([1e-3])).count("correct") == 1


@pytest.mark.parametrize(
    "options", [{"sample": -1}, {"sample": 1.5}, {"seed": -1}, {"atol": float("nan")},
                {"control": 0}, {"precision": "x"}],
)  # fmt: skip
def test_more_options_out_of_range_are_refused(options):
    with pytest.raises(ArgumentError, match="check_gradients: needs order 1 or 2"):
        check_gradients(tg.exp, np.ones(3), **options)


def test_the_line_to_see_it_again_holds_all_options():
    doubled = operation(np.exp, lambda g, out, x: 2 * g * out)
    with pytest.raises(GradientCheckError) as caught:
        check_gradients(doubled, np.ones(2), argnums=0, oracle="differences", seed=5)
    assert "argnums=0, oracle='differences', seed=5)" in str(caught.value)


def test_a_large_output_elsewhere_is_no_excuse():
    refused((np.exp, lambda g, x: g * np.exp(x) * [-1, 1]), np.array([0.5, 40.0]))
    x = np.array([0.5, 1e3, 2.0])
    refused((lambda x: x**8, lambda g, x: g * 8 * x**7 * [0, 1, 1]), x)


def test_what_an_output_hides_counts_in_power():
    def f(x):
        return np.array([1e-6 * abs(x[0]), 1e3 + 1e-12 * x[0]])

    for slope in (1e-12, 0.0):  # which differences cannot tell apart
        with pytest.raises(VacuousCheckError, match="hides all derivatives"):
            check_gradients((f, lambda g, x, s=slope: np.array([1e-6 * g[0] + s * g[1]])),
                            np.array([0.7]))  # fmt: skip
    words = str(check_gradients(lambda x: np.sum(np.abs(x) * np.array([1e15, 1.0])) * (x > 0).all(),
                                np.array([1.0, -0.5]), allow_constant=True))  # fmt: skip
    assert "zeros to within" in words
