"""The audit of common claims: verdicts follow from numbers, and numbers from runs."""

import io
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tinygrad_stab.errors import ArgumentError
from tinygrad_stab.experiments import claims, claims_depth, claims_training, claims_view
from tinygrad_stab.experiments.claims import CLAIMS, Audit, Verdict, exceeds, spread

# Claims whose quick run takes a second or less.
FAST = ["relu", "quarter", "he-hamming", "decay-is-clipping", "clippings", "depth"]


def five(value):
    """A number, and its spread of 4 % over five seeds."""
    return [value * f for f in (0.96, 0.98, 1.0, 1.02, 1.04)]


def numbered(values):
    """Each given number as five seeds; lists as they are."""
    return {name: v if isinstance(v, list) else five(v) for name, v in values.items()}


def initialisation(relu, tanh, sigmoid, small=10):
    proper = {"ReLU + He": relu, "tanh + Xavier": tanh, "sigmoid + Xavier": sigmoid}
    naive = {f"{name} + N(0, 0.01²)": small for name in ("ReLU", "tanh", "sigmoid")}
    return {f"accuracy %: {name}": value for name, value in (proper | naive).items()}


def depth(gradients, accuracies):
    return {
        f"{what}: depth {d}": value
        for what, values in (("accuracy %", accuracies), ("‖∂L/∂W₁‖ at the start", gradients))
        for d, value in zip((1, 3, 6), values, strict=True)
    }


def relu(*factors):
    found = {
        f"factor a layer: ReLU, n·Var(w) = {v}": f for v, f in zip((1, 2, 4), factors, strict=True)
    }
    return found | {"factor a layer: tanh (slope at most 1), σ_w² = 4": 1.16}


def quarter(*factors):
    return {f"factor a layer: σ_w² = {v}": f for v, f in zip((1, 4, 16), factors, strict=True)}


def hamming(loss, gradient):
    return {
        "n·Var(w)": 2,
        "loss less plain cross-entropy, relative": loss,
        "gradient less that of plain cross-entropy, relative": gradient,
    }


def batch_norm(shallow, shallow_bn, deep_bn, skips, factor):
    return {
        "accuracy %: 3 layers, no norm": shallow,
        "accuracy %: 3 layers, batch norm": shallow_bn,
        "accuracy %: 57 layers, batch norm": deep_bn,
        "accuracy %: 57 layers, batch norm and skips": skips,
        "factor a layer at the start: 57 layers, batch norm": factor,
    }


def skips(shallow, deep, norm, scaled):
    return {
        "accuracy %: 4 layers, skips alone": shallow,
        "accuracy %: 20 layers, skips alone": deep,
        "rates at which it diverged, %: 20 layers, skips alone": 75,
        "accuracy %: 20 layers, skips and batch norm": norm,
        "accuracy %: 20 layers, skips and 1/√L": scaled,
    }


def regularisation(without, l1, l2):
    return {
        "‖∂L/∂W₁‖: λ = 0": without,
        "‖∂L/∂W₁‖: L1, λ = 0.01": l1,
        "‖∂L/∂W₁‖: L2, λ = 0.01": l2,
    }


def learning_rate(start, later):
    found = {
        f"‖∂L/∂W₁‖ {when}: tanh, lr {lr}": value
        for when, values in (("at step 0", start), ("later", later))
        for lr, value in zip(("0.001", "0.1", "10"), values, strict=True)
    }
    flags = {"gradient exactly 0 later: ReLU, lr 1": [True, False, False, False, True]}
    return found | flags | {"overflow: ReLU, lr 1": [False] * 5}


def decay(spike, still, apart=1e-15):
    return {
        "‖Δw‖ under a spike: × 0.99": spike,
        "‖Δw‖ under a spike: clipped": 0.1,
        "‖Δw‖ without gradient: × 0.99": still,
        "‖Δw‖ without gradient: clipped": 0,
        "‖Δw − Δw of weight decay‖ / ‖Δw‖: × 0.99": apart,
    }


def cosines(value, weights, norm):
    named = {"value": value, "weights": weights, "norm": norm}
    return {f"cosine of the step with −g: {n}": [v] * 5 for n, v in named.items()}


def clipping(stack, rnn):
    found = {"what clipping multiplies ‖∂L/∂W₁‖ by: sigmoid stack": 1}
    for net, (plain, clipped) in (("sigmoid stack", stack), ("RNN over 50 steps", rnn)):
        found |= {f"accuracy %: {net}, plain": plain, f"accuracy %: {net}, clipped": clipped}
    return found


def gradient(gradients, accuracies):
    return {
        f"{what}: loss × {scale}": value
        for what, values in (("‖∂L/∂w‖", gradients), ("accuracy %", accuracies))
        for scale, value in zip((1, 1000), values, strict=True)
    }


def adaptive(sigmoid, deep):
    return {
        f"accuracy %: {net}, {optimizer}": value
        for net, values in (("sigmoid, depth 6", sigmoid), ("ReLU, depth 30", deep))
        for optimizer, value in zip(("SGD", "RMSprop", "Adam"), values, strict=True)
    }


CASES = [
    ("initialisation", initialisation(96, 96, 95), "supported"),
    ("initialisation", initialisation(96, 96, 10), "supported"),
    ("initialisation", initialisation(96, 10, 10), "depends"),
    ("initialisation", initialisation(96, 10, 95), "depends"),
    ("initialisation", initialisation(20, 20, 20), "refuted"),  # better, but nothing is learnt
    ("initialisation", initialisation(96, 96, 96, small=97), "refuted"),  # learnt, but no better
    ("depth", depth((0.6, 0.1, 1e-3), (94, 93, 10)), "refuted"),
    ("depth", depth((1e-3, 0.1, 0.6), (10, 93, 94)), "supported"),
    ("depth", depth((0.6, 0.1, 1e-3), (94, 94, 94)), "depends"),
    ("depth", depth((1e-3, 0.1, 0.6), (94, 93, 10)), "depends"),
    ("relu", relu(0.7, 1.0, 1.4), "depends"),
    ("relu", relu(1.0, 1.0, 1.0), "supported"),
    ("relu", relu(1.3, 1.4, 1.5), "supported"),
    ("relu", relu(0.5, 0.6, 0.7), "refuted"),
    ("quarter", quarter(0.24, 0.41, 0.63), "depends"),
    ("quarter", quarter(0.25, 0.26, 0.24), "supported"),
    ("quarter", quarter(0.1, 0.41, 0.63), "refuted"),
    ("he-hamming", hamming(0, 1e-16), "refuted"),
    ("he-hamming", hamming(0.1, 0), "supported"),
    ("he-hamming", hamming(0, 1e-3), "supported"),
    ("batch-norm", batch_norm(13, 91, 8, 77, 1.23), "depends"),
    ("batch-norm", batch_norm(13, 91, 92, 93, 1.0), "supported"),
    ("batch-norm", batch_norm(91, 13, 8, 77, 1.23), "refuted"),
    ("batch-norm", batch_norm(91, 13, 92, 93, 1.0), "depends"),
    ("skips", skips(94, 15, 90, 78), "refuted"),
    ("skips", skips(94, 95, 95, 95), "supported"),
    ("skips", skips(94, 60, 95, 20), "depends"),
    ("skips", skips(94, 15, 10, 12), "depends"),
    ("regularisation", regularisation(4e-4, 2e-11, 1e-5), "refuted"),
    ("regularisation", regularisation(4e-4, 4e-4, 4e-4), "refuted"),
    ("regularisation", regularisation(4e-4, 4e-3, 4e-2), "supported"),
    ("regularisation", regularisation(4e-4, 2e-11, 4e-2), "depends"),
    ("learning-rate", learning_rate((0.4, 0.4, 0.4), (0.4, 0.6, 4e-11)), "depends"),
    ("learning-rate", learning_rate((0.4, 0.4, 0.4), (0.4, 0.4, 0.4)), "refuted"),
    ("learning-rate", learning_rate((0.4, 0.1, 0.001), (0.4, 0.1, 0.001)), "supported"),
    ("learning-rate", learning_rate((0.4, 0.1, 0.001), (0.4, 0.4, 0.4)), "depends"),
    ("learning-rate", learning_rate((0.4, 0.4, 0.4), (0.4, 0.4, [math.nan] * 5)), "refuted"),
    ("decay-is-clipping", decay(9e4, 0.18), "refuted"),
    ("decay-is-clipping", decay(0.1, 0), "supported"),
    ("decay-is-clipping", decay(0.1, 0.18), "depends"),
    ("decay-is-clipping", decay(9e4, 0), "depends"),
    ("clippings", cosines(0.3, 0.3, 1.0), "refuted"),
    ("clippings", cosines(1.0, 0.999, 1.0), "supported"),
    ("clipping-vanishing", clipping((10, 10), (25, 26)), "refuted"),
    ("clipping-vanishing", clipping((10, 95), (25, 99)), "supported"),
    ("clipping-vanishing", clipping((10, 10), (25, 99)), "depends"),
    ("clipping-vanishing", clipping((95, 95), (99, 99)), "refuted"),  # nothing to cure
    ("gradient-accuracy", gradient((0.4, 400), (96, 96)), "refuted"),
    ("gradient-accuracy", gradient((0.4, 400), (96, 60)), "supported"),
    ("gradient-accuracy", gradient((0.4, 0.4), (96, 96)), "depends"),
    ("adaptive", adaptive((10, 60, 70), (10, 60, 70)), "supported"),
    ("adaptive", adaptive((10, 60, 70), (10, 10, 40)), "depends"),
    ("adaptive", adaptive((60, 10, 10), (60, 10, 10)), "refuted"),
]  # fmt: skip


class TestVerdicts:
    @pytest.mark.parametrize(("name", "values", "word"), CASES)
    def test_follow_from_the_numbers_alone(self, name, values, word):
        verdict = CLAIMS[name].judge(numbered(values))
        assert verdict.word == word
        assert verdict.reason.endswith(".") and (verdict.depends_on or word != "depends")

    def test_every_claim_can_be_supported_and_refuted(self):
        assert len(CLAIMS) == 14
        assert {(name, word) for name, _, word in CASES} >= {
            (name, word) for name in CLAIMS for word in ("supported", "refuted")
        }

    def test_the_sentence_holds_the_numbers(self):
        reason = CLAIMS["quarter"].judge(numbered(quarter(0.24, 0.41, 0.63))).reason
        assert "0.24, 0.41, 0.63" in reason
        reason = CLAIMS["initialisation"].judge(numbered(initialisation(96, 77, 33, 11))).reason
        assert all(f"{percent}%" in reason for percent in (96, 77, 33, 11))

    def test_one_seed_that_disagrees_leaves_the_claim_open(self):
        """Of five seeds all must agree that nets of depth 6 get worse gradients."""
        values = numbered(depth((0.6, 0.1, 1e-3), (94, 93, 10)))
        values["‖∂L/∂W₁‖ at the start: depth 6"][0] = 5.0
        assert CLAIMS["depth"].judge(values).word == "depends"


class TestExceeds:
    @pytest.mark.parametrize(
        ("n", "critical"), [(5, 0), (6, 2), (7, 3), (8, 5), (9, 8), (10, 10), (12, 17)]
    )
    def test_agrees_with_the_published_critical_values(self, n, critical):
        """Wilcoxon's table, one-sided, 5 %: the largest sum of negative ranks that still counts."""
        for total, expected in ((critical, True), (critical + 1, False)):
            differences = np.arange(1.0, n + 1)
            for rank in range(n, 0, -1):
                if rank <= total:
                    differences[rank - 1] *= -1
                    total -= rank
            assert total == 0
            assert exceeds(differences, 0) is expected

    def test_bounds_on_either_side(self):
        values = [1.0, 2.0, 3.0, 4.0, 5.0]
        assert exceeds(values, 0.9) and not exceeds(values, 1.0) and exceeds(5.1, values)
        assert exceeds(values, values, times=0.5) and not exceeds(values, values, times=2)
        assert exceeds(values, 0, margin=0.5) and not exceeds(values, 0, margin=1.5)

    def test_infinite_and_absent_numbers(self):
        assert exceeds([math.inf] * 5, [1.0] * 5)
        assert not exceeds([math.inf] * 5, [math.inf] * 5)
        assert not exceeds([math.nan] * 5, [1.0] * 5) and not exceeds([1.0] * 5, [math.nan] * 5)

    @given(st.lists(st.floats(-1e3, 1e3), min_size=5, max_size=8), st.data())
    def test_both_ways_at_once_is_impossible(self, a, data):
        b = data.draw(st.lists(st.floats(-1e3, 1e3), min_size=len(a), max_size=len(a)))
        assert not (exceeds(a, b) and exceeds(b, a))
        assert not exceeds(a, a)

    @pytest.mark.parametrize(
        ("a", "b"), [([1.0] * 4, 0), (1.0, 2.0), ([1.0] * 5, [1.0] * 6), ([1.0] * 17, 0)]
    )
    def test_too_few_or_unlike_seeds(self, a, b):
        with pytest.raises(ArgumentError, match="compares 5 to 16 seeds"):
            exceeds(a, b)


class TestSpread:
    @pytest.mark.parametrize(
        ("values", "text"),
        [
            ([90.0, 92.0, 94.0], "92.0 ± 2.0"),
            ([0.01, 1.0, 30.0], "1 (0.01 … 30)"),
            ([1e-11, 1e-10, 1e-9], "1.0e-10 (1.0e-11 … 1.0e-09)"),
            ([4e-4, 5e-4, 6e-4], "5.00e-04 ± 1e-04"),
            ([0.1, 0.1 + 1e-12], "0.1"),
            ([0.0, 0.0], "0"),
            ([True, False, True], "2 of 3"),
            ([12345.0], "1.2e+04"),
        ],
    )
    def test_texts(self, values, text):
        assert spread(values) == text


class TestMeasurements:
    @pytest.mark.parametrize("name", FAST)
    def test_runs_and_survives_json(self, name):
        audit = claims.run(CLAIMS[name], quick=True)
        told = json.loads(json.dumps(audit.to_dict(), allow_nan=False))
        assert CLAIMS[name].judge(told["numbers"]) == audit.verdict
        assert told["verdict"]["word"] == audit.verdict.word and audit.seconds > 0
        assert {len(values) for values in audit.numbers.values()} == {5}

    def test_is_reproducible(self):
        assert CLAIMS["clippings"].measure(True) == CLAIMS["clippings"].measure(True)

    def test_factors_are_those_of_mean_field_theory(self):
        numbers = CLAIMS["relu"].measure(True)
        for variance in (1, 2, 4):
            found = numbers[f"factor a layer: ReLU, n·Var(w) = {variance}"]
            assert np.mean(found) == pytest.approx(math.sqrt(variance / 2), rel=0.02)

    def test_clipping_keeps_what_it_promises(self):
        numbers = CLAIMS["decay-is-clipping"].measure(True)
        assert numbers["‖Δw‖ under a spike: clipped"] == pytest.approx([0.1] * 5, rel=1e-6)
        assert numbers["‖Δw‖ without gradient: clipped"] == [0.0] * 5

    def test_the_best_rate_is_taken_and_divergence_counted(self):
        options = {"depth": 3, "activation": "relu", "init": "he"}
        good = claims.train(0, 60, (0.2,), **options)
        both = claims.train(0, 60, (1e-6, 0.2, 1e6), **options)
        assert both.accuracy == good.accuracy > 80
        assert (good.diverged, both.diverged) == (0, 1)

    def test_deltas_and_weight_gradients_agree_with_each_other(self):
        """∂L/∂W of the last layer is δᵀh: with one digit ‖∂L/∂W‖ = ‖δ‖·‖h‖."""
        split = claims.digits(0)
        one = split._replace(x=split.x[:1], labels=split.labels[:1])
        model = claims.stack(one, depth=3, dtype="float64")
        sizes, gradients = claims.deltas(model, one), claims.weight_gradients(model, one)
        first = sizes[0] * math.sqrt(64) * np.linalg.norm(one.x)
        assert gradients[0] == pytest.approx(first, rel=1e-6)

    def test_no_digit_is_both_trained_on_and_tested(self):
        split = claims.digits(3)
        assert len(split.x) + len(split.x_test) == 1797
        repeated = {row.tobytes() for row in split.x} & {row.tobytes() for row in split.x_test}
        assert not repeated

    def test_names_are_unique(self):
        entry = claims.claim(
            "depth", statement="", chinese="", setting="", earlier="", judge=CLAIMS["depth"].judge
        )
        with pytest.raises(ArgumentError, match="'depth' is taken"):
            entry(CLAIMS["depth"].measure)


@pytest.fixture(scope="module")
def audits():
    """Of made-up numbers, one a claim."""
    found = {name: numbered(values) for name, values, _ in CASES}
    return [Audit(c, found[name], c.judge(found[name]), 1.0) for name, c in CLAIMS.items()]


class TestViews:
    def printed(self, *things):
        file = io.StringIO()
        Console(file=file, width=100).print(*things)
        return file.getvalue()

    def test_table_shows_every_claim_whole(self, audits):
        text = self.printed(claims_view.table(audits))
        words = text.split()
        assert "…" not in text and max(map(len, text.splitlines())) <= 100
        for audit in audits:
            assert audit.claim.name in words
            assert set(audit.claim.statement.split()) <= set(words)

    def test_panel_shows_every_number(self, audits):
        for audit in audits:
            text = self.printed(claims_view.panel(audit))
            assert audit.claim.chinese[:10] in text and "5 seeds" in text
            for name, values in audit.numbers.items():
                assert name in text and spread(values) in text

    def test_markdown_has_one_row_a_claim(self, audits):
        text = claims_view.markdown(audits)
        first = text.split("\n\n")[0].splitlines()
        assert len(first) == 2 + len(audits) and all(line.count("|") == 4 for line in first)
        for audit in audits:
            assert f"## {audit.claim.name}\n" in text and audit.claim.chinese in text

    def test_bars_in_numbers_do_not_split_cells(self, audits):
        verdict = Verdict("refuted", "|g| is small.")
        text = claims_view.markdown([audits[0]._replace(verdict=verdict)])
        assert "\\|g\\| is small." in text


def test_claims_stand_in_two_files():
    homes = {claim.measure.__module__ for claim in CLAIMS.values()}
    assert homes == {claims_depth.__name__, claims_training.__name__}
