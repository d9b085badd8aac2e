"""Data to experiment on: digits (shipped with the package), MNIST (IDX files), spirals."""

import gzip
import hashlib
import math
import os
import struct
import zlib
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .errors import ArgumentError, DataError, DataNotFoundError

# The environment variable that names a directory with mnist/*.gz in it.
DATA_VARIABLE = "TINYGRAD_STAB_DATA"
_MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist/"


class _File(NamedTuple):
    """A published file: name, magic number, MD5 of the .gz, SHA-256 of the elements."""

    name: str
    magic: int
    md5: str
    sha256: str


_IMAGES, _LABELS = 0x803, 0x801  # unsigned bytes with three axes, with one
_MNIST = {
    "train": (
        _File(
            "train-images-idx3-ubyte.gz",
            _IMAGES,
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
        ),
        _File(
            "train-labels-idx1-ubyte.gz",
            _LABELS,
            "d53e105ee54ea40749a09fcbcd1e9432",
            "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
        ),
    ),
    "test": (
        _File(
            "t10k-images-idx3-ubyte.gz",
            _IMAGES,
            "9fb629c4189551a2d022fa330f9573f3",
            "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
        ),
        _File(
            "t10k-labels-idx1-ubyte.gz",
            _LABELS,
            "ec29112dd5afa0611ce80d1b7f02629c",
            "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
        ),
    ),
}


class Dataset(NamedTuple):
    """Examples and their classes.

    Attributes
    ----------
    inputs : ndarray of shape (n, …)
        As they are stored: uint8 pixels for images, float64 coordinates for points.
    labels : ndarray of int64, shape (n,)
        Classes, from 0.
    top : float
        The largest value that an input can have, for scaling to [0, 1].
    """

    inputs: np.ndarray
    labels: np.ndarray
    top: float

    def features(self, dtype: Any = np.float64) -> np.ndarray:
        """The inputs divided by ``top``, each as one row: shape (n, number of features)."""
        rows = self.inputs.reshape(len(self.inputs), -1)
        return rows.astype(dtype) / np.dtype(dtype).type(self.top)


def digits() -> Dataset:
    """1 797 handwritten digits of 8×8 pixels with values 0 to 16; shipped with the package.

    E. Alpaydin & C. Kaynak 1998, "Optical Recognition of Handwritten Digits", UCI Machine
    Learning Repository, doi:10.24432/C50P49, CC BY 4.0.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> data = tg.datasets.digits()
    >>> data.inputs.shape, data.features().shape, data.labels[:5]
    ((1797, 8, 8), (1797, 64), array([0, 1, 2, 3, 4]))
    """
    with resources.files(__package__).joinpath("data/digits.npz").open("rb") as file:
        stored = np.load(file, allow_pickle=False)
        return Dataset(stored["images"], stored["labels"].astype(np.int64), 16.0)


def spirals(
    n: int = 300,
    classes: int = 3,
    noise: float = 0.2,
    rng: np.random.Generator | int | None = None,
) -> Dataset:
    """Interleaved spiral arms in the plane, one a class: no straight line tells them apart.

    Parameters
    ----------
    n : int
        Number of points, at least 1; class i gets every ``classes``-th.
    classes : int
        Number of arms, at least 1.
    noise : float
        Standard deviation of the angle, in radians; at least 0.
    rng : numpy.random.Generator, int or None

    Returns
    -------
    Dataset
        ``inputs`` of shape (n, 2), within the unit disc.

    Raises
    ------
    ArgumentError
        A value outside its range.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> tg.datasets.spirals(6, classes=3, rng=0).labels
    array([0, 1, 2, 0, 1, 2])
    """
    if n < 1 or classes < 1 or not noise >= 0:
        raise ArgumentError(
            f"spirals: n and classes are at least 1, noise at least 0; received n={n}, "
            f"classes={classes}, noise={noise}"
        )
    rng = np.random.default_rng(rng)
    labels = np.arange(n) % classes
    radius = np.sqrt(rng.uniform(size=n))  # evenly over the disc
    angle = 2 * np.pi * (labels / classes + radius) + noise * rng.normal(size=n)
    points = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return Dataset(points, labels, 1.0)


def mnist(root: str | os.PathLike[str] | None = None) -> tuple[Dataset, Dataset]:
    """The MNIST training set (60 000) and test set (10 000) of 28×28 pixels with values 0 to 255.

    Y. LeCun, C. Cortes & C. Burges, "The MNIST database of handwritten digits", 1998.

    Parameters
    ----------
    root : path, optional
        The directory that holds the four ``*-ubyte.gz`` files. Default: ``mnist`` in the
        directory that the environment variable TINYGRAD_STAB_DATA names; without that, they are
        downloaded once into the user's cache (12 MB; needs the extra ``lab``).

    Returns
    -------
    train, test : Dataset
        Images in the order of the files.

    Raises
    ------
    DataNotFoundError
        A file is missing or cannot be read, or the download failed; names it.
    DataError
        A file is not byte for byte the published one; names it, and what was expected.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> train, test = tg.datasets.mnist()  # doctest: +SKIP
    >>> train.inputs.shape, test.inputs.shape  # doctest: +SKIP
    ((60000, 28, 28), (10000, 28, 28))
    """
    if root is None and os.environ.get(DATA_VARIABLE):
        root = Path(os.environ[DATA_VARIABLE]) / "mnist"
    parts = []
    for images, labels in _MNIST.values():
        arrays = []
        for file in (images, labels):
            path = Path(root) / file.name if root is not None else _download(file)
            array = read_idx(path, file.magic)
            found = hashlib.sha256(array.tobytes()).hexdigest()
            if found != file.sha256:
                raise DataError(
                    f"{path}: must hold MNIST's published {file.name}, whose elements have SHA-256 "
                    f"{file.sha256}; these have {found}. Fetch the file again"
                )
            arrays.append(array)
        parts.append(Dataset(arrays[0], arrays[1].astype(np.int64), 255.0))
    return parts[0], parts[1]


def read_idx(path: str | os.PathLike[str], magic: int | None = None) -> np.ndarray:
    """An array of unsigned bytes out of a gzip-compressed IDX file, MNIST's format.

    The file holds big-endian numbers: a magic number (two zeros, the type, the number of axes),
    the length of each axis, then the elements. No more is read than the header declares and
    nothing is allocated before the payload is there, so a damaged or hostile file cannot fill
    the memory.

    Parameters
    ----------
    path : path
        The ``.gz`` file.
    magic : int, optional
        The magic number that it must have, e.g. 0x803 for images, 0x801 for labels.

    Raises
    ------
    DataNotFoundError
        The file is missing or cannot be read.
    DataError
        Not gzip, damaged, another magic number, or shorter or longer than its header says.
    """
    path = Path(path)
    try:
        with gzip.open(path, "rb") as file:
            head = file.read(4)
            if len(head) < 4:
                raise DataError(
                    f"{path}: an IDX file starts with 4 bytes of magic number; "
                    f"this ends after {len(head)}. Fetch the file again"
                )
            (found,) = struct.unpack(">I", head)
            if found >> 8 != 8 or (magic is not None and found != magic):
                wanted = "0x000008xx (unsigned bytes)" if magic is None else f"{magic:#010x}"
                raise DataError(
                    f"{path}: the magic number must be {wanted}; received "
                    f"{found:#010x}. Is it the right file?"
                )
            axes = found & 0xFF
            head = file.read(4 * axes)
            if len(head) < 4 * axes:
                raise DataError(
                    f"{path}: the header must give {axes} lengths; the file ends "
                    f"before. Fetch it again"
                )
            shape = struct.unpack(f">{axes}I", head)
            size = math.prod(shape)  # Python integers do not overflow
            payload = bytearray()
            while len(payload) <= size and (
                block := file.read(min(1 << 20, size + 1 - len(payload)))
            ):
                payload += block
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: must be an intact gzip file; {error}. Fetch it again") from error
    except OSError as error:
        raise DataNotFoundError(
            f"{path}: cannot be read ({error.strerror or error}). Check the path; mnist() looks in "
            f"its argument, then in ${DATA_VARIABLE}/mnist, then downloads"
        ) from error
    if len(payload) != size:
        held = f"{len(payload)}" if len(payload) < size else "more"
        raise DataError(
            f"{path}: the header declares {' × '.join(map(str, shape))} = {size} bytes; "
            f"the file holds {held}. Fetch it again"
        )
    return np.frombuffer(bytes(payload), np.uint8).reshape(shape)


def _download(file: _File) -> Path:
    """The cached copy of a published file, fetched if it is not there yet."""
    try:
        import pooch
    except ImportError as error:
        raise DataNotFoundError(
            f"{file.name}: downloading needs pooch (pip install 'tinygrad_stab[lab]'); "
            f"or put the files into a directory and set {DATA_VARIABLE} to its parent"
        ) from error
    cache = pooch.os_cache("tinygrad_stab") / "mnist"
    try:
        fetched = pooch.retrieve(
            _MIRROR + file.name, f"md5:{file.md5}", fname=file.name, path=cache, progressbar=False
        )
    except (OSError, ValueError) as error:  # no network, no such host; another checksum
        raise DataNotFoundError(
            f"{file.name}: could not be downloaded from {_MIRROR} ({error}). "
            f"Set {DATA_VARIABLE} to a directory with mnist/{file.name} in it"
        ) from error
    return Path(fetched)
