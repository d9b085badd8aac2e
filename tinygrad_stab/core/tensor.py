"""Tensor: a value, its gradient, and how it was made."""

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import numpy as np
from numpy import ndarray

from ..arrays import numbers
from ..errors import ArgumentError, DtypeError, GraphError, ShapeError, refusal
from .backward import graph, sweep
from .mode import Names, Scope, mode, scope_path
from .operand import Operand
from .primitive import Primitive

# One counter stamps the creation of every tensor and every write to a leaf. So creation order is
# a topological order, and "written to since it was used" is a comparison of two integers.
_clock = count(1).__next__
_blank = object.__new__


class Tensor(Operand):
    """An n-dimensional array that remembers how it was computed.

    Parameters
    ----------
    data : array_like
        The value, copied; numbers of any type (Python floats: float64).
    requires_grad : bool
        Whether ``backward()`` is to compute a gradient; of real floating-point numbers only.
    dtype : dtype, optional
        Convert to this type.
    name : str, optional
        What to call it in messages.

    Attributes
    ----------
    grad : ndarray or None
        ∂(output)/∂(this), of this shape and dtype, after ``output.backward()``. A leaf (a tensor
        made by hand) adds up over passes until it is set to None; the result of an operation
        holds the gradient of the last pass.
    op, args, params
        The operation that made it (None: a leaf), and what it was called with.
    scope
        The module call in which it was made; see `path`.
    source
        Where in the user's code, if that was asked for (`tg.inspection.record`); else not set.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> x = tg.tensor([1.0, 2.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    array([2., 4.])
    """

    __slots__ = (
        "__weakref__", "_exposed", "_grad", "_requires_grad", "args", "name", "op", "params",
        "scope", "source", "stamp", "values",
    )  # fmt: skip

    source: Any  # set by who observes the recording, if anyone does

    def __init_subclass__(cls) -> None:
        raise DtypeError(
            "Tensor: has no subclasses, for results are plain tensors; add a function or a module"
        )

    def __init__(
        self, data: Any, requires_grad: bool = False, dtype: Any = None, name: str | None = None
    ) -> None:
        self._value = numbers(data._value if isinstance(data, Tensor) else data, dtype).copy()
        self._exposed: tuple[int, ndarray] | None = None
        self._requires_grad = False
        self._grad: ndarray | None = None
        self.name = name
        self.op: Primitive | None = None
        self.args: Sequence[Any] = ()
        self.values: Sequence[Any] = ()
        self.params: dict[str, Any] = {}
        self.scope: Scope | None = None
        self.stamp = _clock()
        self.requires_grad = requires_grad

    @staticmethod
    def apply(primitive: Primitive, args: Sequence[Any], params: dict[str, Any]) -> Any:
        """Call a primitive on arguments of which one at least is a tensor, and record the call."""
        values = []
        requires_grad = False
        for arg in args:
            kind = type(arg)
            if kind is Tensor:
                values.append(arg._value)
                if arg._requires_grad:
                    requires_grad = True
            elif kind is ndarray and arg.dtype.kind in "fiubc":
                values.append(arg)
            elif (kind is float or kind is int) and primitive.broadcasts:
                values.append(arg)  # stays a Python number, which does not widen float32
            elif isinstance(arg, Operand):
                return arg.apply(primitive, args, params)  # of another kind, which goes first
            else:
                values.append(None if arg is None else numbers(arg))
        try:
            data = primitive.forward(*values, **params)
        except (ValueError, TypeError, IndexError, OverflowError) as error:
            raise primitive.refusal(error, values, params) from error
        if not primitive.rules:
            return data
        out = _blank(Tensor)
        out._value = data if type(data) is ndarray else np.asarray(data)
        out._exposed = out._grad = out.name = None
        out.stamp = _clock()
        if requires_grad and (recording := mode.recording):
            out._requires_grad = True
            out.scope = mode.scope
            out.op, out.args, out.params = primitive, args, params
            out.values = tuple(values)  # of arrays: nothing for the cyclic collector to follow
            if recording is not True:
                recording(out)
        else:
            out._requires_grad = False
            out.op, out.args, out.params, out.values, out.scope = None, (), {}, (), None
            if out._value.base is not None or any(out._value is value for value in values):
                out._value = out._value.copy()  # a leaf, so writable: its memory is its own
        return out

    @property
    def data(self) -> ndarray:
        """The value: of a leaf the array itself, to read or write; else a read-only view.

        Writing to a leaf that an operation has used makes the backward pass of that operation an
        error. To notice a write to the array that is handed out here, a copy is kept to compare
        with. (A write through an array handed out *before* the operation goes unnoticed.)
        """
        if self.op is not None:
            view = self._value.view()
            view.flags.writeable = False
            return view
        if self._exposed is None or self.written_since(self.stamp):
            self._exposed = (self.stamp, self._value.copy())
        self.stamp = _clock()
        return self._value

    @data.setter
    def data(self, value: Any) -> None:
        array = self._leaf("data")._value
        if value is not array:  # after `t.data -= …` it is, and has been written to
            array = numbers(value, self.dtype).copy()
        if array.shape != self.shape:
            raise ShapeError(f"data: a leaf keeps its shape {self.shape}; got {array.shape}")
        self._value = array
        self._stamp_write()

    def add_(self, change: ndarray) -> None:
        """Add an array of its shape to a leaf, in place: cheaper than ``t.data += change``."""
        if np.shape(change) != self.shape:
            raise ShapeError(f"add_: a leaf keeps its shape {self.shape}; got {np.shape(change)}")
        self._leaf("add_")._value += change
        self._stamp_write()

    def __setitem__(self, index: Any, value: Any) -> None:
        array, value = self._leaf("item assignment")._value, numbers(value, self.dtype)
        try:
            array[index] = value
        except (ValueError, IndexError) as error:
            raise refusal(
                "item assignment", "the index must fit the tensor, and the value what it picks",
                ["tensor", "value"], [self, value], {"index": index}, error,
            ) from error  # fmt: skip
        self._stamp_write()

    def _leaf(self, what: str) -> "Tensor":
        if self.op is not None:
            raise GraphError(
                f"{what}: only a leaf can be written to; {self.path} {self.shape} is the result "
                f"of {self.op.name}. Use tg.where, or detach() for a leaf with its value"
            )
        return self

    def _stamp_write(self) -> None:
        self._exposed = None
        self.stamp = _clock()

    def written_since(self, stamp: int) -> bool:
        """Whether a leaf was written to after ``stamp`` (if its array was handed out after it)."""
        if self._exposed is None:
            return self.stamp > stamp
        written, before = self._exposed
        return written > stamp or not np.array_equal(before, self._value, equal_nan=True)

    @property
    def requires_grad(self) -> bool:
        """Whether a gradient is wanted; may be set on leaves (False freezes a parameter)."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self._leaf("requires_grad")
        if value and self._value.dtype.kind != "f":
            raise DtypeError(
                f"requires_grad: needs real floating-point numbers; received {self.dtype}. "
                f"Pass dtype=float"
            )
        self._requires_grad = bool(value)

    @property
    def grad(self) -> ndarray | None:
        """∂(output)/∂(this) after ``output.backward()``; what is assigned is checked and copied."""
        return self._grad

    @grad.setter
    def grad(self, value: Any) -> None:
        if value is not None:
            value = value if value is self._grad else numbers(value, self.dtype).copy()
            if value.shape != self.shape:
                raise ShapeError(
                    f"grad: has the shape of its tensor, {self.shape}; received {value.shape}"
                )
        self._grad = value

    @property
    def path(self) -> str:
        """Its name, or else the path of the module that made it and the operation.

        A module that is called like its operation stands for both: ``blocks.3.linear``.
        """
        return self.path_among({})

    def path_among(self, known: Names) -> str:
        """The `path`; ``known`` is shared when the paths of many tensors are asked for."""
        if self.name is not None:
            return self.name
        parts = scope_path(self.scope, known).split(".")
        made_by = self.op.name if self.op else "tensor"
        return ".".join(part for part in parts + [made_by] * (parts[-1] != made_by) if part)

    def detach(self) -> "Tensor":
        """A new leaf with a copy of this value, cut off from the graph."""
        return Tensor(self, name=self.name)

    def backward(self, gradient: Any = None, retain: str = "all") -> None:
        """Compute the gradient of this tensor with respect to everything it was made from.

        Parameters
        ----------
        gradient : array_like, optional
            ∂L/∂(this), of exactly this shape. May be left out for a scalar, where it is 1.
        retain : {"all", "leaves"}
            Keep the gradient of every tensor on the way, or (less memory) of the leaves only.

        Raises
        ------
        GraphError
            Nothing requires grad; a value was overwritten since it was used; ``gradient`` is
            missing for a non-scalar. As after any error, no gradient is changed.
        ShapeError
            ``gradient`` is of another shape.
        """
        if retain not in ("all", "leaves"):
            raise ArgumentError(f'backward: retain is "all" or "leaves"; received {retain!r}')
        if not self._requires_grad:
            raise GraphError(
                f"backward: something must require grad; nothing that {self.path} {self.shape} "
                f"was made from does. Pass requires_grad=True, and compute outside no_grad()"
            )
        if gradient is None and self.ndim:
            raise GraphError(
                f"backward: without `gradient` the output must be a scalar; received shape "
                f"{self.shape}. Reduce it (.sum(), .mean()), or pass gradient=∂L/∂output"
            )
        if self.dtype.kind != "f":
            raise DtypeError(
                f"backward: the output must be real; {self.path} is {self.dtype}. Complex numbers "
                f"are for values only: take .real before tensors come in"
            )
        seed = numbers(1.0 if gradient is None else gradient, self.dtype).copy()
        if seed.shape != self.shape:
            raise ShapeError(
                f"backward: `gradient` has the shape of the output, {self.shape}, without "
                f"broadcasting; received {seed.shape}. Use np.broadcast_to if that is meant"
            )
        nodes = graph(self)
        kept = None if retain == "all" else {node for node in nodes if node.op is None}
        with np.errstate(all="ignore"):  # IEEE values are shown as they are
            observe = getattr(mode.recording, "observe", None)
            grads = sweep(nodes, {self: seed}, kept=kept, observe=observe)
            for node in nodes if kept else ():
                if node.op is not None:
                    node._grad = None
            for node, grad in grads.items():
                add = node.op is None and node._grad is not None
                node._grad = np.asarray(node._grad + grad) if add else grad
        if observe is not None and hasattr(mode.recording, "finish"):
            mode.recording.finish(self)

    def item(self) -> Any:
        """The value of a one-element tensor as a Python number."""
        return self._value.item()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        return bool(self._value)

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)

    def __iter__(self) -> Iterator["Tensor"]:
        return (self[i] for i in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> ndarray:
        if self._requires_grad:
            raise DtypeError(
                f"a tensor that requires grad is never silently turned into an array "
                f"({self.path}: {self.shape} {self.dtype}). Use .data for its value, or .detach()"
            )
        return np.array(self._value, dtype, copy=True if copy is None else copy)

    def __repr__(self) -> str:
        words = [np.array2string(self._value, separator=", ", prefix="tensor(")]
        if self.dtype not in (np.float64, np.int64, np.bool_):
            words.append(f"dtype={self.dtype}")
        if self.name is not None:
            words.append(f"name={self.name!r}")
        if self._requires_grad:
            words.append("requires_grad=True" if self.op is None else f"op={self.op.name}")
        return f"tensor({', '.join(words)})"

    def __reduce__(self) -> tuple[Any, ...]:
        leaf = self._leaf("copy or pickle")
        return _restore, (leaf._value, leaf._requires_grad, leaf.name, leaf._grad)


tensor = Tensor  # the constructor, under the lower-case name that NumPy and PyTorch users type


def _restore(data: Any, requires_grad: bool, name: str | None, grad: ndarray | None) -> Tensor:
    """A leaf out of a pickle."""
    leaf = Tensor(data, requires_grad, name=name)
    leaf.grad = grad
    return leaf
