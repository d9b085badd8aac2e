"""Prove: gradient checks that cannot pass in vain, for this engine's functions and anybody's."""

from .gradcheck import check_gradients
from .grading import Grade, Grades, compare
from .hints import hint
from .ladder import Estimate
from .mutation import Mutant, MutationReport, mutants_of, mutate
from .oracle import Analytic, central_differences, complex_step
from .records import check_primitive
from .report import GradientReport, InputReport

__all__ = [
    "Analytic",
    "Estimate",
    "Grade",
    "Grades",
    "GradientReport",
    "InputReport",
    "Mutant",
    "MutationReport",
    "central_differences",
    "check_gradients",
    "check_primitive",
    "compare",
    "complex_step",
    "hint",
    "mutants_of",
    "mutate",
]
