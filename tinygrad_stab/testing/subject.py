"""What is under test: three ways to say "a function and its gradient", brought to one form."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy import ndarray

from ..core.backward import graph, sweep
from ..core.mode import enable_grad, no_grad
from ..core.tensor import Tensor
from ..errors import ArgumentError, GradientCheckError, VacuousCheckError
from .oracle import Analytic


class Subject:
    """A function on arrays, and its gradient, of the inputs that are checked."""

    name: str
    names: list[str]
    arrays: list[ndarray]  # values of what is checked, float64
    dtypes: list[np.dtype]  # ... and the types that they had
    complex_ok: list[bool]

    def evaluate(self, *arrays: ndarray) -> Any:
        """F as a function of what is checked: arrays in, arrays out."""
        raise NotImplementedError

    def pullback(self, arrays: Sequence[ndarray]) -> Callable[[ndarray], list[Any]]:
        """The function from a cotangent v (flat) to the gradients of ⟨v, f⟩."""
        raise NotImplementedError


class Inputs(Subject):
    """What all subjects share: which of the inputs are checked."""

    def __init__(self, f: Callable[..., Any], inputs: Sequence[Any], argnums: Any) -> None:
        self.f, self.inputs = f, list(inputs)
        self.name = getattr(f, "__name__", type(f).__name__).replace("<lambda>", "f")
        candidates = list(range(len(inputs)))
        if argnums is not None:
            candidates = list(dict.fromkeys(np.ravel(argnums).tolist()))
            whole = all(isinstance(i, int) for i in candidates)
            if not whole or not all(0 <= i < len(inputs) for i in candidates):
                raise ArgumentError(
                    f"argnums: counts inputs from 0; received {argnums} for {len(inputs)} inputs"
                )
        self.places = [i for i in candidates if _differentiable(inputs[i])]
        if argnums is not None and len(self.places) < len(candidates):
            raise VacuousCheckError(
                f"check_gradients: an input that is checked is of floating-point numbers, and a "
                f"tensor requires grad; argnums={argnums} holds one that is not"
            )
        spoken = _parameter_names(f, len(inputs))
        self.names = [spoken[i] for i in self.places]
        given = [_value(inputs[i]) for i in self.places]
        for name, array in zip(self.names, given, strict=True):
            if array.size and any(
                n > 1 and step == 0 for n, step in zip(array.shape, array.strides, strict=True)
            ):
                raise ArgumentError(
                    f"check_gradients: every element needs memory of its own, for each is moved "
                    f"alone; {name} {array.shape} has stride 0 (np.broadcast_to?). Pass a .copy()"
                )
        self.dtypes = [array.dtype.newbyteorder("=") for array in given]
        self.arrays = [array.astype(float, order="C") for array in given]
        self.complex_ok = [True] * len(given)

    def filled(self, values: Sequence[Any]) -> list[Any]:
        """All inputs of f, with these in the checked places."""
        full = list(self.inputs)
        for place, value in zip(self.places, values, strict=True):
            full[place] = value
        return full


class EngineFunction(Inputs):
    """A function of tensors: its gradient is what a backward pass gives."""

    must_be_linked = True  # by recorded operations, the output to an input

    def __init__(
        self, f: Callable[..., Any], inputs: Sequence[Any], argnums: Any, parameters: list[Tensor]
    ) -> None:
        super().__init__(f, inputs, argnums)
        for i, p in enumerate(parameters):
            if not isinstance(p, Tensor) or p.op is not None or p.dtype != np.float64:
                raise ArgumentError(
                    f"check_gradients: parameters are float64 leaves; number {i} is "
                    f"{p!r:.60}. Build the model with dtype=np.float64"
                )
        self.parameters = [p for p in parameters if p.requires_grad]
        self.names += [f"parameter {i} ({p.name})" for i, p in enumerate(self.parameters)]
        self.arrays += [p._value.copy() for p in self.parameters]
        self.dtypes += [p.dtype for p in self.parameters]
        self.complex_ok += [False] * len(self.parameters)  # a parameter stays real

    @contextmanager
    def _holding(self, values: Sequence[ndarray]) -> Iterator[None]:
        """Parameters with these values, and with their own again afterwards.

        The arrays are exchanged behind the tensors' back: a write would tell every graph that
        uses them that it is out of date.
        """
        own = [p._value for p in self.parameters]
        try:
            for p, value in zip(self.parameters, values, strict=True):
                p._value = value
            yield
        finally:
            for p, value in zip(self.parameters, own, strict=True):
                p._value = value

    def evaluate(self, *arrays: ndarray) -> Any:
        own, others = arrays[: len(self.places)], arrays[len(self.places) :]
        kind: Any = Analytic if any(a.dtype.kind == "c" for a in own) else Tensor
        given = self.filled([kind(a) for a in own])
        with no_grad():
            if not others:
                return self.f(*given)
            with self._holding(others):
                return self.f(*given)

    def pullback(self, arrays: Sequence[ndarray]) -> Callable[[ndarray], list[Any]]:
        n = len(self.places)
        leaves = [Tensor(a, requires_grad=True) for a in arrays[:n]]
        with enable_grad(), self._holding(arrays[n:]):
            outputs = self.f(*self.filled(leaves))
        outputs = outputs if isinstance(outputs, tuple | list) else (outputs,)
        linked = [out for out in outputs if isinstance(out, Tensor) and out.requires_grad]
        if not linked and self.must_be_linked:
            raise GradientCheckError(
                f"check_gradients: the output must depend on an input through recorded "
                f"operations; that of {self.name} is cut from the graph. Is there a detach(), a "
                f".data, a no_grad() or a plain array on the way?"
            )
        nodes = graph(*linked)
        wanted = [*leaves, *self.parameters]

        def pull(v: ndarray) -> list[Any]:
            seeds: dict[Any, Any] = {}
            for out, part in zip(outputs, _parts(v, outputs), strict=True):
                if isinstance(out, Tensor) and out.requires_grad:
                    part = part.astype(out.dtype)
                    seeds[out] = seeds[out] + part if out in seeds else part
            with np.errstate(all="ignore"):
                grads = sweep(nodes, seeds)
            return [grads[x] if x in grads else np.zeros(x.shape, x.dtype) for x in wanted]

        return pull


class Pair(Inputs):
    """A function of arrays, and a function that somebody wrote for its gradient."""

    def __init__(
        self,
        f: Callable[..., Any],
        gradient: Callable[..., Any],
        inputs: Sequence[Any],
        argnums: Any,
    ) -> None:
        super().__init__(f, inputs, argnums)
        self.gradient = gradient

    def evaluate(self, *arrays: ndarray) -> Any:
        if any(a.dtype.kind == "c" for a in arrays):
            return self.f(*self.filled([Analytic(a) for a in arrays]))
        return self.f(*self.filled(arrays))

    def pullback(self, arrays: Sequence[ndarray]) -> Callable[[ndarray], list[Any]]:
        full = self.filled([a.copy() for a in arrays])
        outputs = self.f(*full)
        several = isinstance(outputs, tuple | list)
        scalar = not several and np.ndim(outputs) == 0

        def pull(v: ndarray) -> list[Any]:
            given = self.filled([a.copy() for a in arrays])
            if not scalar:
                seeds = _parts(v, outputs if several else (outputs,))
                given = [tuple(seeds) if several else seeds[0], *given]
            try:
                grads = self.gradient(*given)
            except TypeError as error:
                form = "gradient(*inputs), for f is a scalar"
                raise GradientCheckError(
                    f"check_gradients: a gradient is called as "
                    f"{form if scalar else 'gradient(g, *inputs), for f is no scalar'}; that of "
                    f"{self.name} raised TypeError: {error}"
                ) from error
            given = given[not scalar :]
            for name, x, before in zip(
                self.names, (given[i] for i in self.places), arrays, strict=True
            ):
                if not np.array_equal(x, before, equal_nan=True):
                    raise GradientCheckError(
                        f"check_gradients: a gradient leaves its inputs as they are; that of "
                        f"{self.name} wrote to {name}. Copy before you write"
                    )
            grads = list(grads) if isinstance(grads, tuple | list) else [grads]
            if len(grads) == len(given):  # one an input, or one an input that is checked
                grads = [grads[i] for i in self.places]
            if len(grads) != len(self.places):
                raise GradientCheckError(
                    f"check_gradients: a gradient has one array an input; that of {self.name} "
                    f"returned {len(grads)} for {len(self.places)} ({', '.join(self.names)})"
                )
            for name, g in zip(self.names, grads, strict=True):
                if getattr(np.asarray(g), "dtype", np.dtype(object)).kind not in "fiub":
                    raise GradientCheckError(
                        f"check_gradients: a gradient is an array of real numbers; that of "
                        f"{self.name} by {name} is a {type(g).__name__}. Is a return missing?"
                    )
            grads = [np.asarray(g) for g in grads]
            # Of a scalar the cotangent is a factor.
            return [g * v[0] if scalar and v[0] != 1 else g for g in grads]

        return pull


def _differentiable(x: Any) -> bool:
    """Whether an input is one to check: floats, and a tensor only if it requires grad."""
    if isinstance(x, Tensor):
        return x.requires_grad
    if isinstance(x, list):
        try:
            return all(isinstance(row, float | list) for row in x) and _value(x).dtype.kind == "f"
        except ValueError:  # rows of unequal length
            return False
    return isinstance(x, float | ndarray | np.generic) and _value(x).dtype.kind == "f"


def _value(x: Any) -> ndarray:
    return x._value if isinstance(x, Tensor) else np.asarray(x)


def _parameter_names(f: Callable[..., Any], count: int) -> list[str]:
    """What f calls its arguments, as far as that can be read off."""
    names = list(getattr(f, "arg_names", ()))
    if not names:
        try:
            signature = inspect.signature(f).parameters.values()
        except (TypeError, ValueError):  # a NumPy function need not have one
            signature = ()  # type: ignore[assignment]
        names = [
            p.name for p in signature if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
    return [*names[:count], *(f"input {i}" for i in range(len(names), count))]


def _parts(v: ndarray, outputs: Sequence[Any]) -> list[ndarray]:
    """A flat cotangent cut into one array an output."""
    shapes = [np.shape(out) for out in outputs]
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    pieces = np.split(v, ends[:-1])
    return [np.asarray(p.reshape(shape)) for p, shape in zip(pieces, shapes, strict=True)]
