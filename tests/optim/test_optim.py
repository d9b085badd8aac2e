"""Optimisers against their recurrences written out, on small problems, and through a file."""

import copy
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import tinygrad_stab as tg
from tinygrad_stab.errors import ArgumentError, DtypeError, StateDictError
from tinygrad_stab.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop

# Every optimiser with everything on that it remembers something for.
FULL = {
    "sgd": lambda p, **k: SGD(p, **{"lr": 0.01, "momentum": 0.9, "dampening": 0.2} | k),
    "adagrad": lambda p, **k: Adagrad(
        p, **{"lr": 0.5, "lr_decay": 1e-4, "initial_accumulator_value": 0.1} | k
    ),
    "rmsprop": lambda p, **k: RMSprop(p, **{"lr": 1e-3, "momentum": 0.5, "centered": True} | k),
    "adam": lambda p, **k: Adam(p, **{"lr": 0.02, "amsgrad": True} | k),
    "adamw": lambda p, **k: AdamW(p, **{"lr": 0.02, "weight_decay": 1e-4} | k),
}
each_optimizer = pytest.mark.parametrize("make", [pytest.param(v, id=k) for k, v in FULL.items()])


def parameter(data, grad=None, **kwargs):
    p = tg.tensor(data, requires_grad=True, **kwargs)
    p.grad = None if grad is None else np.array(grad, p.dtype)
    return p


def walk(optimizer, grads):
    """A step for each row of gradients; what became of the first parameter."""
    p = optimizer.param_groups[0]["params"][0]
    for g in grads:
        p.grad = g
        optimizer.step()
    return p.data.copy()


class TestSGD:
    @pytest.mark.parametrize(
        "settings",
        [
            {},
            {"momentum": 0.9},
            {"momentum": 0.9, "dampening": 0.5},
            {"momentum": 0.9, "nesterov": True},
            {"momentum": 0.5, "weight_decay": 0.1},
            {"weight_decay": 0.1},
        ],
    )
    def test_recurrence(self, settings, rng):
        w0, grads = rng.normal(size=3), rng.normal(size=(10, 3))
        p = parameter(w0)
        optimizer = SGD([p], lr=0.1, **settings)
        mu, decay = settings.get("momentum", 0), settings.get("weight_decay", 0)
        w, v = w0.copy(), None
        for g in grads:
            p.grad = g.copy()
            optimizer.step()
            np.testing.assert_array_equal(p.grad, g, err_msg="the gradient is left alone")
            g = g + decay * w
            v = g if v is None else mu * v + (1 - settings.get("dampening", 0)) * g
            w = w - 0.1 * (g + mu * v if settings.get("nesterov") else v if mu else g)
        np.testing.assert_allclose(p.data, w, rtol=0, atol=1e-14)

    @given(
        arrays(np.float64, (2, 3), elements=st.floats(-1e9, 1e9)),
        arrays(np.float64, (2, 3), elements=st.floats(-1e9, 1e9)),
        st.floats(0, 10),
        st.floats(0, 10),
    )
    def test_a_step_without_momentum_is_the_formula(self, w, g, lr, decay):
        p = parameter(w, g)
        SGD([p], lr=lr, weight_decay=decay).step()
        expected = w - lr * (g + decay * w)
        scale = np.max(np.abs(w)) + lr * (np.max(np.abs(g)) + decay * np.max(np.abs(w)))
        np.testing.assert_allclose(p.data, expected, rtol=0, atol=1e-14 * scale)

    def test_minimises_a_quadratic_at_the_rate_of_theory(self):
        # On ½ x² each step multiplies x by 1 − lr.
        p = parameter(1.0)
        optimizer = SGD([p], lr=0.1)
        for _ in range(100):
            optimizer.zero_grad()
            (p * p * 0.5).backward()
            optimizer.step()
        assert p.item() == pytest.approx(0.9**100, rel=1e-12)

    def test_momentum_switched_on_later_starts_from_the_gradient(self):
        p = parameter(0.0)
        optimizer = SGD([p], lr=1.0)
        walk(optimizer, [np.array(1.0)])
        optimizer.param_groups[0]["momentum"] = 0.5
        assert walk(optimizer, [np.array(1.0)] * 2) == -1 - 1 - 1.5


@each_optimizer
class TestEveryOptimizer:
    def test_minimises_a_quadratic(self, make):
        target = np.array([1.0, -2.0, 0.5])
        p = parameter(np.zeros(3))
        optimizer = make([p])
        for _ in range(2000):
            optimizer.zero_grad()
            (((p - target) * [1.0, 3.0, 0.3]) ** 2).sum().backward()
            optimizer.step()
        np.testing.assert_allclose(p.data, target, atol=0.05)

    def test_minimises_rosenbrock(self, make):
        p = parameter([-1.0, 1.5])
        optimizer = make([p], lr=1e-3) if make is FULL["sgd"] else make([p])
        for _ in range(10_000):
            optimizer.zero_grad()
            ((1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2).backward()
            optimizer.step()
        np.testing.assert_allclose(p.data, [1, 1], atol=0.05)

    def test_float32_stays_float32_and_agrees_with_float64(self, make, rng):
        start, grads = rng.normal(size=(4, 3)), rng.normal(size=(20, 4, 3))
        ends = []
        for dtype in (np.float32, np.float64):
            optimizer = make([parameter(start.astype(np.float32), dtype=dtype)], lr=np.float64(0.1))
            ends.append(walk(optimizer, grads.astype(np.float32)))
            kept = [a for a in optimizer.state_dict()["state"][0].values() if np.ndim(a)]
            assert ends[-1].dtype == dtype and {a.dtype for a in kept} == {np.dtype(dtype)}
        np.testing.assert_allclose(*ends, rtol=2e-5, atol=2e-5)

    @pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 0, 3)])
    def test_any_shape(self, make, shape):
        p = parameter(np.ones(shape))
        walk(make([p]), [np.ones(shape)] * 3)
        assert p.shape == shape and np.all(p.data < 1)

    def test_memory_order_does_not_matter(self, make, rng):
        start, grads = rng.normal(size=(4, 3)), rng.normal(size=(5, 4, 3))
        usual = walk(make([parameter(start)]), grads)
        turned = walk(
            make([parameter(np.asfortranarray(start))]), [np.asfortranarray(g) for g in grads]
        )
        np.testing.assert_array_equal(usual, turned)

    def test_parameters_without_gradient_or_frozen_stay(self, make):
        p, q, frozen = parameter(1.0), parameter(1.0, grad=1.0), tg.tensor(1.0)
        optimizer = make([p, q, frozen], weight_decay=0.1)
        optimizer.step()
        assert p.item() == frozen.item() == 1 and q.item() < 1
        assert list(optimizer.state) == [q]
        optimizer.zero_grad()
        assert q.grad is None

    def test_maximize_climbs_as_far(self, make, rng):
        grads = rng.normal(size=(5, 3))
        down = walk(make([parameter(np.zeros(3))]), grads)
        up = walk(make([parameter(np.zeros(3))], maximize=True), grads)
        np.testing.assert_array_equal(up, -down)  # from 0, the two paths are mirror images

    @pytest.mark.parametrize("bad", [math.nan, math.inf, 1e300])
    def test_gradients_beyond_all_bounds_give_no_warning(self, make, bad):
        p = parameter([1.0, 1.0])
        walk(make([p]), [np.array([bad, 0.1])] * 2)
        assert np.isfinite(p.data[1])

    def test_a_written_parameter_is_noticed_by_a_backward_pass(self, make):
        p = parameter(2.0, grad=1.0)
        loss = p * p
        make([p]).step()
        with pytest.raises(tg.errors.GraphError, match="was written to"):
            loss.backward()

    def test_counts_its_steps(self, make):
        optimizer = make([parameter(1.0)])
        assert optimizer.steps_taken == 0
        optimizer.step()
        optimizer.step()
        assert optimizer.steps_taken == 2

    def test_can_be_copied_and_pickled(self, make, rng):
        optimizer = make([parameter(np.ones(3))])
        walk(optimizer, rng.normal(size=(3, 3)))
        grads = rng.normal(size=(3, 3))
        others = [copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))]
        end = walk(optimizer, grads)
        for other in others:
            np.testing.assert_array_equal(walk(other, grads), end)


class TestOptions:
    @pytest.mark.parametrize(
        ("kind", "settings"),
        [
            *[(SGD, {"lr": v}) for v in (-1.0, math.nan, math.inf, True, "0.1", None, 1j, 10**400)],
            (SGD, {"momentum": -0.1}),
            (SGD, {"weight_decay": -1.0}),
            (SGD, {"dampening": math.nan}),
            (SGD, {"nesterov": True}),
            (SGD, {"nesterov": True, "momentum": 0.9, "dampening": 0.1}),
            (SGD, {"nesterov": 1, "momentum": 0.9}),
            (SGD, {"maximize": "yes"}),
            (Adagrad, {"lr_decay": -1}),
            (Adagrad, {"initial_accumulator_value": -1e-3}),
            (RMSprop, {"alpha": 1.0}),
            (RMSprop, {"centered": None}),
            *[(Adam, {"betas": v}) for v in (0.9, (0.9,), (0.9, 1.0), (-0.1, 0.9), (0, True))],
            (Adam, {"eps": -1e-8}),
            (Adam, {"amsgrad": 0}),
            (AdamW, {"weight_decay": [0.1]}),
        ],
    )  # fmt: skip
    def test_values_out_of_range_are_refused_wherever_they_are_set(self, kind, settings):
        p = parameter(1.0, grad=1.0)
        with pytest.raises(ArgumentError, match="received"):
            kind([p], **settings)
        with pytest.raises(ArgumentError, match="received"):
            kind([{"params": [p], **settings}])
        optimizer = kind([p])
        with pytest.raises(ArgumentError, match="received"):
            optimizer.add_param_group({"params": [parameter(1.0)], **settings})
        assert len(optimizer.param_groups) == 1
        optimizer.param_groups[0].update(settings)
        with pytest.raises(ArgumentError, match="received"):
            optimizer.step()
        assert p.item() == 1 and optimizer.steps_taken == 0 and not optimizer.state

    def test_all_problems_are_named(self):
        with pytest.raises(ArgumentError, match=r"Adam: lr is .* -1; betas is .*; eps is"):
            Adam([parameter(1.0)], lr=-1, betas=(2, 2), eps=math.nan)

    def test_numpy_numbers_and_lists_become_plain(self):
        group = Adam([parameter(1.0)], lr=np.float32(0.5), betas=[0.5, np.array(0.75)])
        group = group.param_groups[0]
        assert group["lr"] == 0.5 and type(group["lr"]) is float
        assert group["betas"] == (0.5, 0.75) and type(group["betas"][1]) is float

    def test_adamw_cannot_be_coupled(self):
        with pytest.raises(ArgumentError, match="Use Adam"):
            AdamW([{"params": [parameter(1.0)], "decoupled_weight_decay": False}])

    def test_options_of_a_subclass_are_its_own(self):
        class Mine(Optimizer):
            def update(self, p, g, state, group):
                p -= group["radius"]

        p = parameter(1.0, grad=1.0)
        Mine([p], {"radius": -2}).step()
        assert p.item() == 3
        with pytest.raises(TypeError, match="Optimizer must define update"):
            Optimizer([p], {}).step()

    def test_observers_are_told_before_and_after(self):
        p, seen = parameter(1.0, grad=1.0), []

        class Observer:
            def before_step(self):
                seen.append(p.item())

            after_step = before_step

        optimizer = SGD([p], lr=0.5)
        optimizer.observers.append(Observer())
        optimizer.step()
        assert seen == [1.0, 0.5]


class TestGroups:
    def test_options_of_a_group_go_before_the_defaults(self):
        p, q = parameter(1.0, grad=1.0), parameter(1.0, grad=1.0)
        optimizer = SGD([{"params": p}, {"params": iter([q]), "lr": 0.5}], lr=0.25)
        optimizer.step()
        assert (p.item(), q.item()) == (0.75, 0.5)
        optimizer.param_groups[0]["lr"] = 0.5
        optimizer.step()
        assert (p.item(), q.item()) == (0.25, 0.0)

    def test_a_group_can_be_added_later_and_is_copied(self):
        p, q = parameter(1.0), parameter(1.0, grad=1.0)
        given_group = {"params": [q], "lr": 0.5, "name": "late"}
        optimizer = SGD(iter([p]))
        optimizer.add_param_group(given_group)
        optimizer.step()
        assert q.item() == 0.5 and given_group == {"params": [q], "lr": 0.5, "name": "late"}
        assert optimizer.param_groups[1]["name"] == "late"

    def test_takes_named_parameters(self):
        net = tg.nn.Linear(2, 1)
        (group,) = SGD(net.named_parameters()).param_groups
        assert group["params"] == list(net.parameters())
        assert group["param_names"] == ["weight", "bias"]

    def test_parameters_must_be_leaves_each_once(self):
        p = parameter(1.0)
        with pytest.raises(ArgumentError, match="received none"):
            SGD([])
        with pytest.raises(ArgumentError, match="received none"):
            SGD([{"params": []}])
        with pytest.raises(ArgumentError, match="passed twice"):
            SGD([p, p])
        with pytest.raises(ArgumentError, match="each parameter once; w was passed twice"):
            SGD([{"params": [p]}, {"params": [("w", p)]}])
        with pytest.raises(DtypeError, match="entry 1 is the result of multiply"):
            SGD([p, p * 2])
        with pytest.raises(DtypeError, match="entry 0 is a ndarray"):
            SGD([np.ones(2)])
        with pytest.raises(DtypeError, match="entry 0 is of dtype int64"):
            SGD([tg.tensor([1])])

    @pytest.mark.parametrize(
        "params",
        [None, 3, "weights", np.ones(2), {"params": []}, {parameter(1.0)}, [("w", 1.0)], [(1, 2)],
         [{"lr": 0.1}], [{"params": [parameter(1.0)]}, parameter(1.0)], tg.nn.Linear(1, 1)],
        ids=lambda v: type(v).__name__,
    )  # fmt: skip
    def test_what_is_no_list_of_parameters(self, params):
        with pytest.raises((DtypeError, ArgumentError)):
            SGD(params)

    def test_a_misspelt_option_is_refused(self):
        with pytest.raises(ArgumentError, match=r"options are lr, .*received \['learning_rate'\]"):
            SGD([{"params": [parameter(1.0)], "learning_rate": 0.1}])


# As PyTorch 2.13 writes it, with .numpy() on every tensor.
FROM_TORCH = {
    "state": {
        0: {"step": np.array(2.0, np.float32), "exp_avg": np.array([0.19, -0.19], np.float32),
            "exp_avg_sq": np.array([0.001999, 0.001999], np.float32)},
    },
    "param_groups": [
        {"lr": 0.5, "betas": (0.9, 0.999), "eps": 1e-08, "weight_decay": 0, "amsgrad": False,
         "maximize": False, "foreach": None, "capturable": False, "differentiable": False,
         "fused": None, "decoupled_weight_decay": False, "params": [0]},
    ],
}  # fmt: skip


class TestStateDict:
    def test_is_plain_and_a_copy(self, rng):
        net = tg.nn.Linear(2, 3, rng=0)
        optimizer = Adam(net.named_parameters(), lr=0.1)
        net(rng.normal(size=(4, 2))).sum().backward()
        optimizer.step()
        state = optimizer.state_dict()
        before = copy.deepcopy(state)
        optimizer.step()
        np.testing.assert_equal(state, before)
        assert state["state"].keys() == {0, 1}
        assert set(state["state"][1]) == {"step", "exp_avg", "exp_avg_sq"}
        assert state["state"][0]["step"] == 1 and type(state["state"][0]["exp_avg"]) is np.ndarray
        (group,) = state["param_groups"]
        assert group["params"] == [0, 1] and group["betas"] == (0.9, 0.999)
        assert group["param_names"] == ["weight", "bias"]

    def test_of_pytorch_fits(self):
        p = parameter([1.0, 1.0])
        optimizer = Adam([p], lr=0.1)
        optimizer.load_state_dict(FROM_TORCH)
        assert optimizer.state[p]["step"] == 2 and optimizer.state[p]["exp_avg"].dtype == float
        assert "fused" not in optimizer.param_groups[0]
        end = walk(optimizer, [np.array([1.0, -1.0])])
        # Gradients of ±1 three times: m̂ = ±1, v̂ = 1.
        np.testing.assert_allclose(end, [0.5, 1.5], rtol=1e-4)

    def test_schedules_find_their_labels_again(self):
        p = parameter(1.0)
        optimizer = SGD([p], lr=0.5)
        state = optimizer.state_dict()
        state["param_groups"][0] |= {"initial_lr": 0.25, "max_lr": 0.75}
        held = optimizer.param_groups[0]
        optimizer.load_state_dict(state)
        assert held is optimizer.param_groups[0] and held["initial_lr"] == 0.25

    def test_of_options_switched_between_steps_fits(self):
        p = parameter(np.ones(2))
        optimizer = Adam([p])
        walk(optimizer, np.ones((2, 2)))
        optimizer.param_groups[0]["amsgrad"] = True
        other = Adam([parameter(np.ones(2))])
        other.load_state_dict(optimizer.state_dict())
        walk(optimizer, np.ones((1, 2)))
        optimizer.param_groups[0]["amsgrad"] = False
        other.load_state_dict(optimizer.state_dict())
        assert "max_exp_avg_sq" in next(iter(other.state.values()))

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda s: s["state"][0].pop("exp_avg"), "state 0: exp_avg is missing"),
            (lambda s: s["state"][0].update(exp_avg=np.ones(3)), r"shape \(3,\), the parameter"),
            (lambda s: s["state"][0].update(exp_avg=1j * np.ones(2)), "not real numbers"),
            (lambda s: s["state"][0].update(exp_avg="abc"), "exp_avg: an array needs numbers"),
            (lambda s: s["state"][0].update(step=-1), "step is a whole number"),
            (lambda s: s["state"][0].update(step=np.nan), "step is a whole number"),
            (lambda s: s["state"][0].update(step=[1, 2]), "step is a whole number"),
            (lambda s: s["state"][0].update(velocity=1), "'velocity' is unexpected"),
            (lambda s: s["state"].update({7: {}}), "state 7 belongs to no parameter"),
            (lambda s: s["param_groups"].append(s["param_groups"][0]), "groups of"),
            (lambda s: s["param_groups"][0].update(params=[0]), r"groups of \[1\] .* of \[2\]"),
            (lambda s: s["param_groups"][0].update(params=[0, 0]), "stands twice"),
            (lambda s: s["param_groups"][0].pop("eps"), "group 0: eps is missing"),
            (lambda s: s["param_groups"][0].update(momentum=0), "momentum is no option of Adam"),
            (lambda s: s["param_groups"][0].update(lr=-1), "group 0: lr is a number, at least 0"),
            (lambda s: s["param_groups"][0].update(param_names=["v", "w"]), "holds the param"),
            (lambda s: s.pop("state"), "Pass what state_dict"),
            (lambda s: s.update(state=[1]), "Pass what state_dict"),
            (lambda s: s["param_groups"][0].update(params=[[0], [1]]), "Pass what state_dict"),
        ],
    )
    def test_what_does_not_fit_changes_nothing(self, spoil, message):
        p, q = parameter(np.ones(2)), parameter(1.0, grad=1.0)
        optimizer = Adam([("w", p), ("v", q)])
        walk(optimizer, np.ones((3, 2)))
        state = optimizer.state_dict()
        state["param_groups"][0]["lr"] = 5.0
        spoil(state)
        before = optimizer.state_dict()
        with pytest.raises(StateDictError, match=message):
            optimizer.load_state_dict(state)
        np.testing.assert_equal(optimizer.state_dict(), before)

    @pytest.mark.parametrize("state", [None, 3, [], {}, "state"])
    def test_what_is_no_state(self, state):
        with pytest.raises(StateDictError, match="Pass what state_dict"):
            SGD([parameter(1.0)]).load_state_dict(state)

    def test_all_problems_are_named_at_once(self):
        state = SGD([parameter(np.ones(3))]).state_dict()
        with pytest.raises(StateDictError) as caught:
            Adam([parameter(np.ones(2))]).load_state_dict(state)
        for problem in ("betas is missing", "eps is missing", "momentum is no option of Adam"):
            assert problem in str(caught.value)

    def test_of_adam_is_none_of_adamw(self):
        with pytest.raises(StateDictError, match="decoupled_weight_decay is True"):
            AdamW([parameter([1.0, 1.0])]).load_state_dict(FROM_TORCH)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.7, 0.99])
def test_centred_rmsprop_survives_gradients_that_do_not_change(alpha):
    # Then v − m² tends to 0, and by rounding to less, of which there is no root.
    gradients = np.random.default_rng(0).normal(size=100)
    p = tg.tensor(np.zeros(100), requires_grad=True)
    optimizer = RMSprop([p], alpha=alpha, centered=True)
    for _ in range(200):
        p.grad = gradients
        optimizer.step()
    assert np.isfinite(p.data).all()
