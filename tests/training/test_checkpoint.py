"""Checkpoints: what goes in comes out, bit for bit; training that is resumed never knew."""

import math
import os
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tinygrad_stab as tg
from tinygrad_stab.errors import (
    ArgumentError,
    CheckpointError,
    DataNotFoundError,
    DtypeError,
    StateDictError,
)
from tinygrad_stab.training import DataLoader, fit, load, save


def same(a, b):
    """Equal in type, structure, bits, dtype and memory order; keys in the same order."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        keys = [(type(k), k) for k in a] == [(type(k), k) for k in b]
        return keys and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray):
        order = a.flags.f_contiguous == b.flags.f_contiguous or not a.flags.forc
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes() and order
    if isinstance(a, np.generic):
        return a.dtype == b.dtype and a.tobytes() == b.tobytes()
    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b)
    return a == b


numbers = st.one_of(
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?"),
    hnp.complex_number_dtypes(endianness="?"),
    hnp.boolean_dtypes(),
)
arrays = hnp.arrays(numbers, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(0, 10**40).map(lambda n: -(1 << n % 20000)),  # more digits than int() reads
    st.floats(),
    st.sampled_from([b"\x7f\xf8\0\0\0\0\0\1", b"\xff\xf8\0\0\0\0\0\0"]).map(
        lambda bits: struct.unpack(">d", bits)[0]  # NaNs with a payload, with a sign
    ),
    st.text(),
    arrays,
    arrays.map(np.asfortranarray),
    hnp.arrays(numbers, ()).map(lambda array: array[()]),
)
structures = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.text(max_size=6) | st.integers(), inner, max_size=4),
    ),
    max_leaves=12,
)


@given(structures)
def test_any_structure_comes_back_bit_for_bit(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("round") / "any.npz"
    save(content, path)
    first = path.read_bytes()
    found = load(path)
    assert same(found, content)
    save(found, path)
    assert path.read_bytes() == first


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.npz"


def test_equal_states_give_equal_files_whenever_they_are_saved(path, tmp_path, monkeypatch):
    save({"net": tg.nn.Linear(3, 2, rng=0), "epoch": 1}, path)
    monkeypatch.setattr("time.time", lambda: 2e9)
    save({"net": tg.nn.Linear(3, 2, rng=0), "epoch": 1}, tmp_path / "later")
    assert (tmp_path / "later").read_bytes() == path.read_bytes()


def test_numpy_reads_the_arrays_under_readable_names(path):
    net = tg.nn.Sequential(tg.nn.Linear(3, 2, rng=0))
    save({"model": net, "a b": [np.ones(2)], "a_b": (np.zeros(1, ">f4"),)}, path)
    with np.load(path, allow_pickle=False) as stored:
        assert set(stored) - {"index.json"} == {
            "model/0.weight", "model/0.bias", "a_b/0", "a_b/0~2",
        }  # fmt: skip
        np.testing.assert_array_equal(stored["model/0.weight"], net[0].weight.data)
        np.testing.assert_array_equal(stored["a_b/0~2"], [0])


def test_arrays_that_are_views_are_saved_as_what_they_show(path):
    whole = np.arange(24.0).reshape(2, 3, 4)
    views = [whole[:, ::-2], whole.T, whole[..., 1], np.broadcast_to(1.0, (2, 2)), whole[0, :, :0]]
    save(views, path)
    for found, view in zip(load(path), views, strict=True):
        np.testing.assert_array_equal(found, view)
        assert found.flags.writeable and found.flags.owndata


def test_what_is_loaded_is_a_copy_of_its_own(path):
    save([np.zeros(2)] * 2, path)
    first, second = load(path)
    first += 1
    assert second.tolist() == [0, 0]


def test_tensors_and_scalars_and_generators(path):
    rng = np.random.Generator(np.random.Philox(3))
    state = rng.bit_generator.state
    leaf = tg.tensor([1.0, 2.0], requires_grad=True)
    save({"leaf": leaf, "result": leaf * 2, "rng": rng, "one": np.float32(0.1)}, path)
    content = load(path)
    np.testing.assert_array_equal(content["leaf"], [1, 2])
    np.testing.assert_array_equal(content["result"], [2, 4])
    assert same(content["rng"], state)
    assert type(content["one"]) is np.float32


def test_idioms_of_pytorch(path):
    net, other = tg.nn.Linear(3, 2, rng=0), tg.nn.Linear(3, 2, rng=1)
    for saved in (net, net.state_dict()):
        save(saved, path)
        other.load_state_dict(load(path))
        assert same(other.state_dict(), net.state_dict())
        save({"net": saved}, path)
        fresh = tg.nn.Linear(3, 2, rng=2)
        load(path, into={"net": fresh})
        assert same(fresh.state_dict(), net.state_dict())
    save(net, path)
    fresh = tg.nn.Linear(3, 2, rng=3)
    assert same(load(path, into=fresh), net.state_dict())
    assert same(fresh.state_dict(), net.state_dict())


def test_a_path_is_taken_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(1, "plain")
    save(2, tmp_path / "dotted.name")
    (tmp_path / "folder").mkdir()
    assert load("plain") == 1 and load("dotted.name") == 2
    assert {p.name for p in tmp_path.iterdir()} == {"plain", "dotted.name", "folder"}


@pytest.mark.parametrize(
    ("obj", "error", "message"),
    [
        ({"model": {"extra": object()}}, DtypeError, r"model\.extra is a object"),
        ([1, {"f": len}], DtypeError, r"1\.f is a builtin_function_or_method"),
        ({"a": {1, 2}}, DtypeError, "a is a set"),
        ({"a": b"bytes"}, DtypeError, "a is a bytes"),
        ({"a": 1j}, DtypeError, "a is a complex"),
        ({"a": tg.nn.Linear}, DtypeError, "a is a type"),
        ({"a": np.array(["x"])}, DtypeError, r"a is a numpy\.ndarray of <U1"),
        ({"a": np.datetime64("2020")}, DtypeError, r"a is a numpy\.datetime64 of"),
        ({"a": np.ma.ones(2)}, DtypeError, r"a is a numpy\.ma\.\S*MaskedArray"),
        ({(1, 2): 3}, DtypeError, r"the object itself has \(1, 2\), of type tuple"),
        ({"a": {True: 3}}, DtypeError, "keys are str or int; a has True, of type bool"),
        (print, DtypeError, "the object itself is a builtin"),
        ({"a": "\ud800"}, ArgumentError, r"Unicode text; 'a' is '\\ud800'"),
        ({"\ud800": 1}, ArgumentError, "Unicode text"),
    ],
)
def test_what_cannot_be_saved_is_refused_by_its_place(path, obj, error, message):
    save("old", path)
    with pytest.raises(error, match=message):
        save(obj, path)
    assert load(path) == "old" and len(list(path.parent.iterdir())) == 1


def test_what_holds_itself_is_refused(path):
    endless = {"a": 1}
    endless["b"] = [endless]
    with pytest.raises(ArgumentError, match=r"at most 100 deep; .*b\.0\.b\.0.*hold itself"):
        save(endless, path)
    deep = 0
    for _ in range(100):
        deep = [deep]
    save(deep, path)
    assert load(path) == deep
    with pytest.raises(ArgumentError, match="100 deep"):
        save([deep], path)


def test_swapped_and_absurd_arguments(path):
    for call in (save, lambda a, b: load(b)):
        for absurd in ({"a": 1}, 3, None, b"run.npz"):
            with pytest.raises(DtypeError, match=rf"path is a str .*{type(absurd).__name__}"):
                call("x", absurd)
    save({"a": 1}, path)
    with pytest.raises(DtypeError, match=r"into holds objects .*; a is a int"):
        load(path, into={"a": 3})


def test_places_that_cannot_be_written_are_named(tmp_path):
    for place in (tmp_path / "none" / "run.npz", tmp_path):
        with pytest.raises(OSError, match=r"No such file|not a file") as caught:
            save(1, place)
        assert caught.value.filename == str(place)
    with pytest.raises(DataNotFoundError, match=r"nowhere: cannot be read \(No such file"):
        load(tmp_path / "nowhere")


def test_a_plain_npz_is_a_flat_dict(path):
    net = tg.nn.Sequential(tg.nn.Linear(3, 2, rng=0), tg.nn.BatchNorm1d(2))
    np.savez(path, **net.state_dict())
    assert same(load(path), net.state_dict())
    fresh = tg.nn.Sequential(tg.nn.Linear(3, 2, rng=1), tg.nn.BatchNorm1d(2))
    load(path, into=fresh)
    assert same(fresh.state_dict(), net.state_dict())


# --- into


class Counter:
    """Something with a state, which refuses what is negative when half of it has changed."""

    def __init__(self, count):
        self.count, self.seen = count, [count]

    def state_dict(self):
        return {"count": self.count, "seen": self.seen}

    def load_state_dict(self, state):
        self.count = state["count"]
        if self.count < 0:
            raise ValueError("a count is at least 0")
        self.seen = list(state["seen"])


def test_the_parts_are_loaded_and_the_rest_is_returned(path):
    rng = np.random.default_rng(5)
    save({"deep": {"counter": Counter(3)}, 7: rng, "epoch": 4, "lr": math.inf}, path)
    drawn = rng.random(3)
    counter, other = Counter(0), np.random.default_rng()
    content = load(path, into={"deep": {"counter": counter}, 7: other})
    assert content["epoch"] == 4 and content["lr"] == math.inf and counter.count == 3
    np.testing.assert_array_equal(other.random(3), drawn)


@pytest.mark.parametrize(
    ("into", "message"),
    [
        ({"sgd": Counter(0)}, "sgd is not: the file holds net, rng, bad, deep, epoch"),
        ({"deep": {"x": Counter(0)}}, r"deep\.x is not: the file holds a in deep"),
        ({"epoch": {"x": Counter(0)}}, r"epoch\.x is not: the file holds no names in epoch"),
        ({"bad": Counter(0)}, "bad does not: a count is at least 0"),
        ({"rng": np.random.Generator(np.random.MT19937(0))}, "rng does not: .*MT19937"),
        ({"epoch": np.random.default_rng(0)}, "epoch does not"),
        ({"rng": tg.nn.Linear(2, 2, rng=0)}, "rng does not: .*weight is missing"),
        ({"net": tg.nn.Linear(3, 3, rng=0)}, r"net does not: .*weight has shape \(2, 3\)"),
    ],
)
def test_all_parts_are_loaded_or_none(path, into, message):
    def net(rng):
        return tg.nn.Sequential(tg.nn.Linear(3, 2, rng=rng), tg.nn.Dropout(0.5, rng=rng))

    saved = {
        "net": tg.nn.Linear(3, 2, rng=0), "rng": np.random.default_rng(1), "bad": Counter(-1),
        "deep": {"a": net(3)}, "epoch": 4,
    }  # fmt: skip
    save(saved, path)
    good, rng = net(7), np.random.default_rng(9)
    before = [good.state_dict(), good[1].rng.bit_generator.state, rng.bit_generator.state]
    parts = {"deep": {"a": good}, "rng": rng}
    named = next(iter(into))
    for order in ({**parts, **into}, {**into, **{k: v for k, v in parts.items() if k != named}}):
        with pytest.raises(StateDictError, match=message) as caught:
            load(path, into=order)
        assert str(path) in str(caught.value)
        now = [good.state_dict(), good[1].rng.bit_generator.state, rng.bit_generator.state]
        assert same(now, before)
        assert all(not isinstance(p, Counter) or p.count == 0 for p in into.values())


def test_an_interrupt_while_loading_puts_everything_back(path):
    class Interrupted(Counter):
        def load_state_dict(self, state):
            super().load_state_dict(state)
            if state["count"] == 2:
                raise KeyboardInterrupt

    save({"a": Counter(1), "b": Counter(2)}, path)
    a, b = Counter(10), Interrupted(20)
    with pytest.raises(KeyboardInterrupt):
        load(path, into={"a": a, "b": b})
    assert (a.count, b.count) == (10, 20)


def test_a_module_without_the_generators_of_the_file_is_refused(path):
    save({"net": tg.nn.Sequential(tg.nn.Dropout(0.5, rng=0))}, path)
    with pytest.raises(StateDictError, match=r"its generators are \[\], those in the file \['0"):
        load(path, into={"net": tg.nn.Sequential(tg.nn.Identity())})


# --- training


def session(seed, bits, dtype, make):
    """All that a training run consists of; one generator serves the batches and the dropout."""
    rng = np.random.Generator(bits(seed))
    net = tg.nn.Sequential(
        tg.nn.Linear(4, 8, rng=rng, dtype=dtype), tg.nn.BatchNorm1d(8, dtype=dtype), tg.nn.ReLU(),
        tg.nn.Dropout(0.3, rng=rng), tg.nn.Linear(8, 2, rng=rng, dtype=dtype),
    )  # fmt: skip
    data = np.random.default_rng(0)
    x, y = data.normal(size=(40, 4)).astype(dtype), data.integers(0, 2, 40)
    optimizer = make(net.parameters())
    return {
        "model": net,
        "optimizer": optimizer,
        "schedule": tg.optim.schedules.CosineAnnealingLR(optimizer, 7),
        "loader": DataLoader(x, y, batch_size=8, shuffle=True, rng=rng),
        "rng": rng,
    }


def train(run, start, end):
    return fit(
        run["model"], run["loader"], tg.nn.CrossEntropyLoss(), run["optimizer"], end,
        schedule=run["schedule"], start_epoch=start,
    )  # fmt: skip


@pytest.mark.parametrize(
    "make",
    [
        lambda params: tg.optim.SGD(params, lr=0.1, momentum=0.9),
        lambda params: tg.optim.Adam(params, lr=0.01),
        lambda params: tg.optim.AdamW(params, lr=0.01, amsgrad=True),
        lambda params: tg.optim.RMSprop(params, lr=0.01, centered=True),
    ],
    ids=["SGD", "Adam", "AdamW", "RMSprop"],
)
@pytest.mark.parametrize("bits", [np.random.PCG64, np.random.MT19937])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_resumed_training_equals_uninterrupted_training_bit_for_bit(path, make, bits, dtype):
    whole = session(1, bits, dtype, make)
    records = train(whole, 0, 6)

    train(first := session(1, bits, dtype, make), 0, 3)
    save({**first, "epoch": 3}, path)
    resumed = session(2, bits, dtype, make)
    epoch = load(path, into=resumed)["epoch"]
    more = train(resumed, epoch, 6)

    assert [r["loss"] for r in more] == [r["loss"] for r in records[3:]]
    save(whole, path)
    save(resumed, other := path.with_name("other"))
    assert other.read_bytes() == path.read_bytes()


def test_without_the_generator_resumed_training_would_differ(path):
    """The test above can fail: the weights alone are not the state."""
    make = tg.optim.Adam
    records = train(session(1, np.random.PCG64, float, make), 0, 6)
    train(first := session(1, np.random.PCG64, float, make), 0, 3)
    save({name: first[name] for name in ("model", "optimizer")}, path)
    content = load(path)
    resumed = session(2, np.random.PCG64, float, make)
    resumed["model"].load_state_dict(content["model"])
    resumed["optimizer"].load_state_dict(content["optimizer"])
    assert train(resumed, 3, 6)[-1]["loss"] != records[-1]["loss"]


# --- kills

KILLED = """
import os, random, signal, sys, time
import numpy as np
from pathlib import Path
from tinygrad_stab import files
from tinygrad_stab.training import load, save

path = Path(sys.argv[1])
save({"n": 0, "a": np.zeros(50_000), "b": [np.zeros((2, 50_000))]}, path)
seen, left = set(), 0
for kill in range(50):
    child = os.fork()
    if not child:
        files._STARTED = time.time()  # as in a process that is new
        n = 1000 * kill
        while True:
            n += 1
            save({"n": n, "a": np.full(50_000, n), "b": [np.full((2, 50_000), n)]}, path)
    time.sleep(random.Random(kill).uniform(0.002, 0.04))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    content = load(path)
    assert (content["a"] == content["n"]).all() and (content["b"][0] == content["n"]).all()
    seen.add(content["n"])
    drafts = len(list(path.parent.iterdir())) - 1
    assert drafts <= 1, drafts
    left += drafts
print(len(seen), left)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_kill_at_any_moment_leaves_a_whole_file_and_at_most_one_draft(path):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(path)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    states, drafts = map(int, done.stdout.split())
    assert states > 10 and drafts > 10  # it did save, and was killed while it did


# --- what is in the file


def test_the_index_is_the_authority(path):
    """Every member is mentioned once; nothing in the index is believed."""
    save({"w": np.ones(2), "v": np.ones(3)}, path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    good = members["index.json"].decode()

    def rewritten(**changes):
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in {**members, **changes}.items():
                if data is not None:
                    archive.writestr(name, data)
        return path

    assert load(rewritten())["w"].tolist() == [1, 1]
    for index, message in [
        (good.replace("version", "Version"), "'version'"),
        (good.replace('"version": 1', '"version": 2'), "version 2, not .* version 1"),
        (good.replace("tinygrad_stab", "other"), "'other checkpoint', version 1, not"),
        (good.replace('"v.npy"', '"w.npy"'), "'w.npy'"),
        (good.replace('["v", {"array": "v.npy"}]', '["v", 3]'), "does not mention v.npy"),
        (good.replace('["v", ', '["w", '), "a key twice"),
        (good.replace("array", "call"), "holds a 'call'"),
        (good.replace('{"array": "v.npy"}', "[1]"), "a list of no kind"),
        (good.replace('{"array": "v.npy"}', "{}"), "not enough values"),
        (good.replace('"dict"', '"list"'), "a list of no kind"),
        (good[:-1], "JSON|delimiter|Expecting"),
        ("[" * 100_000, "recursion|Recursion"),
        ('{"a": ' * 100_000, "recursion|Recursion"),
        ("7" * 10_000, "digits"),
        ("{}", "'format'"),
        ("[]", "indices"),
    ]:
        with pytest.raises(CheckpointError, match=message) as caught:
            load(rewritten(**{"index.json": index}))
        assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("bits", "change"),
    [
        (np.random.MT19937, {"pos": 625}),
        (np.random.MT19937, {"pos": -1}),
        (np.random.MT19937, {"pos": np.int64(10**9)}),
        (np.random.Philox, {"buffer_pos": 5}),
        (np.random.Philox, {"buffer_pos": 10.0**9}),
    ],
)
def test_a_generator_that_would_read_beyond_its_memory_is_refused(path, bits, change):
    state = bits(0).state
    (state["state"] if "pos" in change else state).update(change)
    save({"loader": {"rng": state}}, path)
    with pytest.raises(CheckpointError, match=f"the {next(iter(change))} of a Generator is"):
        load(path)
