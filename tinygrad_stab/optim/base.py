"""What all optimisers share: groups of parameters, their options, and a state that can be saved."""

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy import ndarray

from ..arrays import numbers
from ..checks import is_number
from ..core.tensor import Tensor
from ..errors import ArgumentError, DtypeError, StabError, StateDictError, describe
from .parameters import Parameters, listed, named

Groups = Iterable[dict[str, Any]]


def _rate(value: Any) -> bool:
    return is_number(value) and 0 <= value < 1


# What an option must be, and whether it is. Others are a subclass's own, and not checked.
KNOWN: dict[str, tuple[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(
        ("nesterov", "maximize", "centered", "amsgrad", "decoupled_weight_decay"),
        ("True or False", lambda value: isinstance(value, bool)),
    ),
    **dict.fromkeys(
        (
            "lr", "momentum", "dampening", "weight_decay", "eps", "lr_decay",
            "initial_accumulator_value",
        ),
        ("a number, at least 0 and finite", lambda value: is_number(value) and value >= 0),
    ),
    "alpha": ("a number from 0 to below 1", _rate),
    "betas": (
        "two numbers from 0 to below 1",
        lambda value: isinstance(value, tuple) and len(value) == 2 and all(map(_rate, value)),
    ),
}  # fmt: skip

# Entries of a group that are no options: its name, and where a schedule starts.
LABELS = ("name", "param_names", "initial_lr")
# How PyTorch is to compute a step, not which.
IGNORED = ("foreach", "fused", "capturable", "differentiable")


class Optimizer:
    """Base class of optimisers: groups of parameters, of which those with a gradient move.

    A subclass hands its options to ``__init__`` and writes `update`, one step of one parameter.

    Parameters
    ----------
    params : iterable of Tensor, of (name, Tensor), or of dict
        Leaves, each once: ``model.parameters()``, ``model.named_parameters()``, or groups
        ``{"params": …, "lr": …}`` with options of their own.
    defaults : mapping of str to object
        The options, for groups that do not say otherwise. One called ``maximize`` turns the sign
        of the gradient.

    Attributes
    ----------
    param_groups : list of dict
        Each with its tensors under "params", and every option. An option may be changed here
        between steps; `step` checks it again.
    state : dict of Tensor to dict
        What is remembered of each parameter that has moved.
    steps_taken : int
        How often `step` was called.
    observers : list
        Each is told of a step: ``before_step()``, ``after_step()``.
    remembers, may_remember : tuple of str
        Of a subclass: the names that a parameter's state has once it has moved, and those that it
        has under some options. "step" is a number, all others are arrays of the parameter's shape.

    Raises
    ------
    ArgumentError
        An option outside its range, no parameters, or one twice.
    DtypeError
        What is no leaf tensor of floating-point numbers.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> class SignSGD(tg.optim.Optimizer):
    ...     def __init__(self, params, lr=1e-3):
    ...         super().__init__(params, {"lr": lr})
    ...
    ...     def update(self, p, g, state, group):
    ...         p -= group["lr"] * np.sign(g)
    >>> p = tg.tensor([1.0, 1.0], requires_grad=True)
    >>> optimizer = SignSGD([p], lr=0.25)
    >>> (p * [1e-9, -1e9]).sum().backward()
    >>> optimizer.step()
    >>> p.data
    array([0.75, 1.25])
    """

    remembers: ClassVar[tuple[str, ...]] = ()
    may_remember: ClassVar[tuple[str, ...]] = ()

    def __init__(self, params: Parameters | Groups, defaults: Mapping[str, Any]) -> None:
        self.defaults = self._checked(defaults)
        self.param_groups: list[dict[str, Any]] = []
        self.state: dict[Tensor, dict[str, Any]] = {}
        self.steps_taken = 0
        self.observers: list[Any] = []
        entries: Any = params
        if isinstance(params, Iterable) and not isinstance(params, Tensor | Mapping | set):
            entries = list(params)  # a generator can be read once
        if isinstance(entries, list) and entries and isinstance(entries[0], dict):
            for group in entries:
                self.add_param_group(group)
        else:
            self.add_param_group({"params": entries})

    def update(self, p: ndarray, g: ndarray, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Move one parameter one step, in place; overridden by every optimiser.

        Parameters
        ----------
        p, g : ndarray
            Its value, to be written to, and its gradient, to be left alone: of one shape and dtype.
        state : dict
            What is remembered of it; empty before its first step.
        group : dict
            The options.
        """
        raise TypeError(f"{type(self).__name__} must define update(self, p, g, state, group)")

    def step(self) -> None:
        """Move every parameter that has a gradient.

        Raises
        ------
        ArgumentError
            An option in ``param_groups`` is outside its range; nothing has moved.
        """
        for group in self.param_groups:
            group.update(self._checked({name: group[name] for name in self.defaults}))
        for observer in self.observers:
            observer.before_step()
        with np.errstate(all="ignore"):  # IEEE values are shown as they are
            for group in self.param_groups:
                for p in group["params"]:
                    if p._grad is not None:
                        g = -p._grad if group.get("maximize") else p._grad
                        self.update(p._value, g, self.state.setdefault(p, {}), group)
                        p._stamp_write()
        self.steps_taken += 1
        for observer in self.observers:
            observer.after_step()

    def zero_grad(self) -> None:
        """Forget all gradients; call it before each backward pass."""
        for group in self.param_groups:
            for p in group["params"]:
                p._grad = None

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Add parameters, with options of their own; the defaults stand for the others.

        Parameters
        ----------
        param_group : mapping
            Tensors or (name, tensor) pairs under "params", and options. It is copied.

        Raises
        ------
        ArgumentError
            An unknown option, one outside its range, no parameters, or one that the optimiser has
            already.
        DtypeError
            What is no leaf tensor of floating-point numbers; a set, which has no order.
        """
        owner = type(self).__name__
        if not isinstance(param_group, Mapping) or "params" not in param_group:
            raise ArgumentError(
                f'{owner}: a group is a dict with its tensors under "params"; received '
                f"{describe(param_group)}"
            )
        options = {name: value for name, value in param_group.items() if name != "params"}
        if unknown := [name for name in options if name not in (*self.defaults, *LABELS)]:
            raise ArgumentError(
                f"{owner}: a group's options are {', '.join(self.defaults)}; received {unknown}"
            )
        entries = param_group["params"]
        if isinstance(entries, set | frozenset | Mapping):
            raise DtypeError(
                f"{owner}: parameters come in an order; received a {type(entries).__name__}. "
                f"Pass a list"
            )
        if isinstance(entries, Iterable) and not isinstance(entries, Tensor):
            entries = list(entries)
        pairs = listed(entries)
        if not pairs:
            raise ArgumentError(
                f"{owner}: needs parameters; received none. Was it a generator, read before?"
            )
        taken = {p for group in self.param_groups for p in group["params"]}
        for name, tensor in pairs:
            if tensor in taken:
                raise ArgumentError(f"{owner}: each parameter once; {name} was passed twice")
            taken.add(tensor)
        group: dict[str, Any] = {"params": [tensor for _, tensor in pairs]}
        if isinstance(entries, list) and all(map(named, entries)):
            group["param_names"] = [name for name, _ in pairs]
        labels = {name: options[name] for name in LABELS if name in options}
        own = {name: options.get(name, default) for name, default in self.defaults.items()}
        self.param_groups.append(group | labels | self._checked(own))

    def state_dict(self) -> dict[str, Any]:
        """What is needed to go on later, in PyTorch's layout: numbers, tuples, copies of arrays.

        Returns
        -------
        dict
            ``{"state": {index: {"step": …, …}}, "param_groups": [{"lr": …, "params": [index]}]}``,
            where the parameters of all groups are counted through.

        Examples
        --------
        >>> import tinygrad_stab as tg
        >>> p = tg.tensor([1.0], requires_grad=True)
        >>> optimizer = tg.optim.SGD([p], lr=0.1, momentum=0.9)
        >>> p.grad = [2.0]
        >>> optimizer.step()
        >>> optimizer.state_dict()["state"]
        {0: {'momentum_buffer': array([2.])}}
        """
        tensors = [p for group in self.param_groups for p in group["params"]]
        index = {p: i for i, p in enumerate(tensors)}
        state = {i: copy.deepcopy(self.state[p]) for p, i in index.items() if self.state.get(p)}
        groups = [
            copy.deepcopy({name: value for name, value in group.items() if name != "params"})
            | {"params": [index[p] for p in group["params"]]}
            for group in self.param_groups
        ]
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on where a `state_dict` was taken: same options, same memory, bit for bit.

        Parameters
        ----------
        state_dict : mapping
            Of an optimiser of this kind, whose groups have as many parameters, of the same shapes.
            PyTorch's fits as well. Arrays are copied, and converted to the parameter's dtype.

        Raises
        ------
        StateDictError
            Names everything that does not fit: the number or size of groups, parameters' names,
            options missing, of another optimiser or outside their range, arrays missing,
            unexpected or misshapen. Nothing is changed.
        """
        owner = type(self).__name__
        try:
            saved = [dict(group) for group in state_dict["param_groups"]]
            places = [tuple(group.pop("params")) for group in saved]
            memory = {index: dict(entry) for index, entry in state_dict["state"].items()}
            known = set().union(*places)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise StateDictError(
                f'load_state_dict: the state of {owner} is {{"state": {{index: {{…}}}}, '
                f'"param_groups": [{{…, "params": [index, …]}}]}}; received '
                f"{describe(state_dict)}. Pass what state_dict() returned"
            ) from error
        sizes = [len(place) for place in places]
        own_sizes = [len(group["params"]) for group in self.param_groups]
        problems = []
        if sizes != own_sizes:
            problems.append(f"it has groups of {sizes} parameters, not of {own_sizes}")
        elif len(known) < sum(sizes):
            problems.append("a parameter stands twice in its groups")
        problems += [f"state {i!r} belongs to no parameter" for i in memory if i not in known]
        for i, (group, own) in enumerate(zip(saved, self.param_groups, strict=False)):
            problems += [f"group {i}: {problem}" for problem in self._misfits(group, own)]
        state = {}
        if sizes == own_sizes:
            tensors = [p for group in self.param_groups for p in group["params"]]
            indices = [index for place in places for index in place]
            for index, p in zip(indices, tensors, strict=True):
                state[p], found = self._remembered(memory.get(index, {}), p)
                problems += [f"state {index!r}: {problem}" for problem in found]
        if problems:
            raise StateDictError(
                f"load_state_dict: every entry must fit {owner}; {'; '.join(problems)}. "
                f"Nothing was loaded"
            )
        for group, own in zip(saved, self.param_groups, strict=True):
            kept = {name: copy.deepcopy(group[name]) for name in group if name not in IGNORED}
            own.update(kept | self._checked({name: group[name] for name in self.defaults}))
        self.state = state

    def _misfits(self, group: dict[str, Any], own: dict[str, Any]) -> list[str]:
        """Why the options of a saved group cannot become those of a group here."""
        missing = [f"{name} is missing" for name in self.defaults if name not in group]
        foreign = [
            f"{name} is no option of {type(self).__name__}"
            for name in group
            if name in KNOWN and name not in self.defaults and name != "decoupled_weight_decay"
        ]
        names, own_names = group.get("param_names"), own.get("param_names")
        if names and own_names and names != own_names:
            foreign.append(f"it holds the parameters {names!r:.200}, not {own_names}")
        present = {name: _plain(group[name]) for name in self.defaults if name in group}
        return missing + foreign + self._unfit({**self.defaults, **present})

    def _remembered(self, entry: dict[str, Any], p: Tensor) -> tuple[dict[str, Any], list[str]]:
        """A saved state as that of a parameter, and why it cannot be."""
        state: dict[str, Any] = {}
        entry = {name: value for name, value in entry.items() if value is not None}
        problems = [f"{name} is missing" for name in self.remembers if entry and name not in entry]
        for name, value in entry.items():
            if name not in (*self.remembers, *self.may_remember):
                problems.append(f"{name!r} is unexpected")
                continue
            try:
                array = numbers(value)
            except StabError as error:
                problems.append(f"{name}: {error}")
                continue
            if array.dtype.kind not in "fiu":
                problems.append(f"{name} holds {array.dtype}, not real numbers")
            elif name == "step":
                if array.ndim or not (array >= 0 and array == np.floor(array) < np.inf):
                    problems.append(f"step is a whole number of at least 0, not {value!r:.60}")
                else:
                    state[name] = int(array)
            elif array.shape != p.shape:
                problems.append(f"{name} has shape {array.shape}, the parameter {p.shape}")
            else:
                state[name] = array.astype(p.dtype)
        return state, problems

    def _checked(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Options as plain Python values, if each is in its range."""
        plain = {name: _plain(value) for name, value in options.items()}
        if problems := self._unfit(plain):
            raise ArgumentError(f"{type(self).__name__}: {'; '.join(problems)}")
        return plain

    def _unfit(self, options: Mapping[str, Any]) -> list[str]:
        """Which options are outside their range."""
        return [
            f"{name} is {KNOWN[name][0]}; received {value!r:.60}"
            for name, value in options.items()
            if name in KNOWN and not KNOWN[name][1](value)
        ]


def _plain(value: Any) -> Any:
    """NumPy's numbers as Python's, which do not widen float32; a list as a tuple."""
    if isinstance(value, np.generic | ndarray) and value.ndim == 0:
        return value.item()
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value
