"""Checkpoints: the whole state of a training run in one file that runs no code when it is read.

The file is a ZIP of uncompressed ``.npy`` arrays, so `numpy.load` reads it too, and ``index.json``,
which says how the arrays were nested, and holds everything that is not an array.
"""

import copy
import json
import math
import os
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..core.tensor import Tensor
from ..errors import ArgumentError, CheckpointError, DataNotFoundError, DtypeError, StateDictError
from ..files import replace_file

_FORMAT, _VERSION = "tinygrad_stab checkpoint", 1
_INDEX = "index.json"
_DEEPEST = 100  # levels of nesting; JSON's reader is recursive
_KINDS = "biufc"  # the dtypes that are numbers
# What NumPy writes before the elements of an array of numbers, in version 1.0 of its format.
_HEADER = re.compile(
    rb"\{'descr': '([<>|][biufc]\d+)', 'fortran_order': (True|False), "
    rb"'shape': \((|\d+,|\d+(?:, \d+)+)\), \} *\n"
)

# A place in nested dicts, lists and tuples: the keys that lead to it.
_Place = tuple[Any, ...]


def save(obj: Any, path: str | os.PathLike[str]) -> None:
    """Write nested dicts, lists and tuples of numbers, arrays and stateful objects to a file.

    A tensor is saved as its array, an object that has ``state_dict()`` (a module, an optimiser, a
    schedule, a loader) as that, a `numpy.random.Generator` as its state. The states of the
    generators inside a module (dropout's) go with it, so that training goes on bit for bit as if
    it had never stopped.

    Parameters
    ----------
    obj : object
        Dicts with keys of type str or int, lists, tuples, arrays of numbers, NumPy's scalars, int,
        float, bool, str, None, and the objects above, nested at most 100 deep.
    path : path
        The file, taken as it is: no suffix is added. It is replaced in one step: whatever goes
        wrong, an error, a full disk, a kill, what was there before is still there, whole.

    Raises
    ------
    DtypeError
        Something else is in ``obj``; names its place (``model.extra``). Nothing is written.
    ArgumentError
        ``obj`` is nested too deep, or within itself; a string is not Unicode. Nothing is written.
    OSError
        The file cannot be written; names it.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from tinygrad_stab.training import load, save
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save({"epoch": 3, "weights": [np.ones(2), np.zeros(())]}, f"{folder}/run.npz")
    ...     sorted(np.load(f"{folder}/run.npz"))
    ...     load(f"{folder}/run.npz")
    ['index.json', 'weights/0', 'weights/1']
    {'epoch': 3, 'weights': [array([1., 1.]), array(0.)]}
    """
    target = _as_path("save(obj, path)", path)
    arrays: dict[str, np.ndarray] = {}
    content = _encode(obj, (), arrays)
    index = json.dumps(
        {"format": _FORMAT, "version": _VERSION, "content": content}, ensure_ascii=False
    ).encode()

    def write(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            # An entry made by hand has a fixed date: equal states give equal bytes.
            archive.writestr(zipfile.ZipInfo(_INDEX), index)
            for member, array in arrays.items():
                entry = zipfile.ZipInfo(member)
                entry.file_size = array.nbytes  # above 2 GB, ZIP notes it in another way
                with archive.open(entry, "w") as stream:
                    np.lib.format.write_array(stream, array, allow_pickle=False)

    try:
        replace_file(target, write)
    except OSError as error:
        error.filename = str(target)  # not the draft beside it; a full disk names no file at all
        raise


def load(path: str | os.PathLike[str], into: Any = None) -> Any:
    """Read what `save` wrote, and put its parts back into the objects that they came from.

    Nothing is executed, nothing is believed: a file that was damaged, or made to do harm, is an
    error, and takes no more memory than it is long.

    Parameters
    ----------
    path : path
        A file of `save`, or of ``numpy.savez(path, **state_dict)``: then a flat dict of arrays.
    into : dict, optional
        Objects to load into, under the keys that they have in the file: modules, optimisers,
        whatever has ``load_state_dict``, and Generators, e.g. ``{"model": net, "rng": rng}``. All
        are loaded, or none. A module's generators are restored where the module itself, not
        its ``state_dict()``, was saved. It may be nested, or one object if one was saved.

    Returns
    -------
    object
        All of the content; an object as the dict that it was saved as.

    Raises
    ------
    DataNotFoundError
        There is no such file, or it may not be read.
    CheckpointError
        The file is not what `save` or ``numpy.savez`` writes: damaged, of a later version,
        compressed, with pickled objects in it; names the file, and what was found.
    StateDictError
        A part that ``into`` names is not in the file, or does not fit the object; names it. Every
        object is as it was.
    DtypeError
        ``into`` holds something that has no state.

    Examples
    --------
    >>> import tempfile, tinygrad_stab as tg
    >>> from tinygrad_stab.training import load, save
    >>> net, rng = tg.nn.Linear(3, 2, rng=0), np.random.default_rng(1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save({"model": net, "rng": rng, "epoch": 3}, f"{folder}/run.npz")
    ...     drawn, fresh = rng.random(), tg.nn.Linear(3, 2, rng=2)
    ...     run = load(f"{folder}/run.npz", into={"model": fresh, "rng": rng})
    >>> run["epoch"], rng.random() == drawn, (fresh.weight.data == net.weight.data).all()
    (3, True, np.True_)
    """
    source = _as_path("load(path, into)", path)
    parts = [] if into is None else list(_parts(into, ()))
    content, generators = _read(source)
    states = [_find(source, content, place) for place, _ in parts]
    before = [_state(part) for _, part in parts]
    place: _Place = ()
    try:
        for (place, part), state in zip(parts, states, strict=True):
            _restore(part, state, generators.get(place))
    except BaseException as error:
        for (_, part), (state, held) in zip(parts, before, strict=True):
            _restore(part, state, held)
        if not isinstance(error, Exception):
            raise
        raise StateDictError(
            f"{source}: every part must fit the object that it is loaded into; "
            f"{_name(place)} does not: {error}. Nothing was loaded"
        ) from error
    return content


# --- writing


def _encode(value: Any, place: _Place, arrays: dict[str, np.ndarray]) -> Any:
    """What stands for a value in the index; arrays go into ``arrays``, by the member's name.

    None, bool, str and ordinary numbers stand for themselves, all else is {kind: what it holds}.
    """
    if len(place) > _DEEPEST:
        raise ArgumentError(
            f"save: values are nested at most {_DEEPEST} deep; received more, at "
            f"{_name(place[:4])}.… Does it hold itself?"
        )
    kind = type(value)
    if value is None or kind is bool:
        return value
    if kind is str:
        return _text(value, place)
    if kind is int:  # Python limits the decimal digits that it reads, not the hexadecimal ones
        return value if abs(value) < 2**63 else {"int": hex(value)}
    if kind is float:  # JSON has no infinities, and a NaN has bits of its own
        return value if math.isfinite(value) else {"float": struct.pack(">d", value).hex()}
    if kind is list or kind is tuple:
        items = [_encode(item, (*place, i), arrays) for i, item in enumerate(value)]
        return {kind.__name__: items}
    if isinstance(value, dict):
        pairs = []
        for key, item in value.items():
            if type(key) not in (str, int):
                raise DtypeError(
                    f"save: keys are str or int; {_name(place)} has {key!r:.60}, of type "
                    f"{type(key).__name__}"
                )
            inner = (*place, key)
            pairs.append([_encode(key, inner, arrays), _encode(item, inner, arrays)])
        return {"dict": pairs}
    if kind is Tensor:
        return _encode(value._value, place, arrays)
    if (kind is np.ndarray or isinstance(value, np.generic)) and value.dtype.kind in _KINDS:
        member = _member(place, arrays)
        arrays[member] = np.asarray(value)
        return {"array" if kind is np.ndarray else "scalar": member}
    if isinstance(value, np.random.Generator):
        return _encode(value.bit_generator.state, place, arrays)
    if hasattr(kind, "named_generators"):  # a module: its state_dict holds only arrays
        held = dict(value.named_generators())
        state = _encode(value.state_dict(), place, arrays)
        return {"module": [state, _encode(held, (*place, "generators"), arrays)]}
    if hasattr(kind, "state_dict"):
        return _encode(value.state_dict(), place, arrays)
    what = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    if isinstance(value, np.ndarray | np.generic):
        what += f" of {value.dtype}"
    raise DtypeError(
        f"save: holds dicts, lists, tuples, numbers, arrays of numbers, strings, None and objects "
        f"that have state_dict(); {_name(place)} is a {what}. Nothing was written; "
        f"save what it is made from"
    )


def _text(value: str, place: _Place) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ArgumentError(
            f"save: strings are Unicode text; {_name(place)!a} is {value!a:.60}, with half of a "
            f"surrogate pair. Nothing was written"
        ) from error
    return value


def _member(place: _Place, taken: Mapping[str, Any]) -> str:
    """A name for an array in the archive: for people; the index says which array is which."""
    parts = [re.sub(r"[^\w.+-]", "_", str(key)) for key in place]
    label = "/".join(part if part.strip(".") else "_" for part in parts)[:200] or "array"
    name, number = f"{label}.npy", 2
    while name in taken:
        name, number = f"{label}~{number}.npy", number + 1
    return name


# --- reading


def _read(path: Path) -> tuple[Any, dict[_Place, Any]]:
    """The content of a file, and the states of the generators of the modules in it, by place."""
    if path.exists() and not path.is_file():
        raise CheckpointError(f"{path}: a checkpoint is a file; this is a directory or a device")
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataNotFoundError(
            f"{path}: cannot be read ({error.strerror}). Check the path"
        ) from error
    try:
        with file, zipfile.ZipFile(file) as archive:
            index, arrays = _members(archive, file)
        if index is None:
            return {name.removesuffix(".npy"): array for name, array in arrays.items()}, {}
        return _unfold(json.loads(index), arrays)
    except MemoryError:
        raise
    except Exception as error:  # a damaged file can make its readers fail in any way
        raise CheckpointError(
            f"{path}: a checkpoint is a whole file of tg.save, or of numpy.savez with arrays of "
            f"numbers; {error or type(error).__name__}. Nothing was loaded; fetch the "
            f"file again, or take an older one"
        ) from error


def _members(
    archive: zipfile.ZipFile, file: BinaryIO
) -> tuple[bytes | None, dict[str, np.ndarray]]:
    """The index, if there is one, and the arrays by name; each member's checksum is compared."""
    size = file.seek(-22, os.SEEK_END) + 22
    end = struct.unpack("<4s6xH10x", file.read(22))
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in archive.infolist():
        name = entry.filename
        if name in entries:
            raise ValueError(f"two members are called {name}")
        entries[name] = entry
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise ValueError(f"{name} is compressed (numpy.load reads compressed arrays)")
        if name != _INDEX and not name.endswith(".npy"):
            raise ValueError(f"{name} is neither an array nor the index")
    # The last record counts the members: a damaged directory may have swallowed some.
    if not entries or end != (b"PK\5\6", min(len(entries), 0xFFFF)):
        raise ValueError(f"the file does not end by counting {len(entries)} members")
    if sum(entry.file_size for entry in entries.values()) > size:
        raise ValueError("the members are larger than the file")
    index = archive.read(entries.pop(_INDEX)) if _INDEX in entries else None
    return index, {name: _array(name, archive.read(entry)) for name, entry in entries.items()}


def _array(name: str, data: bytes) -> np.ndarray:
    """An array out of a ``.npy`` file, whose header is only believed if the elements are there."""
    start = 10 + int.from_bytes(data[8:10], "little")
    header = _HEADER.fullmatch(data[10:start])
    if data[:8] != b"\x93NUMPY\x01\x00" or not header:
        raise ValueError(f"{name} is no array of numbers (it starts {data[:80]!r})")
    dtype = np.dtype(header[1].decode())
    shape = tuple(int(n) for n in re.findall(rb"\d+", header[3]))
    declared = math.prod(shape) * dtype.itemsize  # Python's integers do not overflow
    if declared != len(data) - start:
        raise ValueError(
            f"the header of {name} declares {' × '.join(map(str, shape))} {dtype} = {declared} "
            f"bytes, of which the file holds {len(data) - start}"
        )
    order: Any = "F" if header[2] == b"True" else "C"
    return np.ndarray(shape, dtype, data, start, order=order).copy("K")


def _unfold(index: Any, arrays: dict[str, np.ndarray]) -> tuple[Any, dict[_Place, Any]]:
    """What `_encode` wrote, and the states of the generators of each module, by place."""
    if index["format"] != _FORMAT or index["version"] != _VERSION:
        raise ValueError(
            f"{_INDEX} says {index['format']!r:.60}, version {index['version']!r:.60}, not "
            f"{_FORMAT!r}, version {_VERSION}"
        )
    generators: dict[_Place, Any] = {}

    def decode(node: Any, place: _Place) -> Any:
        if isinstance(node, list):
            raise ValueError(f"{_INDEX} holds a list of no kind")
        if not isinstance(node, dict):
            return node
        ((kind, held),) = node.items()
        if kind == "int":
            return int(held, 16)
        if kind == "float":
            return struct.unpack(">d", bytes.fromhex(held))[0]
        if kind == "list" or kind == "tuple":
            items = [decode(item, (*place, i)) for i, item in enumerate(held)]
            return items if kind == "list" else tuple(items)
        if kind == "dict":
            keys = [decode(key, place) for key, _ in held]
            if len(set(keys)) != len(keys):
                raise ValueError(f"{_INDEX} has a key twice")
            result = {k: decode(v, (*place, k)) for k, (_, v) in zip(keys, held, strict=True)}
            if "bit_generator" in result:
                _check_generator(result)
            return result
        if kind == "module":
            state, inside = held
            generators[place] = decode(inside, place)
            return decode(state, place)
        if kind == "array":
            return arrays.pop(held)  # each once: a small file cannot stand for many large arrays
        if kind == "scalar":
            return arrays.pop(held)[()]
        raise ValueError(f"{_INDEX} holds a {kind!r:.60}")

    content = decode(index["content"], ())
    if arrays:
        raise ValueError(f"{_INDEX} does not mention {next(iter(arrays))}")
    return content, generators


def _check_generator(state: dict[Any, Any]) -> None:
    """Check the positions in a Generator's state: NumPy would read beyond its memory."""
    for held, key, last in ((state.get("state"), "pos", 624), (state, "buffer_pos", 4)):
        position = held.get(key, 0) if isinstance(held, dict) else 0
        if type(position) is not int or not 0 <= position <= last:
            raise ValueError(f"the {key} of a Generator is {position!r:.60}, not 0 to {last}")


# --- putting back


def _parts(into: Any, place: _Place) -> Iterator[tuple[_Place, Any]]:
    """The objects to load into, each with its place."""
    if hasattr(type(into), "load_state_dict") or isinstance(into, np.random.Generator):
        yield place, into
    elif isinstance(into, Mapping):
        for key, inner in into.items():
            yield from _parts(inner, (*place, key))
    else:
        raise DtypeError(
            f"load: into holds objects that have load_state_dict, and Generators; {_name(place)} "
            f"is a {type(into).__name__}. Take it from what load returns"
        )


def _find(path: Path, content: Any, place: _Place) -> Any:
    """What a file holds at a place."""
    for i, key in enumerate(place):
        if not isinstance(content, dict) or key not in content:
            held = ", ".join(map(str, content)) if isinstance(content, dict) else "no names"
            at = f" in {_name(place[:i])}" if i else ""
            raise StateDictError(
                f"{path}: every part to load must be in the file; {_name(place)} is not: the file "
                f"holds {held}{at}. Nothing was loaded"
            )
        content = content[key]
    return content


def _state(part: Any) -> tuple[Any, dict[str, Any] | None]:
    """A copy of the state of an object, and of the generators inside, if it is a module."""
    if isinstance(part, np.random.Generator):
        return part.bit_generator.state, None
    inside = dict(part.named_generators()) if hasattr(part, "named_generators") else {}
    return copy.deepcopy(part.state_dict()), {k: g.bit_generator.state for k, g in inside.items()}


def _restore(part: Any, state: Any, generators: dict[str, Any] | None) -> None:
    """Give an object a state, and the generators inside a module theirs."""
    if isinstance(part, np.random.Generator):
        part.bit_generator.state = state
        return
    part.load_state_dict(state)
    if generators is not None and hasattr(part, "named_generators"):
        inside = dict(part.named_generators())
        if inside.keys() != generators.keys():
            raise StateDictError(
                f"its generators are {list(inside)}, those in the file {list(generators)}"
            )
        for name, generator in inside.items():
            generator.bit_generator.state = generators[name]


# --- both


def _as_path(call: str, path: Any) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise DtypeError(f"{call}: path is a str or a Path; received a {type(path).__name__}")
    return Path(path)


def _name(place: _Place) -> str:
    return ".".join(map(str, place)) or "the object itself"
