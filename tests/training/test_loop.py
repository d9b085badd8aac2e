"""The loop against the same steps written out; what it records; how it stops, resumes and fails."""

import math
import os
import signal
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_stab as tg
from tinygrad_stab import nn, optim
from tinygrad_stab.core.mode import mode
from tinygrad_stab.errors import (
    ArgumentError,
    DtypeError,
    GraphError,
    NonFiniteError,
    ShapeError,
    StateDictError,
)
from tinygrad_stab.training import DataLoader, EarlyStopping, accuracy, fit, load, save


@pytest.fixture
def data(rng):
    """A line with noise: 50 examples of 3 numbers."""
    x = rng.normal(size=(50, 3))
    return x, x @ [[1.0], [-2.0], [0.5]] + 0.1 * rng.normal(size=(50, 1))


def line(data, batch_size=8, lr=0.1, **options):
    """Model, loader, loss and optimiser: the same each time."""
    model = nn.Linear(3, 1, rng=0)
    loader = DataLoader(*data, batch_size=batch_size, shuffle=True, rng=1)
    return model, loader, nn.MSELoss(), optim.SGD(model.parameters(), lr=lr, **options)


def weights(model):
    return np.concatenate([p.data.ravel() for p in model.parameters()])


class TestSteps:
    def test_are_those_of_gradient_descent_in_plain_numpy(self, data):
        model, loader, loss, sgd = line(data)
        w, b = model.weight.data.T.copy(), model.bias.data.copy()
        (record,) = fit(model, loader, loss, sgd)
        order = np.random.default_rng(1).permutation(50)
        total = 0.0
        for start in range(0, 50, 8):
            x, y = (array[order[start : start + 8]] for array in data)
            error = x @ w + b - y
            total += np.sum(error**2)
            w -= 0.1 * 2 * x.T @ error / len(x)
            b -= 0.1 * 2 * error.mean(axis=0)
        np.testing.assert_allclose(weights(model), [*w[:, 0], *b], rtol=1e-12)
        assert record.keys() == {"epoch", "loss", "lr", "seconds"}
        assert record["loss"] == pytest.approx(total / 50, rel=1e-12)  # the last batch has 2
        assert (record["epoch"], record["lr"]) == (1, 0.1)
        assert record["seconds"] > 0

    def test_penalty_and_clipping_come_where_they_belong(self, data):
        def half_square(model):
            return 0.5 * (model.weight**2).sum()

        model, loader, loss, sgd = line(data)
        logged = []
        clipped = fit(
            model, loader, loss, sgd, 2,
            penalty=half_square,
            clip=lambda params: optim.clip_grad_norm_(params, 0.5),
            log=lambda metrics, step: logged.append((step, metrics)),
        )  # fmt: skip
        by_hand, loader, loss, sgd = line(data)
        losses, norms = [], []
        for _ in range(2):
            for x, y in loader:
                sgd.zero_grad()
                value = loss(by_hand(x), y) + half_square(by_hand)
                value.backward()
                norms.append(math.sqrt(sum(np.sum(p.grad**2) for p in by_hand.parameters())))
                for p in by_hand.parameters():
                    p.grad = p.grad * min(1.0, 0.5 / (norms[-1] + 1e-6))
                sgd.step()
                losses.append(value.item())
        np.testing.assert_allclose(weights(model), weights(by_hand), rtol=1e-12)
        assert [step for step, _ in logged] == list(range(1, 15))
        assert [m["loss"] for _, m in logged] == pytest.approx(losses)
        assert [m["grad_norm"] for _, m in logged] == pytest.approx(norms)
        assert {m["lr"] for _, m in logged} == {0.1}
        coefficients = [m["clip_coefficient"] for _, m in logged]
        assert coefficients == pytest.approx([min(1.0, 0.5 / (n + 1e-6)) for n in norms])
        assert clipped[1]["grad_norm"] == pytest.approx(np.mean(norms[7:]))
        assert clipped[1]["grad_norm_max"] == pytest.approx(max(norms[7:]))

    def test_clipping_by_value_need_not_return_a_norm(self, data):
        def clip(params):
            for p in params:
                p.grad = np.clip(p.grad, -0.01, 0.01)

        model, loader, loss, sgd = line(data, batch_size=50)
        before = weights(model)
        (record,) = fit(model, loader, loss, sgd, clip=clip)
        assert np.all(np.abs(weights(model) - before) <= 0.1 * 0.01 + 1e-15)
        assert "grad_norm" not in record

    def test_several_inputs_and_lists_of_batches(self):
        class Product(nn.Module):
            def __init__(self):
                self.scale = tg.tensor(1.0, requires_grad=True)

            def forward(self, a, b):
                return self.scale * a * b

        model = Product()
        batches = [(np.ones(4), np.full(4, 2.0), np.full(4, 6.0))]
        fit(model, batches, nn.MSELoss(), optim.SGD(model.parameters(), lr=0.1), 50)
        assert model.scale.item() == pytest.approx(3.0)

    def test_only_what_the_optimizer_holds_is_moved_and_clipped(self, data):
        model, loader, loss, _ = line(data)
        before, seen = weights(model), []
        fit(model, loader, loss, optim.SGD([model.bias], lr=0.1), clip=seen.append)
        assert seen[0] == [model.bias]
        np.testing.assert_array_equal(model.weight.data.ravel(), before[:3])

    @pytest.mark.parametrize(("per", "rates"), [("epoch", [1.0, 0.1]), ("step", [1e-6, 1e-13])])
    def test_a_schedule_steps_after_an_epoch_or_a_step(self, data, per, rates):
        model, loader, loss, sgd = line(data, lr=1.0)
        schedule = optim.StepLR(sgd, step_size=1, gamma=0.1)
        sgd.param_groups[0]["lr"] = 1.0
        history = fit(
            model, loader, loss, sgd, 2, schedule=schedule, schedule_per=per,
            clip=lambda params: optim.clip_grad_norm_(params, 0.01),
        )  # fmt: skip
        assert [record["lr"] for record in history] == pytest.approx(rates)

    def test_a_schedule_that_looks_at_a_metric_is_a_callback(self, data):
        model, loader, loss, sgd = line(data)
        plateau = optim.ReduceLROnPlateau(sgd, patience=1, threshold=100.0, threshold_mode="abs")
        history = fit(
            model, loader, loss, sgd, 4, callbacks=[lambda record: plateau.step(record["loss"])]
        )
        assert [record["lr"] for record in history] == pytest.approx([0.1, 0.1, 0.1, 0.01])
        with pytest.raises(DtypeError, match="is a callback"):
            fit(model, loader, loss, sgd, schedule=plateau)


class TestEpochs:
    def test_no_graph_outlives_its_step(self, data):
        model, loader, _, sgd = line(data)
        alive = []

        def loss(output, y):
            assert all(reference() is None for reference in alive)
            alive.append(weakref.ref(output))
            return nn.functional.mse_loss(output, y)

        fit(model, loader, loss, sgd)
        assert len(alive) == len(loader)

    def test_only_leaves_keep_their_gradient(self, data):
        model, loader, loss, sgd = line(data)
        outputs = []
        fit(model, loader, lambda out, y: outputs.append(out) or loss(out, y), sgd)
        assert all(output.grad is None for output in outputs)
        assert model.weight.grad is not None

    def test_evaluation_is_in_its_mode_and_gives_the_modes_back(self, data):
        model, loader, loss, sgd = line(data)
        net = nn.Sequential(model, nn.Identity())
        net.eval()
        modes = []

        def evaluate(net):
            assert not net.training and not net[1].training and not mode.recording
            return {"here": 1.0}

        def counting(output, y):
            modes.append((net.training, net[1].training, mode.recording))
            return loss(output, y)

        history = fit(net, loader, counting, sgd, 2, evaluate=evaluate)
        assert set(modes) == {(True, True, True)}
        assert [record["here"] for record in history] == [1.0, 1.0]
        net[1].eval()
        with pytest.raises(ZeroDivisionError):
            fit(net, loader, loss, sgd, evaluate=lambda net: {"here": 1 / 0})
        assert net.training and mode.recording

    def test_a_true_value_of_a_callback_ends_training_after_all_were_called(self, data):
        called = []
        callbacks = [lambda record: record["epoch"] == 2, called.append]
        history = fit(*line(data), 5, callbacks=iter(callbacks))
        assert called == history
        assert [record["epoch"] for record in history] == [1, 2]

    @pytest.mark.parametrize(("epochs", "start"), [(0, 0), (3, 3), (2, 5)])
    def test_no_epochs_no_change(self, data, epochs, start):
        model, *rest = line(data)
        before = weights(model)
        assert fit(model, *rest, epochs, start_epoch=start) == []
        np.testing.assert_array_equal(weights(model), before)

    def test_a_resumed_run_is_the_same_bit_for_bit(self, data, tmp_path):
        def make(seed):
            model = nn.Sequential(
                nn.Linear(3, 8, rng=seed), nn.ReLU(), nn.Dropout(0.3, rng=seed),
                nn.Linear(8, 1, rng=seed),
            )  # fmt: skip
            adam = optim.Adam(model.parameters(), lr=0.01 * (1 + seed))
            return {
                "model": model,
                "adam": adam,
                "schedule": optim.CosineAnnealingLR(adam, T_max=10),
                "loader": DataLoader(*data, batch_size=8, shuffle=True, rng=seed),
                "stopping": EarlyStopping(model, patience=2, min_delta=1e-3),
            }

        def train(run, epochs, start_epoch=0, callbacks=(), log=None):
            return fit(
                run["model"], run["loader"], nn.MSELoss(), run["adam"], epochs,
                schedule=run["schedule"], start_epoch=start_epoch, log=log,
                callbacks=[run["stopping"], *callbacks],
            )  # fmt: skip

        whole, steps = make(0), []
        history = train(whole, 9, log=lambda metrics, step: steps.append((step, metrics)))
        first = make(0)
        train(first, 4, callbacks=[lambda record: save(first, tmp_path / "run.npz")])
        second, again = make(1), []
        load(tmp_path / "run.npz", into=second)
        resumed = train(second, 9, 4, log=lambda metrics, step: again.append((step, metrics)))
        assert again == steps[4 * 7 :]
        for a, b in zip(history[4:], resumed, strict=True):
            assert a | {"seconds": 0} == b | {"seconds": 0}
        for name, value in whole["model"].state_dict().items():
            np.testing.assert_array_equal(second["model"].state_dict()[name], value)


class TestWhatGoesWrong:
    def test_a_loss_that_is_not_finite_ends_training_before_its_step(self, data):
        model, loader, loss, sgd = line(data, lr=1e200)
        records, path = [], [weights(model)]
        with (
            np.errstate(all="ignore"),
            pytest.raises(NonFiniteError, match=r"the loss must be finite; it is (inf|nan) at"),
        ):
            fit(
                model, loader, loss, sgd, 3, callbacks=[records.append],
                log=lambda *_: path.append(weights(model)),
            )  # fmt: skip
        assert sgd.steps_taken == len(path) - 1 > 0
        np.testing.assert_array_equal(weights(model), path[-1])

    def test_callbacks_keep_the_records_of_a_run_that_fails_and_say_where(self, data):
        model, loader, _, sgd = line(data, batch_size=25)
        records, calls = [], iter([1.0] * 5 + [math.nan])
        with pytest.raises(NonFiniteError, match="nan at epoch 3, step 2"):
            fit(
                model, loader, lambda out, y: next(calls) * out.sum(), sgd, 9,
                callbacks=[records.append],
            )  # fmt: skip
        assert [record["epoch"] for record in records] == [1, 2]

    def test_a_gradient_that_is_not_finite_is_found_where_it_is_clipped(self):
        p = tg.tensor([0.0], requires_grad=True)
        model = nn.Module()
        model.p = p
        model.forward = lambda x: tg.sqrt(p * x)
        with pytest.raises(NonFiniteError, match="norm of the gradient must be finite; it is"):
            fit(
                model, [(np.ones(1), np.ones(1))], nn.MSELoss(), optim.SGD([p], lr=0.1),
                clip=lambda params: optim.clip_grad_norm_(params, 1.0),
            )  # fmt: skip
        assert p.data.tolist() == [0.0]

    @pytest.mark.parametrize(
        ("changes", "error"),
        [
            ({"model": lambda x: x}, DtypeError),
            ({"optimizer": "adam"}, DtypeError),
            ({"optimizer": optim.SGD([tg.tensor(1.0, requires_grad=True)])}, ArgumentError),
            ({"loader": []}, ArgumentError),
            ({"loader": iter([(1, 2)])}, ArgumentError),
            ({"loader": DataLoader(np.ones((4, 3)))}, ArgumentError),
            ({"loader": [np.ones(3)]}, ArgumentError),
            ({"loader": [(np.ones((2, 3)),)]}, ArgumentError),
            ({"loss": lambda out, y: out}, ShapeError),
            ({"loss": lambda out, y: 1.0}, ShapeError),
            ({"loss": lambda out, y: tg.tensor(1.0)}, GraphError),
            ({"epochs": -1}, ArgumentError),
            ({"epochs": True}, ArgumentError),
            ({"epochs": 1.0}, ArgumentError),
            ({"start_epoch": math.nan}, ArgumentError),
            ({"schedule_per": "batch"}, ArgumentError),
            ({"schedule": "cosine"}, DtypeError),
            ({"callbacks": [None]}, DtypeError),
            *(({name: 5}, DtypeError) for name in ("loss", "clip", "penalty", "evaluate", "log")),
        ],
    )
    def test_arguments_that_cannot_do_their_part_change_nothing(self, data, changes, error):
        arguments = dict(zip(("model", "loader", "loss", "optimizer"), line(data), strict=True))
        model = arguments["model"]
        before = weights(model)
        with pytest.raises(error, match=r"received|require grad|has none of them"):
            fit(**arguments | changes)
        np.testing.assert_array_equal(weights(model), before)

    @pytest.mark.parametrize("measured", [None, 0.9, {"loss": 1.0}])
    def test_an_evaluation_that_cannot_join_the_record(self, data, measured):
        with pytest.raises(ArgumentError, match=r"returns a mapping .* received"):
            fit(*line(data), evaluate=lambda model: measured)

    def test_a_target_without_axes_is_one_example(self):
        model = nn.Linear(3, 2, rng=0)
        batches = [(np.ones(3), np.array(0)), (np.zeros(3), 1)]
        records = fit(model, batches, nn.CrossEntropyLoss(), optim.SGD(model.parameters()))
        assert np.isfinite(records[0]["loss"])


class TestInterruption:
    @pytest.fixture(autouse=True)
    def handler(self):
        """As Python starts, whoever runs the tests."""
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        signal.signal(signal.SIGINT, before)

    @staticmethod
    def interrupted(loss, times):
        """The loss of a step that is interrupted before its backward pass, the third."""
        calls = []

        def interrupting(output, y):
            calls.append(1)
            for _ in range(times if len(calls) == 3 else 0):
                signal.raise_signal(signal.SIGINT)
            return loss(output, y)

        return interrupting

    def test_waits_for_the_end_of_the_step(self, data):
        model, loader, loss, sgd = line(data, momentum=0.9)
        with pytest.raises(KeyboardInterrupt):
            fit(model, loader, self.interrupted(loss, 1), sgd)
        whole, batches, loss, other = line(data, momentum=0.9)
        fit(whole, list(batches)[:3], loss, other)
        assert sgd.steps_taken == 3
        np.testing.assert_array_equal(weights(model), weights(whole))

    def test_does_not_wait_the_second_time(self, data):
        model, loader, loss, sgd = line(data)
        with pytest.raises(KeyboardInterrupt):
            fit(model, loader, self.interrupted(loss, 2), sgd)
        assert sgd.steps_taken == 2

    def test_does_not_wait_between_steps(self, data):
        model, loader, loss, sgd = line(data)
        with pytest.raises(KeyboardInterrupt):
            fit(
                model, loader, loss, sgd,
                log=lambda _, step: signal.raise_signal(signal.SIGINT) if step == 2 else None,
            )  # fmt: skip
        assert sgd.steps_taken == 2

    def test_leaves_the_handlers_of_others_alone(self, data):
        told = []
        signal.signal(signal.SIGINT, lambda *_: told.append(1))
        try:
            model, loader, loss, sgd = line(data)
            fit(model, loader, self.interrupted(loss, 1), sgd)
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        assert told == [1] and sgd.steps_taken == 7

    def test_another_thread_can_train(self, data):
        done = []
        thread = threading.Thread(target=lambda: done.extend(fit(*line(data), 2)))
        thread.start()
        thread.join()
        assert len(done) == 2


PROGRAM = """
import numpy as np, tinygrad_stab as tg
from tinygrad_stab.training import DataLoader, fit
model = tg.nn.Linear(1, 1, rng=0)
loader = DataLoader(np.ones((60, 1)), np.ones((60, 1)), batch_size=10)
sgd = tg.optim.SGD(model.parameters())
fit(model, loader, tg.nn.MSELoss(), sgd, 2, progress={progress})
"""


@pytest.mark.parametrize(
    ("prelude", "progress", "shown"),
    [
        ("", True, True),
        ("", False, False),
        ("import sys; sys.modules['rich.console'] = None", True, False),
    ],
    ids=["rich", "not wanted", "no rich"],
)
def test_a_bar_is_shown_on_a_terminal_where_there_is_rich(prelude, progress, shown):
    pty = pytest.importorskip("pty", reason="needs a pseudo-terminal")
    ours, theirs = pty.openpty()
    program = prelude + PROGRAM.format(progress=progress)
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100", "PYTHONWARNINGS": "error"}
    subprocess.run(
        [sys.executable, "-c", program], stderr=theirs, env=environment, check=True, timeout=60
    )
    os.write(theirs, b"the end")
    text = os.read(ours, 1 << 16).decode()
    os.close(ours), os.close(theirs)
    assert ("epoch 2/2  loss" in text and "12/12" in text) == shown
    assert shown or text == "the end"


def test_nothing_is_shown_elsewhere(data, capfd):
    fit(*line(data), 2)
    assert capfd.readouterr() == ("", "")


class TestAccuracy:
    @given(st.integers(1, 30), st.integers(2, 4), st.integers(1, 40), st.integers(0, 1000))
    def test_is_the_share_of_right_classes(self, n, classes, size, seed):
        rng = np.random.default_rng(seed)
        x, y = rng.normal(size=(n, 5)), rng.integers(classes, size=n)
        model = nn.Linear(5, classes, rng=rng)
        outputs = x @ model.weight.data.T + model.bias.data
        right = sum(max(range(classes), key=row.__getitem__) == c for row, c in zip(outputs, y))  # noqa: B905
        assert accuracy(model, x, y, batch_size=size) == right / n

    def test_is_measured_in_evaluation_mode_without_a_graph(self):
        model = nn.Sequential(nn.Identity(), nn.Linear(2, 2, rng=0))
        model[0].eval()
        seen = []
        model[0].forward = lambda x: seen.append((model.training, mode.recording)) or x
        accuracy(model, np.ones((3, 2)), [0, 1, 1], batch_size=2)
        assert seen == [(False, False)] * 2
        assert model.training and not model[0].training

    def test_of_pixels_counts_pixels(self):
        outputs = np.array([[[1.0, 2.0], [3.0, 1.0]]])  # (1, classes, pixels)
        assert accuracy(nn.Identity(), outputs, [[1, 1]]) == 0.5

    @pytest.mark.parametrize(
        ("outputs", "labels"),
        [
            (np.ones(3), [0, 1, 0]),
            (np.ones((3, 1)), [0, 1, 0]),
            (np.ones((3, 2)), np.eye(3)[:, :2]),
            (np.ones((3, 2, 4)), [0, 1, 0]),
        ],
        ids=["no axis", "one class", "one-hot", "not per pixel"],
    )
    def test_refuses_outputs_that_do_not_fit_the_labels(self, outputs, labels):
        with pytest.raises(ShapeError, match="received outputs"):
            accuracy(nn.Identity(), outputs, labels)


def stops(stopping, values):
    """The epoch at which it stops, if it does."""
    for epoch, value in enumerate(values, start=1):
        if stopping({"epoch": epoch, "loss": value}):
            return epoch
    return None


class TestEarlyStopping:
    @given(
        st.lists(st.integers(-5, 5), min_size=1), st.integers(1, 4), st.sampled_from(["min", "max"])
    )
    def test_stops_so_many_epochs_after_the_first_best(self, values, patience, mode):
        stopping = EarlyStopping(nn.Module(), mode=mode, patience=patience)
        best = [getattr(np, f"arg{mode}")(values[:i]) for i in range(1, len(values) + 1)]
        expected = [i + 1 for i, first in enumerate(best) if i - first >= patience]
        stopped = stops(stopping, values)
        assert stopped == (expected[0] if expected else None)
        last = (stopped or len(values)) - 1
        assert (stopping.best, stopping.best_epoch) == (values[best[last]], best[last] + 1)

    def test_better_means_by_more_than_min_delta(self):
        assert (
            stops(EarlyStopping(nn.Module(), patience=2, min_delta=1.0), [9, 8, 7.5, 7, 6.5]) == 5
        )
        assert stops(EarlyStopping(nn.Module(), patience=2, min_delta=1.0), [9, 8, 8]) == 3

    def test_nan_is_never_better(self):
        stopping = EarlyStopping(nn.Linear(1, 1), patience=3)
        assert stops(stopping, [math.nan, 1.0, math.nan, math.nan, math.nan]) == 5
        assert stops(EarlyStopping(nn.Linear(1, 1), patience=2), [math.nan] * 2) == 2

    @pytest.mark.parametrize("restore", [True, False])
    def test_the_best_weights_come_back(self, restore):
        model = nn.Linear(2, 1, rng=0)
        stopping = EarlyStopping(model, patience=2, restore_best=restore)
        for epoch, loss in enumerate([3.0, 1.0, 2.0, 2.0], start=1):
            nn.init.constant_(model.weight, epoch)
            stopping({"epoch": epoch, "loss": loss})
        assert model.weight.data.tolist() == [[2.0, 2.0] if restore else [4.0, 4.0]]
        assert bool(stopping.best_state) == restore

    @given(st.lists(st.integers(0, 9), min_size=2, max_size=12), st.data())
    def test_goes_on_from_a_saved_state(self, values, data):
        cut = data.draw(st.integers(0, len(values)))
        model = nn.Linear(1, 1, rng=0)
        whole, first, second = (EarlyStopping(model, patience=3) for _ in range(3))
        expected = [whole({"epoch": i, "loss": v}) for i, v in enumerate(values)]
        found = [first({"epoch": i, "loss": v}) for i, v in enumerate(values[:cut])]
        second.load_state_dict(first.state_dict())
        found += [second({"epoch": i, "loss": v}) for i, v in enumerate(values[cut:], cut)]
        assert found == expected
        assert second.state_dict() == whole.state_dict()

    def test_a_state_shares_no_memory(self):
        first, second = (EarlyStopping(nn.Linear(1, 1, rng=0)) for _ in range(2))
        first({"epoch": 1, "loss": 1.0})
        state = first.state_dict()
        second.load_state_dict(state)
        arrays = [state["best_state"]["bias"], *(s.best_state["bias"] for s in (first, second))]
        for i, array in enumerate(arrays):
            array[:] = i
        assert [array.item() for array in arrays] == [0, 1, 2]

    @pytest.mark.parametrize(
        "changes",
        [
            {"best": "x"},
            {"best": None},
            {"best_epoch": {}},
            {"best_epoch": math.inf},
            {"best": 10**400},
            {"best_state": 3},
            {"best_state": None},
        ],
    )
    def test_a_state_that_does_not_fit_changes_nothing(self, changes):
        stopping = EarlyStopping(nn.Linear(1, 1))
        state = stopping.state_dict()
        for broken in (state | changes, {"best": 1.0}, None):
            with pytest.raises(StateDictError, match="received"):
                stopping.load_state_dict(broken)
        assert stopping.state_dict() == state

    @pytest.mark.parametrize(
        "options",
        [
            {"mode": "lower"},
            *({"patience": value} for value in (0, -1, 1.5, True, math.nan)),
            *({"min_delta": value} for value in (-1.0, math.nan, math.inf, "0", None)),
        ],
    )
    def test_options_out_of_range(self, options):
        with pytest.raises(ArgumentError, match="received"):
            EarlyStopping(nn.Module(), **options)

    def test_what_is_monitored_must_be_recorded(self, data):
        model, *rest = line(data)
        with pytest.raises(ArgumentError, match=r"received 'accuracy', and a record of epoch, los"):
            fit(model, *rest, callbacks=[EarlyStopping(model, "accuracy", "max")])
