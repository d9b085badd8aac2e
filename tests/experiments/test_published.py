"""Published results: each quick row comes out, and a row that does not is told."""

import pytest

from tinygrad_stab.errors import ArgumentError
from tinygrad_stab.experiments import published
from tinygrad_stab.experiments.published import ROWS, Measured, Outcome, markdown, row
from tinygrad_stab.experiments.reproduce import chosen, reproduce

QUICK = [name for name, row in ROWS.items() if row.quick]


@pytest.mark.parametrize("name", QUICK)
def test_a_published_result_comes_out(name, request):
    if ROWS[name].mnist:
        request.getfixturevalue("mnist")
    (outcome,) = reproduce([name], quick=True, workers=1)
    assert outcome.measured.passed, outcome.measured


def test_a_result_that_does_not_come_out_is_told(monkeypatch):
    monkeypatch.setattr(published, "ROWS", {})

    @row("wrong", section="0", claim="c", source="s", published="1", tolerance="exact")
    def measure(quick):
        return Measured("2", False, {"x": 2.0})

    outcome = Outcome(published.ROWS["wrong"], measure(True), 0.0)
    assert "**✗**" in markdown([outcome])
    assert outcome.to_dict()["passed"] is False
    with pytest.raises(ArgumentError, match="each name once"):
        row("wrong", section="0", claim="c", source="s", published="1", tolerance="exact")(measure)


def test_rows_are_chosen_by_name_or_by_how_long_they_take():
    assert chosen("", quick=True) == QUICK
    assert set(chosen("", quick=False)) == set(ROWS)
    assert chosen("veit", quick=False) == ["veit-paths"]
