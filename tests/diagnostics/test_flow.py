"""Gradient flow: what is recorded is what was there."""

import json
import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import tinygrad_stab as tg
from tinygrad_stab.diagnostics import measure
from tinygrad_stab.diagnostics.flow import GradientFlow, read_flow, watch
from tinygrad_stab.errors import ArgumentError, DtypeError
from tinygrad_stab.nn.functional import cross_entropy

X, Y = tg.datasets.digits().features()[:32], tg.datasets.digits().labels[:32]


def net(activation=tg.nn.Tanh):
    rng = np.random.default_rng(0)
    return tg.nn.Sequential(
        tg.nn.Linear(64, 16, rng=rng), activation(), tg.nn.Linear(16, 10, rng=rng)
    )


def one_pass(model, x=X, y=Y, retain="leaves"):
    loss = cross_entropy(model(x), y)
    loss.backward(retain=retain)
    return loss


class TestRecord:
    def test_holds_what_backward_computed(self):
        model = net()
        with watch(model) as flow:
            loss = one_pass(model, retain="all")
        named = tg.inspection.intermediates(loss, model)
        (record,) = flow.records
        assert record.loss == loss.item() and list(record.layers) == ["0", "2"]
        for name in ("0", "2"):
            delta, weight = named[f"{name}.linear"].grad, named[f"{name}.weight"].grad
            for size, array in (
                (record.layers[name].delta, delta),
                (record.layers[name].weight_grad, weight),
            ):
                assert size.norm == pytest.approx(np.linalg.norm(array), rel=1e-12)
                assert size.rms == pytest.approx(np.sqrt(np.mean(array**2)), rel=1e-12)
                assert size.mean == pytest.approx(np.abs(array).mean(), rel=1e-12)
                assert size.max == np.abs(array).max()
                assert size.quantiles == pytest.approx(
                    np.quantile(np.abs(array), measure.QUANTILES), rel=0.1
                )
        out = named["1.tanh"].data
        found = record.activations["1.tanh"]
        assert found.mean == pytest.approx(out.mean(), abs=1e-12)
        assert found.std == pytest.approx(out.std(), rel=1e-12)
        assert found.saturated == np.mean(1 - out**2 < 0.02)

    def test_counts_zeros_and_subnormals(self):
        array = np.array([0.0, 0.0, 1e-310, 1.0])
        (size,) = measure.sizes_of([[array]])
        assert (size.zeros, size.subnormals) == (0.5, 0.25)

    @pytest.mark.parametrize("scale", [1e-200, 1e200])
    def test_norms_neither_overflow_nor_underflow(self, scale):
        with np.errstate(all="ignore"):
            assert measure.joint_norm([np.full(4, scale)]) == pytest.approx(2 * scale)

    @pytest.mark.parametrize("columns", [64, 784, 1000, 1024])
    def test_a_sample_meets_rows_and_columns_alike(self, columns):
        rows, places = np.divmod(measure.sample(np.arange(512 * columns)), columns)
        for found, count in ((rows, 512), (places, columns)):
            assert len(found) == measure.SAMPLE and found.max() > 0.9 * count
            assert np.std(found) == pytest.approx(count / np.sqrt(12), rel=0.3)

    def test_dead_units_are_those_that_no_example_moves(self):
        model = net(tg.nn.ReLU)
        model[0].bias.data[:4] = -100.0
        with watch(model) as flow:
            one_pass(model)
        assert 4 / 16 <= flow.records[0].activations["1.relu"].dead < 1
        assert flow.records[0].activations["1.relu"].saturated > 4 / 16

    def test_channels_are_the_units_of_an_image(self):
        model = tg.nn.Sequential(tg.nn.Conv2d(1, 4, 3, rng=0), tg.nn.ReLU(), tg.nn.Flatten())
        model[0].bias.data[1] = -100.0
        with watch(model) as flow:
            model(np.ones((2, 1, 6, 6))).sum().backward()
        assert flow.records[0].activations["1.relu"].dead >= 0.25
        assert list(flow.records[0].layers) == ["0"]

    def test_a_delta_is_that_of_the_whole_layer(self):
        """A convolution is several operations; its δ is what reaches its output."""
        model = tg.nn.Sequential(tg.nn.Conv2d(1, 2, 3, rng=0), tg.nn.Tanh())
        x = np.random.default_rng(0).normal(size=(2, 1, 5, 5))
        with watch(model) as flow:
            out = model(x)
            (out * out).sum().backward()
        z = out.data
        delta = 2 * z * (1 - z**2)
        assert flow.records[0].layers["0"].delta.norm == pytest.approx(np.linalg.norm(delta))

    def test_a_net_without_modules_is_watched_by_its_parameters(self):
        class Net(tg.nn.Module):
            def __init__(self):
                self.w1 = tg.tensor(np.eye(64)[:, :8], requires_grad=True)
                self.w2 = tg.tensor(np.ones((8, 10)), requires_grad=True)

            def forward(self, x):
                return tg.tanh(x @ self.w1) @ self.w2

        model = Net()
        with watch(model) as flow:
            one_pass(model)
        assert list(flow.records[0].layers) == ["w1", "w2"]
        assert list(flow.records[0].activations) == ["tanh"]

    def test_a_layer_that_is_called_again_is_told_apart(self):
        model = tg.nn.Sequential(tg.nn.Linear(4, 4, rng=0))
        with watch(model) as flow:
            model(model(np.eye(4))).sum().backward()
        assert list(flow.records[0].layers) == ["0", "0#2"]

    def test_a_single_layer_has_its_class_as_its_name(self):
        model = tg.nn.Linear(4, 2, rng=0)
        with watch(model) as flow:
            model(np.eye(4)).sum().backward()
        assert list(flow.records[0].layers) == ["Linear"]


class TestWatching:
    def test_changes_nothing(self):
        plain, watched = net(), net()
        one_pass(plain)
        with watch(watched):
            one_pass(watched)
        for a, b in zip(plain.parameters(), watched.parameters(), strict=True):
            np.testing.assert_array_equal(a.grad, b.grad)

    def test_every_third_pass(self):
        model = net()
        with watch(model, every=3) as flow:
            for _ in range(7):
                one_pass(model)
        assert flow.steps.tolist() == [0, 3, 6]
        assert flow.series("delta", "rms").shape == (3, 2)

    def test_the_oldest_records_go(self):
        model = net()
        with watch(model, capacity=2) as flow:
            for _ in range(5):
                one_pass(model)
        assert flow.steps.tolist() == [3, 4]

    def test_nothing_is_seen_outside_nor_of_other_models(self):
        model, other = net(), net()
        with watch(model) as flow:
            one_pass(other)
            with tg.no_grad():
                model(X)
        one_pass(model)
        assert not flow.records and str(flow) == "nothing was recorded"

    def test_an_error_inside_ends_it(self):
        model = net()
        flow = GradientFlow(model)
        with pytest.raises(RuntimeError, match="inside"), flow:
            raise RuntimeError("inside")
        one_pass(model)
        assert not flow.records

    def test_may_be_entered_again_but_not_inside_itself(self):
        model = net()
        flow = GradientFlow(model)
        for _ in range(2):
            with flow:
                one_pass(model)
        assert len(flow.records) == 2
        with flow, pytest.raises(ArgumentError, match="one block at a time"):
            flow.__enter__()

    def test_with_an_optimizer_it_sees_clipping_and_updates(self):
        model = net()
        sgd = tg.optim.SGD(model.parameters(), lr=0.1)
        with watch(model, sgd) as flow:
            for _ in range(2):
                sgd.zero_grad()
                one_pass(model)
                weight = model[0].weight.data.copy()
                norm = tg.optim.clip_grad_norm_(model.parameters(), 0.1)
                sgd.step()
        layer = flow.records[-1].layers["0"]
        assert norm > 0.1
        assert layer.clipped == pytest.approx(layer.weight_grad.norm * norm.coefficient, rel=1e-6)
        moved = np.linalg.norm(model[0].weight.data - weight) / np.linalg.norm(weight)
        assert layer.update == pytest.approx(moved, rel=0.05)  # of a sample
        assert not sgd.observers

    def test_goes_on_after_numbers_have_gone_bad(self, tmp_path):
        model = net()
        model[2].weight.data[0, 0] = np.inf
        with np.errstate(all="ignore"), watch(model, path=tmp_path / "flow.jsonl") as flow:
            one_pass(model)
        assert not math.isfinite(flow.records[0].layers["0"].delta.norm)
        (line,) = read_flow(tmp_path / "flow.jsonl")
        assert line["layers"]["0"]["delta"]["norm"] is None


class TestLog:
    def test_a_line_of_json_for_each_record_which_others_can_read_along(self, tmp_path):
        path, model, seen = tmp_path / "flow.jsonl", net(), []
        with watch(model, path=path, log=lambda metrics, step: seen.append((step, metrics))):
            for i in range(3):
                one_pass(model)
                assert len(list(read_flow(path))) == i + 1
        assert [step for step, _ in seen] == [0, 1, 2]
        assert {"loss", "delta_rms/0", "weight_grad_norm/2", "dead/1.tanh"} <= set(seen[0][1])
        content = [json.loads(line) for line in path.read_text().splitlines()]
        assert content == list(read_flow(path))
        assert content[0]["layers"]["0"]["delta"]["rms"] == seen[0][1]["delta_rms/0"]

    def test_a_torn_last_line_is_left_out_and_cut_off(self, tmp_path):
        path, model = tmp_path / "flow.jsonl", net()
        with watch(model, path=path):
            one_pass(model)
        with path.open("ab") as file:
            file.write(b'{"step": 1, "lo')
        assert [r["step"] for r in read_flow(path)] == [0]
        with watch(model, path=path):
            one_pass(model)
        assert [r["step"] for r in read_flow(path)] == [0, 0]

    def test_a_killed_process_loses_no_whole_line(self, tmp_path):
        path = tmp_path / "flow.jsonl"
        code = (
            "import numpy as np, tinygrad_stab as tg\n"
            "from tinygrad_stab.diagnostics.flow import watch\n"
            "model = tg.nn.Linear(4, 4, rng=0)\n"
            f"with watch(model, path={str(path)!r}):\n"
            "    while True:\n"
            "        model(np.eye(4)).sum().backward()\n"
        )
        process = subprocess.Popen([sys.executable, "-c", code])
        try:
            deadline = time.monotonic() + 30
            while not (path.exists() and path.stat().st_size > 10_000):
                assert time.monotonic() < deadline and process.poll() is None
                time.sleep(0.01)
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        steps = [record["step"] for record in read_flow(path)]
        assert steps == list(range(len(steps))) and len(steps) > 5


class TestErrors:
    @pytest.mark.parametrize("options", [{"every": 0}, {"every": True}, {"capacity": 1.5}])
    def test_counts_are_whole(self, options):
        with pytest.raises(ArgumentError, match="is an integer of at least 1"):
            watch(net(), **options)

    def test_saturation_is_no_nan(self):
        with pytest.raises(ArgumentError, match="saturation is finite, at least 0"):
            watch(net(), saturation=math.nan)

    def test_a_model_comes_first(self):
        with pytest.raises(DtypeError, match="Pass the model first"):
            watch(tg.optim.SGD(net().parameters()))

    def test_series_knows_its_fields(self):
        with pytest.raises(ArgumentError, match="knows delta, weight_grad"):
            watch(net()).series("gradient")
        with pytest.raises(ArgumentError, match="have the parts norm"):
            watch(net()).series("delta")
        with pytest.raises(ArgumentError, match="others have none"):
            watch(net()).series("dead", "rms")


def test_the_table_has_a_line_a_layer():
    model = net()
    with watch(model) as flow:
        one_pass(model)
    lines = str(flow).splitlines()
    assert lines[1].startswith("0 ") and lines[2].startswith("2 ") and "█" in lines[2]
    assert lines[-1].endswith("1 records")
