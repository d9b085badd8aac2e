"""Training runs: what a configuration makes, and that a run which is killed goes on as it was."""

import random
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

import tinygrad_stab as tg
from tinygrad_stab.errors import ArgumentError, CheckpointError, DataError
from tinygrad_stab.experiments.training import Config, sets, train

SMALL = Config(epochs=2, examples=200, hidden=(16,), batch_size=50)


def weights(result):
    return {name: p.data.copy() for name, p in result.model.named_parameters()}


def same(a, b):
    """Bit for bit, apart from the time that it took."""
    for first, second in zip(a.history, b.history, strict=True):
        assert {**first, "seconds": 0} == {**second, "seconds": 0}
    for name, value in weights(a).items():
        np.testing.assert_array_equal(value, weights(b)[name])


class TestTrain:
    def test_learns_digits(self):
        assert train(Config(epochs=8)).accuracy > 0.95

    @pytest.mark.parametrize(
        "change",
        [
            {"optimizer": "sgd"},
            {"optimizer": "momentum"},
            {"optimizer": "nesterov"},
            {"optimizer": "adagrad", "lr": 0.05},
            {"optimizer": "rmsprop"},
            {"optimizer": "adamw", "weight_decay": 0.01},
            {"model": "resmlp", "norm": "batch"},
            {"norm": "layer"},
            {"activation": "tanh", "init": "xavier", "dtype": "float64"},
            {"schedule": "one-cycle", "lr": 0.01},
            {"schedule": "warmup-cosine"},
            {"schedule": "plateau"},
            {"clip_norm": 1.0, "l2": 1e-4},
            {"clip_value": 0.1, "l1": 1e-5},
            {"model": "linear", "lr": 0.05},
        ],
        ids=str,
    )
    def test_learns_with_everything(self, change):
        assert train(replace(Config(epochs=8), **change)).accuracy > 0.85

    @pytest.mark.parametrize("schedule", ["step", "exponential", "cosine", "warmup"])
    def test_schedules_move_the_rate(self, schedule):
        rates = [r["lr"] for r in train(replace(SMALL, epochs=20, schedule=schedule)).history]
        assert len(set(rates)) > 1 and min(rates) > 0

    def test_is_reproducible_and_seeds_differ(self):
        same(train(SMALL), train(SMALL))
        assert train(SMALL).history[0]["loss"] != train(replace(SMALL, seed=1)).history[0]["loss"]

    def test_the_test_set_is_not_trained_on(self):
        training, test = sets(Config())
        assert len(training.labels) + len(test.labels) == 1797
        seen = {image.tobytes() for image in training.inputs}
        assert not seen & {image.tobytes() for image in test.inputs}

    def test_watches_the_gradients(self):
        result = train(SMALL)
        assert result.flow.layers == ["layers.0.linear", "layers.1.linear"]
        assert np.all(result.flow.series("update") > 0)
        assert result.to_dict()["flow"]["layers"]["layers.0.linear"]["delta"]["rms"] > 0

    def test_no_epochs(self):
        assert np.isnan(train(replace(SMALL, epochs=0)).accuracy)


class TestResume:
    @pytest.mark.parametrize(
        "change",
        [
            {},
            {"optimizer": "momentum", "schedule": "cosine"},
            {"model": "resmlp", "hidden": (16, 16), "norm": "batch", "schedule": "one-cycle"},
            {"optimizer": "rmsprop", "schedule": "plateau"},
        ],
        ids=str,
    )
    def test_equals_the_run_that_never_stopped(self, tmp_path, change):
        config, path = replace(SMALL, epochs=5, **change), tmp_path / "run.npz"

        def stop(record):
            if record["epoch"] == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(config, checkpoint=path, callback=stop)
        resumed = train(config, checkpoint=path, resume=True)
        assert [r["epoch"] for r in resumed.history] == [1, 2, 3, 4, 5]
        same(resumed, train(config))

    def test_can_be_made_longer(self, tmp_path):
        path = tmp_path / "run.npz"
        train(SMALL, checkpoint=path)
        longer = replace(SMALL, epochs=4)
        same(train(longer, checkpoint=path, resume=True), train(longer))

    @pytest.mark.parametrize(
        ("change", "named"),
        [({"lr": 0.5}, "lr"), ({"schedule": "cosine", "epochs": 3}, "schedule, epochs")],
    )
    def test_another_run_is_refused(self, tmp_path, change, named):
        path = tmp_path / "run.npz"
        train(SMALL, checkpoint=path)
        with pytest.raises(CheckpointError, match=named):
            train(replace(SMALL, **change), checkpoint=path, resume=True)

    def test_a_file_of_something_else_is_refused(self, tmp_path):
        path = tmp_path / "run.npz"
        tg.save({"weights": np.ones(3)}, path)
        with pytest.raises(CheckpointError, match="must be of the run"):
            train(SMALL, checkpoint=path, resume=True)

    def test_killed_fifty_times_it_can_always_be_loaded_and_ends_the_same(self, tmp_path):
        path = tmp_path / "run.npz"
        config = replace(SMALL, epochs=100_000, examples=50, hidden=(8,), schedule="plateau")
        code = (
            "from pathlib import Path\n"
            "from tinygrad_stab.experiments.training import Config, train\n"
            f"train({config!r}, checkpoint=Path({str(path)!r}), resume=True, every=10**6)\n"
        )
        moments = random.Random(0)
        epochs = []
        for _ in range(50):
            process = subprocess.Popen([sys.executable, "-c", code])
            before = path.stat().st_mtime_ns if path.exists() else 0
            deadline = time.monotonic() + 60
            while not path.exists() or path.stat().st_mtime_ns == before:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.002)
            time.sleep(moments.uniform(0, 0.05))  # in the middle of a step, or of a save
            process.send_signal(signal.SIGKILL)
            process.wait()
            epochs.append(len(tg.load(path)["history"]))
        assert epochs == sorted(epochs) and len(set(epochs)) == 50
        assert len(list(tmp_path.iterdir())) <= 2  # drafts of the killed do not pile up
        # What was cut into fifty pieces is what one run makes.
        once = train(replace(config, epochs=epochs[-1]))
        same(train(replace(config, epochs=epochs[-1]), checkpoint=path, resume=True), once)


class TestErrors:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"model": "cnn"}, "model is one of linear, mlp"),
            ({"lr": 0.0}, "lr is above 0"),
            ({"lr": float("nan")}, "lr is above 0"),
            ({"clip_norm": -1.0}, "clip_norm is at least 0"),
            ({"epochs": -1}, "epochs is at least 0"),
            ({"hidden": (0,)}, "hidden: sizes of at least 1"),
            ({"model": "linear", "hidden": (3,)}, "hidden: sizes of at least 1"),
            ({"model": "lenet"}, "lenet is for 28×28 images"),
        ],
        ids=str,
    )
    def test_configurations_are_checked(self, change, message):
        with pytest.raises(ArgumentError, match=message):
            Config(**change)

    def test_more_than_there_is(self):
        with pytest.raises(ArgumentError, match="batch_size is at most"):
            train(replace(SMALL, batch_size=201))
        with pytest.raises(ArgumentError, match="examples is at most 1438"):
            train(Config(examples=2000))


class TestFlowLog:
    def test_of_a_run_that_was_interrupted_is_that_of_one_that_was_not(self, tmp_path):
        whole, cut, path = (tmp_path / name for name in ("whole.jsonl", "cut.jsonl", "run.npz"))
        config = replace(SMALL, epochs=5)
        train(config, flow_path=whole, every=1)

        def fail(record):
            if record["epoch"] == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(config, checkpoint=path, flow_path=cut, every=1, callback=fail)
        lines = whole.read_bytes().splitlines(keepends=True)
        # Killed in the middle of a later step, and of a line.
        cut.write_bytes(b"".join(lines[:11]) + lines[11][:20])
        train(config, checkpoint=path, resume=True, flow_path=cut, every=1)
        assert cut.read_bytes() == whole.read_bytes()

    def test_is_written_anew_by_a_new_run(self, tmp_path):
        log = tmp_path / "flow.jsonl"
        for _ in range(2):
            train(SMALL, flow_path=log, every=1)
        assert log.read_bytes().count(b"\n") == 8

    @pytest.mark.parametrize("content", [b"my thesis\n", b"[1]\n", b'{"step": "x"}\n', b"\xff\n"])
    def test_something_else_is_not_taken_for_it(self, tmp_path, content):
        log, path = tmp_path / "thesis.txt", tmp_path / "run.npz"
        log.write_bytes(content)
        with pytest.raises(DataError, match=r"thesis.txt: .* gradient flow"):
            train(SMALL, checkpoint=path, resume=True, flow_path=log)
        assert log.read_bytes() == content and not path.exists()


@pytest.mark.parametrize(
    "change", [{"history": 5}, {"history": [1, 2]}, {"config": 3}, {"history": None}], ids=str
)
def test_a_checkpoint_with_another_content_is_refused(tmp_path, change):
    path = tmp_path / "run.npz"
    train(SMALL, checkpoint=path)
    tg.save(tg.load(path) | change, path)
    with pytest.raises(CheckpointError, match="must be of the run"):
        train(SMALL, checkpoint=path, resume=True)


@pytest.mark.parametrize("name", ["sgd", "adagrad"])
def test_one_cycle_gives_no_momentum_to_what_has_none(name):
    result = train(replace(SMALL, optimizer=name, schedule="one-cycle", epochs=1))
    assert result.history[0]["lr"] > 0
    one = replace(SMALL, optimizer="sgd", schedule="one-cycle", lr=0.01, epochs=3)
    other = replace(one, optimizer="momentum")
    assert train(one).history[-1]["loss"] > train(other).history[-1]["loss"]
