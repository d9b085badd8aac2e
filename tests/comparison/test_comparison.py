"""What the README says of this package beside its peers: measured, and still so."""

import importlib.metadata
import json
import re
from pathlib import Path

import pytest
from comparison.measure import (
    IN_README,
    NONE,
    PACKAGES,
    PROBES,
    RESULTS,
    VARYING,
    markdown,
    outcome,
)

MEASURED = json.loads(RESULTS.read_text(encoding="utf-8"))
README = Path(__file__).parents[2] / "README.md"
STEADY = [probe for probe in PROBES if probe not in VARYING]
AGAIN = "Run tests/comparison/measure.py again"


def written(probe, package):
    return MEASURED["outcomes"][PROBES[probe]][package]


def test_every_package_was_asked_everything():
    assert list(MEASURED["outcomes"]) == list(PROBES.values())
    for row in MEASURED["outcomes"].values():
        assert list(row) == list(PACKAGES) and all(row.values())


def test_something_that_peers_do_better_is_shown():
    ours = [written(probe, "tinygrad_stab") for probe in IN_README]
    assert "no" in ours and "wrong" in ours


@pytest.mark.parametrize("probe", STEADY)
def test_what_is_said_of_this_package_still_holds(probe):
    assert outcome("tinygrad_stab", probe) == written(probe, "tinygrad_stab"), AGAIN


def test_the_engine_is_about_as_long_as_is_said():
    now, then = int(outcome("tinygrad_stab", "lines")), int(written("lines", "tinygrad_stab"))
    assert abs(now - then) <= 0.1 * then, AGAIN


@pytest.mark.torch
@pytest.mark.parametrize("probe", STEADY)
def test_what_is_said_of_pytorch_holds(probe):
    pytest.importorskip("torch", reason="needs PyTorch to compare with: pip install torch")
    version, here = MEASURED["versions"]["PyTorch"], importlib.metadata.version("torch")
    if here.split("+")[0] != version.split("+")[0]:
        pytest.skip(f"PyTorch was measured at {version}; installed is {here}")
    assert outcome("PyTorch", probe) == written(probe, "PyTorch")


def test_a_check_that_notices_nothing_is_told_from_one_that_does():
    package = PACKAGES["tinygrad_stab"]()
    assert package.check(package.exp_times(1.0), [0.5]) == "passes"
    assert package.check(package.exp_times(2.0), [0.5]) == "fails"
    package.check = lambda f, x: "passes"
    assert package.check_small() == package.check_zero() == package.check_cut() == "no"
    assert package.check_kink() == "no: passes and passes"
    package.check = lambda f, x: NONE
    assert package.check_small() == package.check_kink() == NONE


def test_a_wrong_engine_would_be_called_wrong():
    package = PACKAGES["tinygrad_stab"]()
    right = package.gradient
    package.gradient = lambda f, x: 1.001 * right(f, x)
    assert package.chain_1100() == "wrong"
    assert package.numpy_functions().startswith("0, ")


def test_the_table_of_the_readme_is_what_was_measured():
    section = re.findall(r"<!-- comparison -->(.*?)<!-- /?comparison -->",
                         README.read_text(encoding="utf-8"), re.DOTALL)  # fmt: skip
    if not section:
        pytest.skip("the README has no section between comparison markers")
    table = [line for line in section[0].splitlines() if line.startswith("|")]
    assert table == markdown(MEASURED).splitlines()
    cited = re.findall(r"measured\s+(\d{4}-\d{2}-\d{2})", section[0])
    assert cited == [MEASURED["date"]]
