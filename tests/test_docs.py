"""Documentation that runs: every example, and a docstring for every public name."""

import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest

import tinygrad_stab as tg

MODULES = [
    name
    for _, name, _ in pkgutil.walk_packages(tg.__path__, "tinygrad_stab.")
    if not name.endswith("__main__")
]
README = Path(__file__).parent.parent / "README.md"


@pytest.mark.parametrize("name", ["tinygrad_stab", *MODULES])
def test_examples(name):
    module = importlib.import_module(name)
    assert module.__doc__, "a file says what it is for"
    result = doctest.testmod(module, extraglobs={"tg": tg, "np": np})
    assert result.failed == 0


def public():
    """Every public function and class, and the public methods of the classes."""
    for name in MODULES:
        module = importlib.import_module(name)
        for key, value in vars(module).items():
            own = getattr(value, "__module__", None) == name
            if key.startswith("_") or not own or not callable(value):
                continue
            yield f"{name}.{key}", value
            if inspect.isclass(value):
                for method, body in vars(value).items():
                    if not method.startswith("_") and inspect.isfunction(body):
                        yield f"{name}.{key}.{method}", body


@pytest.mark.parametrize(("name", "value"), [pytest.param(n, v, id=n) for n, v in public()])
def test_public_names_are_documented(name, value):
    assert (inspect.getdoc(value) or "").strip()


@pytest.mark.parametrize("name", tg.__all__)
def test_public_functions_are_annotated(name):
    value = getattr(tg, name)
    if inspect.isfunction(value) and "constants" not in value.__module__:
        signature = inspect.signature(value)
        assert signature.return_annotation is not inspect.Signature.empty
        for parameter in signature.parameters.values():
            assert parameter.annotation is not inspect.Parameter.empty, parameter


def test_public_names_are_spelled_out():
    assert set(tg.__all__) <= set(vars(tg))
    functions = {k for k, v in vars(tg).items() if callable(v) and not k.startswith("_")}
    assert functions <= set(tg.__all__)


def test_python_of_the_readme_runs(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, str(README), "exec"), {})
    assert "0.weight" in capsys.readouterr().out
