"""Files at the edges, the cases I01 to I21: weights files first, then IDX."""

import gzip
import hashlib
import io
import pickle
import struct
import subprocess
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest
from test_datasets import idx

import tinygrad_stab as tg
from tinygrad_stab import datasets
from tinygrad_stab.errors import CheckpointError, DataError, DtypeError, StateDictError
from tinygrad_stab.training import load, save


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.npz"


def archive(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in members:
            file.writestr(name, data)


def npy(array, header=None, allow_pickle=False):
    """The bytes of a .npy file, or of one whose header lies."""
    stream = io.BytesIO()
    if header is None:
        np.lib.format.write_array(stream, array, allow_pickle=allow_pickle)
    else:
        np.lib.format.write_array_header_1_0(stream, header)
        stream.write(array.tobytes())
    return stream.getvalue()


def refuses(path, message=None):
    """Loading is CheckpointError, which names the file."""
    with pytest.raises(CheckpointError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)


class Bomb:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


def test_i01_pickles_are_refused_and_nothing_is_executed(path, tmp_path):
    marker = tmp_path / "marker"
    evil = np.array([Bomb(marker)], object)
    np.savez(path, evil=evil)
    refuses(path, "evil.npy is no array of numbers")
    archive(path, [("w.npy", pickle.dumps(Bomb(marker)))])
    refuses(path, "w.npy is no array of numbers")
    path.write_bytes(pickle.dumps(Bomb(marker)))
    refuses(path, "not a zip file")
    save({"w": np.ones(1)}, path)
    with zipfile.ZipFile(path) as file:
        index = file.read("index.json")
    archive(path, [("index.json", index), ("w.npy", npy(evil, allow_pickle=True))])
    refuses(path, "w.npy is no array of numbers")
    archive(path, [("w.npy", npy(np.ones(1)).replace(b"'<f8'", b"'|O8'"))])
    refuses(path, "w.npy is no array of numbers")
    assert not marker.exists()


def test_i02_object_arrays_are_not_saved(path):
    with pytest.raises(DtypeError, match=r"model\.extra is a numpy\.ndarray of object"):
        save({"model": {"w": np.ones(2), "extra": np.array([None])}}, path)
    assert not path.exists()


def small(path):
    """A checkpoint of about 600 bytes with something of everything."""
    content = {"w": np.arange(3, dtype=np.float32), "ü": [np.uint8(7), 1.5, "text"]}
    save(content, path)
    return content


def equal(a, b):
    return repr(a) == repr(b)


def test_i03_a_file_cut_off_anywhere_is_refused(path):
    small(path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        refuses(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0",
        b"some text\n" * 100,
        b"{}",
        b"PK",
        b"PK\3\4" + bytes(100),
        b"PK\5\6" + bytes(18),
        b"\x93NUMPY",
        npy(np.ones(3)),
        gzip.compress(b"text", mtime=0),
    ],
)
def test_i04_other_content_is_refused(path, content):
    path.write_bytes(content)
    refuses(path, "a checkpoint is a whole file")


def test_i04_a_file_that_goes_on_after_its_end_is_refused(path):
    small(path)
    with path.open("ab") as file:
        file.write(b"more")
    refuses(path, "does not end by counting 3 members")


def test_i04_a_directory_and_a_foreign_zip_are_refused(path, tmp_path):
    refuses(tmp_path, "is a directory")
    for name in ("text.txt", "index.json", "folder/", "w.npy/", "w"):
        archive(path, [(name, b"{}" if name == "index.json" else b"hello")])
        refuses(path, "neither an array nor the index|'format'")


def test_i05_a_flipped_bit_anywhere_is_refused_or_changes_nothing(path):
    content = small(path)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as file:
        payload = sum(entry.file_size for entry in file.infolist())
    refused = 0
    for place in range(len(whole)):
        for mask in (1 << place % 8, 0xFF):
            damaged = bytearray(whole)
            damaged[place] ^= mask
            path.write_bytes(damaged)
            try:
                found = load(path)
            except CheckpointError:
                refused += 1
            else:
                assert equal(found, content), place
    assert refused >= 2 * payload  # members are covered whole; dates and the like are not read


def test_i05_a_changed_byte_of_a_plain_npz_is_refused_or_changes_nothing(path):
    content = {"w": np.arange(3, dtype=np.float32), "v": np.arange(2)}
    np.savez(path, **content)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in range(len(whole)):
        for value in (0, rng.integers(256)):
            damaged = bytearray(whole)
            damaged[place] = value
            path.write_bytes(damaged)
            try:
                found = load(path)
            except CheckpointError:
                continue
            assert equal(found, content), place


def test_i06_missing_and_unexpected_names_are_listed(path):
    save({"weight": np.ones((2, 3)), "other": np.ones(1)}, path)
    net = tg.nn.Linear(3, 2, rng=0)
    with pytest.raises(StateDictError, match="bias is missing; other is unexpected"):
        load(path, into=net)
    assert net.load_state_dict(load(path), strict=False) == (["bias"], ["other"])
    assert (net.weight.data == 1).all()


def test_i07_a_wrong_shape_is_refused_also_where_it_would_broadcast(path):
    net = tg.nn.Linear(3, 2, rng=0)
    before = net.state_dict()
    for bias in (np.ones(1), np.ones(()), np.ones((1, 2)), np.ones((2, 1)), np.ones(3)):
        save({"weight": np.ones((2, 3)), "bias": bias}, path)
        with pytest.raises(StateDictError, match="bias has shape"):
            load(path, into=net)
        assert equal(net.state_dict(), before)


def test_i08_real_numbers_are_converted_and_complex_ones_refused(path):
    net = tg.nn.Linear(3, 1, rng=0, dtype=np.float32)
    save({"weight": np.full((1, 3), 0.1), "bias": np.ones(1, np.int8)}, path)
    load(path, into=net)
    assert net.weight.dtype == net.bias.dtype == np.float32
    np.testing.assert_array_equal(net.weight.data, np.full((1, 3), np.float32(0.1)))
    save({"weight": np.full((1, 3), 0.1 + 0j), "bias": np.ones(1)}, path)
    with pytest.raises(StateDictError, match="weight holds complex128, not real numbers"):
        load(path, into=net)


def test_i09_a_failed_load_leaves_everything_as_it_was(path):
    """The model fits and is loaded first; it is put back when the optimiser does not fit."""

    def run(width, seed):
        net = tg.nn.Linear(3, width, rng=seed)
        optimizer = tg.optim.Adam(net.parameters())
        net(np.ones((2, 3))).sum().backward()
        optimizer.step()
        return {"model": net, "optimizer": optimizer}

    save({**run(2, 0), "optimizer": run(4, 0)["optimizer"]}, path)
    into = run(2, 1)
    save(into, before := path.with_name("before"))
    with pytest.raises(StateDictError, match=r"optimizer does not: .*shape"):
        load(path, into=into)
    save(into, after := path.with_name("after"))
    assert after.read_bytes() == before.read_bytes()


NAMES = [
    "../up",
    "/etc/passwd",
    "..",
    ".",
    "",
    "a/../../b",
    "C:\\x",
    "nul\0byte",
    "a\nb",
    "é" * 300,
]


def test_i10_names_are_only_keys(path, tmp_path):
    content = {name: np.full(1, i) for i, name in enumerate(NAMES)}
    save({"model": content}, path)
    assert equal(load(path)["model"], content)
    with zipfile.ZipFile(path) as file:  # and harmless to who unpacks the file
        for name in file.namelist():
            assert ".." not in name.split("/") and not name.startswith("/") and "\\" not in name
    archive(path, [("../../up.npy", npy(np.ones(1))), ("/etc/x.npy", npy(np.zeros(1)))])
    assert equal(load(path), {"../../up": np.ones(1), "/etc/x": np.zeros(1)})
    assert list(tmp_path.iterdir()) == [path]


def test_i11_no_name_is_special(path):
    names = ("file", "allow_pickle", "arr_0", "index.json", "index", "self", "array", "dict")
    content = {name: np.full(2, i) for i, name in enumerate(names)}
    save(content, path)
    assert equal(load(path), content)


def test_i12_a_duplicate_member_is_refused(path):
    save({"w": np.ones(2)}, path)
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "a") as file:
        file.writestr("w.npy", npy(np.zeros(2)))
    refuses(path, "two members are called w.npy")


@pytest.mark.parametrize("shape", [(10**12,), (2**32, 2**32), (3,), (1,), (2, 2, 0), (2**64, 0)])
def test_i13_a_header_that_claims_another_size_is_refused_without_allocating(path, shape):
    header = {"descr": "<f8", "fortran_order": False, "shape": shape}
    archive(path, [("w.npy", npy(np.ones(2), header))])
    tracemalloc.start()
    refuses(path, "w.npy declares .* bytes, of which the file holds 16")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_i13_impossible_headers_are_refused(path):
    good = npy(np.ones(2))
    for old, new in [
        (b"(2,)", b"(-2,)"),
        (b"(2,)", b"2"),
        (b"(2,)", b"(2)"),
        (b"<f8", b"<f9"),
        (b"<f8", b"|V8"),
        (b"<f8", b"<M8"),
        (b"'<f8'", b"[('a', '<f8')]"),
        (b"False", b"0"),
        (b"'shape'", b"'shapes'"),
        (b"\x01\x00", b"\x09\x00"),
        (b"NUMPY", b"NUMPI"),
    ]:
        archive(path, [("w.npy", good.replace(old, new, 1))])
        refuses(path, r"w\.npy is no array|data type '<f9'")
    header = {"descr": "<f8", "fortran_order": False, "shape": (0, 2**62, 2**62)}
    archive(path, [("w.npy", npy(np.ones(0), header))])
    refuses(path)


def test_i14_a_zip_bomb_is_refused_before_it_is_unpacked(path):
    zeros = npy(np.zeros(25_000_000, np.uint8))
    archive(path, [("w.npy", zeros)], zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    tracemalloc.start()
    refuses(path, r"w.npy is compressed \(numpy.load reads compressed arrays\)")
    # The same, but the directory says that it is not compressed, and how long it is.
    content = path.read_bytes()
    entry = content.rindex(b"PK\1\2")
    stored = content[: entry + 10] + struct.pack("<H", 0) + content[entry + 12 :]
    path.write_bytes(stored)
    refuses(path, "compressed")
    sizes = struct.pack("<II", len(zeros), len(zeros))
    path.write_bytes(stored[: entry + 20] + sizes + stored[entry + 28 :])
    refuses(path, "larger than the file")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def test_i14_members_cannot_share_their_bytes(path):
    """Ten entries of the directory, each its own name, all with the elements of the first."""
    archive(path, [(f"w{i}.npy", npy(np.zeros(1000 if i == 0 else 0))) for i in range(10)])
    content = bytearray(path.read_bytes())
    first = content.index(b"PK\1\2")
    entry = first
    while (entry := content.find(b"PK\1\2", entry + 1)) > 0:
        content[entry + 16 : entry + 28] = content[first + 16 : first + 28]
    path.write_bytes(content)
    refuses(path, "larger than the file")


FULL_DISK = """
import resource, sys
import numpy as np
from tinygrad_stab.training import load, save

save({"w": np.zeros(10)}, sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for size in (12_500, 100_000):
    try:
        save({"v": np.zeros(3000), "w": np.ones(size)}, sys.argv[1])
    except OSError as error:
        print(type(error).__name__, error.strerror, error.filename)
print(load(sys.argv[1])["w"].sum())
"""


def test_i15_a_full_disk_leaves_the_old_file(path):
    pytest.importorskip("resource", reason="needs RLIMIT_FSIZE")
    command = [sys.executable, "-c", FULL_DISK, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    refusal = f"OSError File too large {path}"
    assert done.stdout.splitlines() == [refusal, refusal, "0.0"]
    assert list(path.parent.iterdir()) == [path]


# --- IDX; damage that tests/test_datasets.py goes through is not repeated here


def test_i16_a_wrong_magic_number_is_named_with_the_right_one(path):
    path.write_bytes(idx(np.zeros(3, np.uint8)))
    with pytest.raises(DataError, match="must be 0x00000803; received 0x00000801"):
        datasets.read_idx(path, 0x803)


@pytest.mark.parametrize("labels", [[1, 2, 3], [1], [0, 10], [255, 0]], ids=str)
def test_i16_i21_labels_that_are_not_the_published_ones_are_refused(tmp_path, monkeypatch, labels):
    """Too many, too few, outside 0 to 9: whatever differs from what was published."""
    images = np.zeros((2, 28, 28), np.uint8)
    file, labels_file = datasets._MNIST["train"]
    file = file._replace(sha256=hashlib.sha256(images.tobytes()).hexdigest())
    monkeypatch.setitem(datasets._MNIST, "train", (file, labels_file))
    (tmp_path / file.name).write_bytes(idx(images))
    (tmp_path / labels_file.name).write_bytes(idx(np.array(labels, np.uint8)))
    with pytest.raises(DataError, match=r"train-labels.* must hold MNIST's published"):
        datasets.mnist(tmp_path)


def test_i17_the_declared_size_is_the_payload_also_where_the_shape_divides_it(path):
    images = np.zeros((6, 28, 28), np.uint8)
    for count in (3, 5, 7, 12):
        path.write_bytes(idx(images, shape=(count, 28, 28)))
        with pytest.raises(DataError, match=f"declares {count} × 28 × 28"):
            datasets.read_idx(path)


@pytest.mark.parametrize("shape", [(2**32 - 1, 28, 28), (2**32 - 1,) * 3])
def test_i18_a_header_of_terabytes_is_refused_without_allocating(path, shape):
    path.write_bytes(idx(np.zeros((2, 28, 28), np.uint8), shape=shape))
    tracemalloc.start()
    with pytest.raises(DataError, match="the file holds 1568"):
        datasets.read_idx(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3_000_000
