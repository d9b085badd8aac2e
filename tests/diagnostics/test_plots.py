"""Pictures of a flow: which panels there are, and that what is drawn is what was recorded."""

import numpy as np
import pytest
from matplotlib.figure import Figure

import tinygrad_stab as tg
from tinygrad_stab.diagnostics import gradient_band, plot, watch
from tinygrad_stab.diagnostics.plots import _labels
from tinygrad_stab.errors import ArgumentError, DtypeError
from tinygrad_stab.nn.functional import cross_entropy

X = np.random.default_rng(0).normal(size=(32, 8))
Y = np.arange(32) % 3


def net(depth=4, activation=tg.nn.ReLU, width=8, prefix=tg.nn.Sequential):
    rng = np.random.default_rng(0)
    layers = []
    for _ in range(depth - 1):
        layers += [tg.nn.Linear(width, width, rng=rng), activation()]
    return prefix(*layers, tg.nn.Linear(width, 3, rng=rng))


def flow_of(model, steps=3, lr=0.1, clip=None):
    sgd = tg.optim.SGD(model.parameters(), lr=lr) if lr else None
    with np.errstate(all="ignore"), watch(model, sgd) as flow:
        for _ in range(steps):
            model.zero_grad()
            cross_entropy(model(X), Y).backward()
            if clip:
                tg.optim.clip_grad_norm_(model.parameters(), clip)
            if sgd:
                sgd.step()
    return flow


def panels(figure):
    """Title → axes, without the scales of colours."""
    return {axes.get_title(): axes for axes in figure.axes if axes.get_title()}


def lines(axes):
    return {line.get_label(): line.get_ydata() for line in axes.get_lines()}


class TestPanels:
    def test_all_that_was_recorded_has_a_panel(self):
        found = panels(flow_of(net(), clip=1e-3).plot())
        assert len(found) == 7
        assert list(found)[1:] == [
            "δ over time", "|δ| in each layer", "activations", "dead and saturated",
            "steps of the weights", "norm of the gradient",
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("model", "steps", "lr", "missing"),
        [
            (net(), 1, 0.1, {"δ over time"}),
            (net(), 3, 0, {"steps of the weights", "norm of the gradient, not clipped"}),
            (net(1), 3, 0.1, {"activations", "dead and saturated"}),
        ],
        ids=["one record", "no optimiser", "one layer"],
    )
    def test_what_has_no_data_is_left_out(self, model, steps, lr, missing):
        everything = set(panels(flow_of(net()).plot()))
        found = panels(flow_of(model, steps, lr).plot())
        assert set(everything) - set(found) - {panels_title(everything)} == missing

    def test_draws_the_sizes_of_the_first_middle_and_last_record(self):
        flow = flow_of(net(), steps=9)
        drawn = lines(next(iter(panels(flow.plot()).values())))
        sizes = flow.series("delta", "rms")
        for step in (0, 4, 8):
            np.testing.assert_array_equal(drawn[f"step {step}"], sizes[step])

    def test_clipping_is_seen(self):
        flow = flow_of(net(), steps=4, clip=1e-3)
        axes = panels(flow.plot())["norm of the gradient"]
        weights = flow.series("weight_grad", "norm")
        np.testing.assert_allclose(
            lines(axes)["before clipping"], np.sqrt((weights**2).sum(axis=1)), rtol=1e-12
        )
        assert (lines(axes)["after"] < 1e-3).all()

    def test_gradients_and_updates_are_on_log_axes(self):
        found = panels(flow_of(net()).plot())
        assert next(iter(found.values())).get_yscale() == "log"
        assert found["steps of the weights"].get_yscale() == "log"
        assert found["|δ| in each layer"].get_xscale() == "log"

    def test_histograms_hold_every_visible_element(self):
        flow = flow_of(net(activation=tg.nn.Tanh))
        for patch in panels(flow.plot())["|δ| in each layer"].patches:
            shares, edges, _ = patch.get_data()
            assert np.sum(shares * np.diff(np.log10(edges))) == pytest.approx(1, abs=0.02)


def panels_title(names):
    """The title that says by how much δ changes."""
    return next(name for name in names if name.startswith("RMS of δ ×"))


class TestPrediction:
    def test_theory_starts_at_the_measured_output_and_has_its_band(self):
        model = net(4)
        flow = flow_of(model)
        factors = [0.5, 0.25, 0.125]
        axes = next(iter(panels(flow.plot(predicted=factors)).values()))
        last = flow.series("delta", "rms")[0, -1]
        np.testing.assert_allclose(
            lines(axes)["theory"], last * np.array([1 / 64, 1 / 32, 1 / 8, 1])
        )
        band = gradient_band([8, 8, 8])
        (area,) = axes.collections
        heights = area.get_paths()[0].vertices[:, 1]
        at_input = heights[np.isclose(area.get_paths()[0].vertices[:, 0], 1)]
        assert at_input.min() == pytest.approx(last / 64 * band.low[0])
        assert at_input.max() == pytest.approx(last / 64 * band.high[0])

    @pytest.mark.parametrize(
        "wrong", [[], [1.0], [1.0] * 4, [1.0, -1.0, 1.0], [np.nan] * 3, [0.0] * 3]
    )
    def test_one_positive_factor_between_neighbours(self, wrong):
        with pytest.raises(ArgumentError, match="between each of 4 layers and the next, 3 in all"):
            flow_of(net()).plot(predicted=wrong)

    @pytest.mark.parametrize("wrong", [3, "factors", [None] * 3])
    def test_factors_are_numbers(self, wrong):
        with pytest.raises(DtypeError, match="predicted is a list of numbers"):
            flow_of(net()).plot(predicted=wrong)


class TestOddFlows:
    """Each is drawn without a warning, which would be an error here."""

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0, 1e-310, 1e300])
    @pytest.mark.parametrize("steps", [1, 3])
    def test_numbers_that_no_log_axis_holds(self, value, steps):
        model = net()
        model[2].weight.data[:] = value
        figure = flow_of(model, steps).plot()
        figure.canvas.draw()
        labels = lines(figure.axes[0])
        if value == 0:
            assert "exactly 0" in labels
        elif not np.isfinite(value):
            assert "not finite" in labels

    @pytest.mark.parametrize("depth", [1, 2, 11, 50])
    def test_any_depth(self, depth):
        model = net(depth, tg.nn.Sigmoid)
        figure = flow_of(model).plot()
        figure.canvas.draw()
        assert len(figure.axes[0].get_xticklabels()) <= 12

    def test_a_first_record_of_other_layers(self):
        model = net()
        with watch(model) as flow:
            model[6](X).sum().backward()
            cross_entropy(model(X), Y).backward()
        flow.plot().canvas.draw()

    def test_long_names_leave_room_for_the_data(self):
        class Deep(tg.nn.Module):
            def __init__(self, depth):
                self.an_attribute_with_a_rather_long_name = (
                    tg.nn.Linear(8, 8, rng=0) if depth == 0 else Deep(depth - 1)
                )
                self.another_attribute_that_is_long = tg.nn.Linear(8, 8, rng=1)

            def forward(self, x):
                x = self.an_attribute_with_a_rather_long_name(x)
                return tg.tanh(self.another_attribute_that_is_long(x))

        figure = flow_of(Deep(4)).plot()
        figure.canvas.draw()
        for axes in panels(figure).values():
            box = axes.get_position()
            assert box.width > 0.1 and box.height > 0.2

    def test_names_lose_what_they_share(self):
        assert _labels(["layers.0.linear", "layers.1.linear"]) == ["0", "1"]
        assert _labels(["a.x.0", "a.y"]) == ["x.0", "y"]
        assert _labels(["conv1"]) == ["conv1"]
        assert _labels(["relu", "relu#2"]) == ["relu", "relu#2"]
        assert len(_labels(["a" * 100])[0]) == 16


class TestFiles:
    @pytest.mark.parametrize("ending", ["png", "svg", "pdf", "PNG"])
    def test_the_ending_says_how(self, tmp_path, ending):
        path = tmp_path / f"flow.{ending}"
        assert isinstance(flow_of(net(2), 1, 0).plot(path), Figure)
        begin = path.read_bytes()[:5]
        assert begin in (b"\x89PNG\r", b"<?xml", b"%PDF-")

    @pytest.mark.parametrize("name", ["flow", "flow.xyz", ".png"])
    def test_other_endings_are_refused(self, tmp_path, name):
        with pytest.raises(ArgumentError, match="the file's ending is one of"):
            flow_of(net(2)).plot(tmp_path / name)
        assert not list(tmp_path.iterdir())

    def test_something_was_recorded(self):
        with pytest.raises(ArgumentError, match="at least one backward pass"):
            plot(watch(net()))
