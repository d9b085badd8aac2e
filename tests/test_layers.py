"""The house's order, read from the source: who may import whom."""

import ast
from pathlib import Path

import pytest

import tinygrad_stab

ROOT = Path(tinygrad_stab.__file__).parent
# Lowest first; a package imports from packages below it, or from itself.
LAYERS = [
    {"errors"},
    {"arrays", "checks", "domain", "files"},
    {"core"},
    {"ops"},
    {"nn", "optim", "inspection", "datasets"},
    {"testing", "training"},
    {"diagnostics"},
    {"experiments"},
    {"cli"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")
# What may be imported from outside, beyond the standard library.
OUTSIDE = {
    "datasets": {"numpy", "pooch"},
    "testing": {"numpy", "hypothesis"},
    "training": {"numpy", "rich"},
    "diagnostics": {"numpy", "matplotlib"},
    "experiments": {"numpy", "rich", "matplotlib", "dask", "distributed"},
    "cli": {"numpy", "typer", "rich"},
}


def imports(path):
    """Modules that a file imports, anywhere in it but for type checkers, as full names."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    package = ["tinygrad_stab", *path.relative_to(ROOT).parent.parts]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] + (node.module or "").split(".")
            base = [part for part in base if part]
            # `from . import x` names modules, `from .m import x` names one module's content.
            if node.module:
                yield ".".join(base)
            else:
                yield from (".".join([*base, alias.name]) for alias in node.names)


def layer(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_downwards(path):
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "tinygrad_stab":
            target = parts[1]
            allowed = target == layer(path) or LEVEL[target] < LEVEL[layer(path)]
            assert allowed, f"{layer(path)} may not import {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_dependencies_are_those_of_the_layer(path):
    import sys

    allowed = OUTSIDE.get(layer(path), {"numpy"}) | set(sys.stdlib_module_names)
    outside = {name.split(".")[0] for name in imports(path)} - {"tinygrad_stab"}
    assert outside <= allowed


def test_only_the_strategies_need_hypothesis():
    users = {path.name for path in FILES if any(n.startswith("hypothesis") for n in imports(path))}
    assert users == {"strategies.py"}


def test_every_part_of_the_package_has_its_place():
    assert {layer(path) for path in FILES} == set(LEVEL)


def test_no_cycles_between_files():
    graph = {}
    for path in FILES:
        own = ".".join(["tinygrad_stab", *path.relative_to(ROOT).with_suffix("").parts])
        graph[own.removesuffix(".__init__")] = {n for n in imports(path) if "tinygrad" in n}
    finished, open_ = set(), []

    def visit(name):
        assert name not in open_, f"cycle: {' → '.join([*open_, name])}"
        if name in finished or name not in graph:
            return
        open_.append(name)
        for target in graph[name]:
            # A package's file may be imported without going through the package's __init__.
            if not name.startswith(target + "."):
                visit(target)
        open_.pop()
        finished.add(name)

    for name in graph:
        visit(name)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_fit_on_half_a_screen(path):
    lines = [
        line
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith(("import ", "from "))
    ]
    assert len(lines) <= 20
