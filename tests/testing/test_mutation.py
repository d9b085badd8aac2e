"""What people get wrong in rules is noticed, in every rule of the registry."""

import json

import numpy as np
import pytest

import tinygrad_stab as tg
from tinygrad_stab.errors import ArgumentError
from tinygrad_stab.testing import mutate

RULED = [p for p in tg.REGISTRY.values() if p.rules and p.forward.__module__ != __name__]


@pytest.mark.parametrize("primitive", RULED, ids=lambda p: p.name)
def test_no_mutant_of_a_rule_survives(primitive):
    report = mutate(primitive)
    assert not report.survivors, str(report)
    assert report.mutants and report.score == 1


def fate(report, mutation):
    return {m.verdict for m in report.mutants if m.mutation == mutation}


def test_the_usual_mistakes_are_planted():
    report = mutate([tg.matmul, tg.softmax, tg.tanh, tg.add])
    planted = {m.mutation for m in report.mutants}
    assert planted >= {
        "sign", "factor ½", "factor 2", "first copy, not the sum over all", "transposed",
        "swapped operands", "out for x", "term 1 without its left side", "wrong axis",
        "one element × 1.5", "relative 1e-4", "zero", "g left out",
    }  # fmt: skip


def test_equivalent_mutants_are_told_from_survivors():
    report = mutate(tg.sign)  # whose derivative is zero, however it is spoilt
    assert fate(report, "sign") == {"equivalent"}
    assert report.score == 1 and not report.survivors
    assert fate(mutate(tg.relu), "out for x") == {"equivalent"}  # out > 0 where x > 0


def test_a_hole_in_the_domain_lets_mutants_survive(monkeypatch):
    # A record that is only ever drawn at x = 1, where x² and x³ have other slopes but x·x has x.
    hidden = tg.primitive(
        "users_hidden",
        lambda x: np.where(x < 5, x, 25 + (x - 5) ** 2 - 20),
        lambda g, out, x: g * np.where(x < 5, 1.0, 2 * (x - 5)),
        cases=[tg.domain.case((3,))],
        domain=tg.domain.Interval(0.9, 1.1),
        analytic=False,
        replace=True,
    )
    try:
        report = mutate(hidden)
        # Within the domain the term (x − 5) is never used, so that losing it changes nothing.
        assert fate(report, "term 1 without its left side") == {"equivalent"}
        # A check that sees nothing lets everything through that is not equivalent.
        monkeypatch.setattr("tinygrad_stab.testing.records.check_gradients", lambda *a, **k: None)
        report = mutate(hidden)
        assert {m.mutation for m in report.survivors} >= {"sign", "zero", "relative 1e-4"}
        assert report.score == 0 and "survived: users_hidden, x: sign" in str(report)
    finally:
        del tg.REGISTRY["users_hidden"]


def test_a_wrong_rule_is_refused_before_it_is_spoilt():
    wrong = tg.primitive("users_wrong", np.exp, lambda g, out, x: 2 * g * out, replace=True)
    try:
        with pytest.raises(ArgumentError, match=r"rules must be right to begin with.*users_wrong"):
            mutate(wrong)
    finally:
        del tg.REGISTRY["users_wrong"]


def test_conventions_at_kinks_count():
    ramp = tg.primitive(
        "users_ramp",
        lambda x: np.maximum(x, 0),
        lambda g, out, x: g * (x > 0) + g * (x == 0) / 2,  # ½ at 0, and a term for that alone
        kinks=[tg.domain.Kink(lambda x: x, "ramp′(0) = ½", ([0.0],), ([0.5],))],
        analytic=False,
        replace=True,
    )
    try:
        report = mutate(ramp)
    finally:
        del tg.REGISTRY["users_ramp"]
    by = {m.by for m in report.mutants if m.mutation == "term 1 without its right side"}
    assert by == {"breaks its convention ramp′(0) = ½"}


def test_the_report_as_plain_data():
    plain = json.loads(json.dumps(mutate(tg.exp).to_dict()))
    assert plain["score"] == 1 and plain["mutants"][0]["primitive"] == "exp"
