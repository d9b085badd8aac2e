"""The cures of a sick network: what is measured, how it is compared, what is said of it."""

import io
import itertools
import json
import math
from dataclasses import asdict, fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import tinygrad_stab as tg
from tinygrad_stab.errors import ArgumentError
from tinygrad_stab.experiments import remedies_view
from tinygrad_stab.experiments.cures import CURES, PAIRS, Setting, measure
from tinygrad_stab.experiments.network import Stack
from tinygrad_stab.experiments.remedies import (
    PRESETS,
    QUICK,
    RATES,
    Config,
    Flow,
    Interval,
    Outcome,
    Result,
    bootstrap,
    judge,
    remedies,
)

TINY = Config(depth=3, width=8, steps=3, seeds=3, workers=1)
BY_NAME = {cure.name: cure for cure in CURES}


@pytest.fixture(scope="module")
def tiny():
    return remedies(TINY, progress=False)


def run(setting, seed=0, **changes):
    text = json.dumps(asdict(replace(setting, **changes)))
    return measure({"setting": text, "seed": seed}, np.random.default_rng(99))


def outcome(name, accuracies, sick, verdict, delta=1e-3):
    flow = Flow([delta, 1.0], [delta, 1.0])
    differences = [a - b for a, b in zip(accuracies, sick, strict=True)]
    cures = () if name in ("sick", "healthy") else (name,)
    return Outcome(
        name, cures, Setting(lr=0.1), {0.01: math.inf, 0.1: 0.5, 1.0: 2.0}, accuracies, 0,
        flow, flow, bootstrap(accuracies), bootstrap(differences), bootstrap(accuracies), verdict,
    )  # fmt: skip


def made(sick=0.1, healthy=0.95, **treated):
    """A result with the given accuracies and, of treatments, verdicts."""
    base = [sick] * 3
    return Result(
        Config(seeds=3),
        outcome("sick", base, base, "sick"),
        outcome("healthy", [healthy] * 3, base, "healthy"),
        [outcome(name, [a] * 3, base, verdict) for name, (a, verdict) in treated.items()],
        ["Xavier"],
    )


class TestCures:
    def test_names_and_fields_are_right(self):
        assert len(BY_NAME) == len(CURES)
        known = {field.name for field in fields(Setting)}
        assert all(cure.changes and cure.changes.keys() <= known for cure in CURES)

    def test_every_reason_is_one_sentence_with_a_source(self):
        for cure in CURES:
            assert cure.why.endswith(".") and any(year in cure.why for year in ("19", "20"))

    def test_pairs_do_not_contradict_themselves(self):
        assert len({frozenset(pair) for pair in PAIRS}) == len(PAIRS)
        for a, b in PAIRS:
            assert BY_NAME[a].changes.keys().isdisjoint(BY_NAME[b].changes)

    @pytest.mark.parametrize("preset", PRESETS)
    def test_every_setting_goes_into_json_and_back(self, preset):
        for cure in CURES:
            setting = replace(PRESETS[preset], **cure.changes)
            assert Setting(**json.loads(json.dumps(asdict(setting)))) == setting


class TestBootstrap:
    def test_agrees_with_all_resamples(self):
        values = [0.1, 0.37, 0.45, 0.52, 0.71, 0.94]
        means = [sum(chosen) / 6 for chosen in itertools.product(values, repeat=6)]
        mean, low, high = bootstrap(values, level=0.9, draws=100_000)
        assert mean == pytest.approx(np.mean(values))
        assert (low, high) == pytest.approx(tuple(np.quantile(means, [0.05, 0.95])), abs=0.01)

    def test_covers_as_often_as_it_says(self):
        rng = np.random.default_rng(0)
        intervals = [bootstrap(rng.normal(size=6), draws=1000) for _ in range(1000)]
        covered = np.mean([low <= 0 <= high for _, low, high in intervals])
        assert 0.90 < covered < 0.96

    @given(st.lists(st.floats(-1, 1), min_size=2, max_size=8), st.floats(0.1, 10), st.floats(-5, 5))
    def test_moves_with_the_values(self, values, scale, shift):
        moved = bootstrap([scale * value + shift for value in values], draws=200)
        expected = [scale * value + shift for value in bootstrap(values, draws=200)]
        assert list(moved) == pytest.approx(expected, abs=1e-9)
        assert min(values) - 1e-9 <= bootstrap(values).low <= bootstrap(values).high

    def test_a_higher_level_is_wider(self):
        values = [0.1, 0.5, 0.3, 0.9]
        assert bootstrap(values, 0.5).low > bootstrap(values, 0.99).low

    @pytest.mark.parametrize(
        ("values", "options"),
        [([], {}), ([1.0], {}), ([1.0, math.nan], {}), ([[1.0, 2.0]], {}),
         ([1.0, 2.0], {"level": 1.0}), ([1.0, 2.0], {"level": math.nan}),
         ([1.0, 2.0], {"draws": 10}), ([1.0, 2.0], {"draws": True})],
    )  # fmt: skip
    def test_refuses_what_has_no_interval(self, values, options):
        with pytest.raises(ArgumentError, match=r"bootstrap: .*received"):
            bootstrap(values, **options)


class TestJudge:
    @pytest.mark.parametrize(
        ("low", "high", "verdict"),
        [
            (0.40, 0.90, "cures"),
            (0.08, 0.12, "cures"),
            (0.01, 0.10, "cures"),
            (0.01, 0.08, "uncertain"),
            (0.01, 0.04, "does nothing"),
            (-0.04, 0.04, "does nothing"),
            (0.0, 0.0, "does nothing"),
            (-0.04, 0.06, "uncertain"),
            (-0.3, 0.6, "uncertain"),
            (-0.08, -0.01, "uncertain"),
            (-0.12, -0.01, "harms"),
        ],
    )
    def test_decides_from_the_effect(self, low, high, verdict):
        effect, as_good_as_healthy = Interval((low + high) / 2, low, high), Interval(0, -0.01, 0.01)
        assert judge(effect, as_good_as_healthy, gap=0.85) == verdict

    @pytest.mark.parametrize(("worst", "verdict"), [(0.08, "cures"), (0.09, "helps")])
    def test_what_helps_cures_if_it_comes_near_the_healthy(self, worst, verdict):
        assert judge(Interval(0.8, 0.5, 0.9), Interval(0.02, 0.0, worst), gap=0.85) == verdict

    def test_there_is_no_cure_where_there_is_no_gap(self):
        assert judge(Interval(0.06, 0.055, 0.065), Interval(0, 0, 0), gap=-0.01) == "helps"


class TestMeasure:
    def test_agrees_with_gradient_descent_by_hand(self):
        """Two steps of a net of three layers, from nothing but NumPy."""
        setting = Setting(depth=3, width=8, activation="tanh", lr=0.5, steps=2)
        got = run(setting, seed=5)
        weights, order = np.random.default_rng(5).spawn(2)
        data = tg.datasets.digits()
        tested = np.arange(1797) % 5 == 4
        x, labels = data.features()[~tested], data.labels[~tested]
        net = Stack(64, [8, 8], 10, weights, activation="tanh", init="xavier", dtype="float32")
        ws = [block.linear.weight.data.astype(float) for block in net.layers]
        bs = [np.zeros(len(w)) for w in ws]

        def forward(x):
            hs = [x]
            for i, (w, b) in enumerate(zip(ws, bs, strict=True)):
                z = hs[-1] @ w.T + b
                hs.append(z if i == 2 else np.tanh(z))
            return hs, np.exp(hs[-1]) / np.exp(hs[-1]).sum(axis=1, keepdims=True)

        def backward(hs, p, target):
            delta, found = (p - np.eye(10)[target]) / len(target), []
            for i in (2, 1, 0):
                found.insert(0, (delta, delta.T @ hs[i]))
                delta = delta @ ws[i] * (1 - hs[i] ** 2)
            return found

        def rms(a):
            return np.sqrt(np.mean(a**2))

        batches = order.integers(len(x), size=(2, 64))
        for step, batch in enumerate(batches):
            found = backward(*forward(x[batch]), labels[batch])
            if step == 0:
                assert got["start"][0] == pytest.approx([rms(d) for d, _ in found], rel=1e-5)
                shares = [rms(g) / rms(w) for (_, g), w in zip(found, ws, strict=True)]
                assert got["start"][1] == pytest.approx(shares, rel=1e-5)
            for i, (delta, grad) in enumerate(found):
                ws[i] -= 0.5 * grad
                bs[i] -= 0.5 * delta.sum(axis=0)
        found = backward(*forward(x[batches[0]]), labels[batches[0]])
        assert got["end"][0] == pytest.approx([rms(d) for d, _ in found], rel=1e-4)
        shares = [rms(g) / rms(w) for (_, g), w in zip(found, ws, strict=True)]
        assert got["end"][1] == pytest.approx(shares, rel=1e-4)
        p = forward(x)[1]
        assert got["loss"] == pytest.approx(-np.log(p[np.arange(len(x)), labels]).mean(), rel=1e-5)
        right = forward(data.features()[tested])[1].argmax(axis=1) == data.labels[tested]
        assert got["accuracy"] == pytest.approx(right.mean(), abs=0.005)

    def test_is_reproducible_bit_for_bit_and_seeds_differ(self):
        setting = Setting(depth=3, width=8, steps=3)
        assert run(setting, 1) == run(setting, 1) != run(setting, 2)

    def test_what_does_not_act_changes_nothing(self):
        """A gradient below the bounds is not clipped: treatments share weights and batches."""
        setting = Setting(depth=5, width=8, steps=5)
        assert run(setting) == run(setting, clip_norm=100.0) == run(setting, clip_value=100.0)

    @pytest.mark.parametrize(
        "changes",
        [{"clip_norm": 1e-3}, {"clip_value": 1e-4}, {"warmup": True, "steps": 20}, {"l1": 0.1},
         {"optimizer": "momentum"}, {"optimizer": "rmsprop"}, {"optimizer": "adam"},
         {"weight_decay": 0.1}],
    )  # fmt: skip
    def test_changes_to_training_leave_the_start_alone(self, changes):
        setting = Setting(depth=3, width=8, activation="relu", steps=changes.get("steps", 5))
        plain, treated = run(setting), run(setting, **changes)
        assert plain["start"] == treated["start"] and plain["loss"] != treated["loss"]

    def test_weight_decay_is_l2_for_gradient_descent(self):
        setting = Setting(depth=3, width=8, activation="relu", steps=20)
        decayed, penalised = run(setting, weight_decay=0.5), run(setting, l2=0.5)
        assert decayed["loss"] == pytest.approx(penalised["loss"], rel=1e-5)

    def test_a_run_that_diverges_is_an_outcome(self):
        assert run(PRESETS["exploding"], lr=1.0, steps=20)["diverged"]

    def test_batch_normalisation_lets_a_deep_sigmoid_net_learn(self):
        sick = replace(PRESETS["vanishing"], steps=120)
        assert run(sick)["accuracy"] < 0.2
        assert run(sick, norm="batch")["accuracy"] > 0.8

    def test_spirals_have_a_training_and_a_test_set(self):
        assert 0 <= run(Setting(data="spirals", depth=3, width=8, steps=2))["accuracy"] <= 1


class TestFlow:
    def test_says_how_much_reaches_the_first_layer(self):
        flow = Flow([1e-5, 1e-3, 1e-2], [1e-6, 1e-3, math.inf])
        assert (flow.ratio, flow.size) == pytest.approx((-3, -5))
        assert flow.learning == pytest.approx(1 / 3)

    def test_knows_nothing_and_everything(self):
        assert Flow([0.0, 1.0], [0.0, 1.0]).ratio == -math.inf
        assert math.isnan(Flow([math.inf] * 2, [math.inf] * 2).ratio)


class TestRemedies:
    def test_every_treatment_has_as_many_runs(self, tiny):
        assert len(tiny.treated) == len(CURES) - 1 + len(PAIRS)
        assert all(len(x.accuracies) == 3 for x in [tiny.sick, tiny.healthy, *tiny.treated])

    def test_rates_are_those_of_least_training_loss(self, tiny):
        for x in [tiny.sick, tiny.healthy, *tiny.treated]:
            assert tuple(x.rates) == RATES[x.setting.optimizer]
            assert x.rates[x.setting.lr] == min(x.rates.values())

    def test_ranked_by_effect_which_is_paired(self, tiny):
        effects = [x.effect.mean for x in tiny.treated]
        assert effects == sorted(effects, reverse=True)
        for x in tiny.treated:
            differences = np.subtract(x.accuracies, tiny.sick.accuracies)
            assert x.effect == bootstrap(differences)
            assert x.shortfall == bootstrap(np.subtract(tiny.healthy.accuracies, x.accuracies))
            assert x.verdict == judge(x.effect, x.shortfall, tiny.gap)

    def test_accuracies_are_those_of_single_runs(self, tiny):
        for x in (tiny.sick, tiny.treated[0]):
            assert x.accuracies == [run(x.setting, seed)["accuracy"] for seed in range(3)]
        starts = [run(tiny.sick.setting, seed)["start"][0] for seed in range(3)]
        assert tiny.sick.start.deltas == np.median(starts, axis=0).tolist()

    def test_what_the_network_has_already_is_not_tried(self, tiny):
        assert tiny.present == ["Xavier"]
        small = replace(TINY, preset="deep-relu", pairs=False, steps=1)
        assert remedies(small, progress=False).present == ["Xavier", "ReLU"]

    def test_workers_change_nothing(self):
        config = replace(TINY, pairs=False, steps=2)
        alone = remedies(config, progress=False).to_dict()
        together = remedies(replace(config, workers=2), progress=False).to_dict()
        assert alone["treated"] == together["treated"] and alone["sick"] == together["sick"]

    def test_numbers_go_into_json(self, tiny):
        text = json.dumps(tiny.to_dict(), allow_nan=False)
        assert json.loads(text)["treated"][0]["name"] == tiny.treated[0].name
        diverged = made(ReLU=(0.9, "cures")).to_dict()["treated"][0]["rates"][0]
        assert diverged == {"lr": 0.01, "loss": None}

    def test_summary_names_each_treatment_once(self):
        result = made(ReLU=(0.94, "cures"), L1=(0.1, "does nothing"), Adam=(0.5, "uncertain"))
        text = "\n".join(result.summary)
        assert "Cured: ReLU." in text and "Did nothing: L1." in text and "Uncertain" in text
        assert "10.0%" in text and "95.0%" in text and "not sick" not in text

    def test_summary_says_that_a_network_was_not_sick(self):
        assert "not sick" in "\n".join(made(sick=0.93).summary)

    def test_the_edge_of_the_rates_is_marked(self):
        edge = outcome("ReLU", [0.9] * 3, [0.1] * 3, "cures")
        assert not edge.at_edge
        assert replace(edge, setting=Setting(lr=1.0)).at_edge

    @pytest.mark.parametrize(
        "changes",
        [{"preset": "tired"}, {"preset": None}, {"activation": "cube"}, {"init": "zeros"},
         {"data": "letters"}, {"data": ["digits"]}, {"depth": 2}, {"depth": True}, {"depth": 4.0},
         {"width": 1}, {"steps": 0}, {"steps": None}, {"seeds": 2}, {"seeds": math.nan},
         {"workers": 0}, {"workers": "two"}, {"pairs": 1}],
    )  # fmt: skip
    def test_refuses_configurations_that_make_no_sense(self, changes):
        with pytest.raises(ArgumentError, match=f"{next(iter(changes))} is .*received"):
            Config(**changes)

    def test_quick_is_smaller(self):
        quick, full = Config(**QUICK), Config()
        assert quick.steps < full.steps and quick.seeds < full.seeds and not quick.pairs


class TestView:
    def test_table_shows_everything_at_100_columns(self, tiny):
        console = Console(width=100, file=io.StringIO())
        console.print(remedies_view.table(tiny))
        text = console.file.getvalue()
        assert "…" not in text
        assert all(f"{x.name} " in text and x.verdict in text for x in tiny.treated)

    def test_table_shows_what_is_not_finite(self):
        broken = made(ReLU=(0.9, "cures"))
        gone = replace(
            broken.sick, end=Flow([math.nan] * 2, [0.0] * 2), start=Flow([0.0, 1.0], [0.0] * 2)
        )
        console = Console(width=100, file=io.StringIO())
        console.print(remedies_view.table(replace(broken, sick=gone)))
        assert "−∞" in console.file.getvalue()

    def test_plot_has_a_log_axis_for_gradients_and_names_for_all(self, tiny):
        figure = remedies_view.plot(tiny)
        dots, start, end = figure.axes
        assert [axes.get_yscale() for axes in figure.axes] == ["linear", "log", "log"]
        names = [label.get_text() for label in dots.get_yticklabels()]
        assert set(names) == {x.name for x in [tiny.sick, tiny.healthy, *tiny.treated]}
        assert all(axes.get_xlabel() for axes in figure.axes) and start.get_ylabel()
        assert "after" in end.get_title()
        figure.savefig(io.BytesIO())

    def test_plot_draws_what_has_no_logarithm(self):
        result = made(ReLU=(0.9, "cures"))
        gone = replace(result.sick, start=Flow([0.0, 0.0], [0.0] * 2))
        remedies_view.plot(replace(result, sick=gone)).savefig(io.BytesIO())
