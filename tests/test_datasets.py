"""Data: what is shipped, what is read, and what is refused."""

import gzip
import hashlib
import os
import struct

import numpy as np
import pytest

import tinygrad_stab as tg
from tinygrad_stab import datasets
from tinygrad_stab.errors import ArgumentError, DataError, DataNotFoundError


def idx(array, magic=None, shape=None):
    """A gzip-compressed IDX file of an array, or one that lies about it."""
    magic = 0x800 | array.ndim if magic is None else magic
    head = struct.pack(f">I{array.ndim}I", magic, *(array.shape if shape is None else shape))
    return gzip.compress(head + array.tobytes())


@pytest.fixture
def images():
    return np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


class TestDigits:
    def test_content(self):
        data = tg.datasets.digits()
        assert data.inputs.shape == (1797, 8, 8) and data.inputs.dtype == np.uint8
        assert data.inputs.max() == data.top == 16
        # The counts by class that the UCI repository gives for its test part.
        counts = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
        np.testing.assert_array_equal(np.bincount(data.labels), counts)

    def test_features(self):
        data = tg.datasets.digits()
        x = data.features(np.float32)
        assert x.shape == (1797, 64) and x.dtype == np.float32
        assert x.min() == 0 and x.max() == 1

    def test_is_small(self):
        path = os.path.join(os.path.dirname(datasets.__file__), "data", "digits.npz")
        assert os.path.getsize(path) < 100_000


class TestSpirals:
    def test_shape_and_reproducibility(self):
        data = tg.datasets.spirals(100, classes=4, noise=0.1, rng=3)
        assert data.inputs.shape == (100, 2) and data.features().shape == (100, 2)
        np.testing.assert_array_equal(np.bincount(data.labels), [25] * 4)
        assert np.hypot(*data.inputs.T).max() <= 1
        np.testing.assert_array_equal(data.inputs, tg.datasets.spirals(100, 4, 0.1, rng=3).inputs)

    def test_without_noise_the_arms_are_the_spiral(self):
        data = tg.datasets.spirals(99, classes=3, noise=0.0, rng=0)
        radius = np.hypot(*data.inputs.T)
        angle = 2 * np.pi * (data.labels / 3 + radius)
        np.testing.assert_allclose(
            data.inputs, radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
        )

    @pytest.mark.parametrize(
        "arguments", [{"n": 0}, {"classes": 0}, {"noise": -1}, {"noise": np.nan}]
    )
    def test_out_of_range(self, arguments):
        with pytest.raises(ArgumentError, match="received"):
            tg.datasets.spirals(**arguments)


class TestIdx:
    def test_round_trip(self, images, tmp_path):
        path = tmp_path / "images.gz"
        for array in (images, images[0, 0], np.zeros((0, 3), np.uint8)):
            path.write_bytes(idx(array))
            np.testing.assert_array_equal(datasets.read_idx(path), array)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (lambda a: idx(a, magic=0x801), "magic number must be 0x00000803; received 0x00000801"),
            (lambda a: idx(a, magic=0xD03), "magic number must be"),
            (lambda a: idx(a, shape=(3, 3, 4)), "declares 3 × 3 × 4 = 36 bytes; the file holds 24"),
            (lambda a: idx(a, shape=(1, 3, 4)), "= 12 bytes; the file holds more"),
            (lambda a: idx(a, shape=(2**32 - 1, 28, 28)), "the file holds 24"),
            (lambda a: idx(a)[:-12], "must be an intact gzip file"),
            (lambda a: idx(a)[:-5] + b"\0" * 5, "must be an intact gzip file"),
            (lambda a: idx(a) + b"garbage", "must be an intact gzip file"),
            (lambda a: b"not gzip", "must be an intact gzip file"),
            (lambda a: gzip.compress(b""), "starts with 4 bytes of magic number"),
            (lambda a: gzip.compress(struct.pack(">II", 0x803, 2)), "must give 3 lengths"),
        ],
    )  # fmt: skip
    def test_i19_damaged_files_name_themselves(self, content, message, images, tmp_path):
        path = tmp_path / "images.gz"
        path.write_bytes(content(images))
        with pytest.raises(DataError, match=message) as caught:
            datasets.read_idx(path, 0x803)
        assert str(path) in str(caught.value)

    def test_i20_a_bomb_is_read_no_further_than_its_header_says(self, images, tmp_path):
        import tracemalloc

        path = tmp_path / "bomb.gz"
        path.write_bytes(gzip.compress(struct.pack(">IIII", 0x803, 2, 3, 4) + bytes(200_000_000)))
        tracemalloc.start()
        with pytest.raises(DataError, match="the file holds more"):
            datasets.read_idx(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 5_000_000

    def test_missing_file(self, tmp_path):
        with pytest.raises(DataNotFoundError, match=r"nowhere\.gz: cannot be read \(No such file"):
            datasets.read_idx(tmp_path / "nowhere.gz")


class TestMnist:
    def test_published_content(self, mnist):
        train, test = mnist
        assert train.inputs.shape == (60000, 28, 28) and test.inputs.shape == (10000, 28, 28)
        assert train.inputs.dtype == np.uint8 and train.top == 255
        np.testing.assert_array_equal(train.labels[:10], [5, 0, 4, 1, 9, 2, 1, 3, 1, 4])
        np.testing.assert_array_equal(
            np.bincount(test.labels), [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
        )

    def test_another_content_is_refused(self, tmp_path, images, monkeypatch):
        for pair in datasets._MNIST.values():
            for file in pair:
                array = images if file.magic == 0x803 else images[0, 0]
                (tmp_path / file.name).write_bytes(idx(array))
        wrong = hashlib.sha256(images.tobytes()).hexdigest()
        with pytest.raises(DataError, match=f"SHA-256 .*; these have {wrong}") as caught:
            datasets.mnist(tmp_path)
        assert "train-images-idx3-ubyte.gz" in str(caught.value)
        monkeypatch.setenv(datasets.DATA_VARIABLE, str(tmp_path))
        with pytest.raises(DataNotFoundError, match=r"mnist.train-images"):
            datasets.mnist()

    def test_download_goes_to_the_cache_with_a_checksum(self, tmp_path, monkeypatch):
        import pooch

        asked = []

        def refuse(url, known_hash, fname, path, progressbar):
            asked.append((url, known_hash, fname, path))
            raise OSError("no network")

        monkeypatch.delenv(datasets.DATA_VARIABLE, raising=False)
        monkeypatch.setattr(pooch, "retrieve", refuse)
        with pytest.raises(
            DataNotFoundError, match=r"could not be downloaded .*no network.*Set TIN"
        ):
            datasets.mnist()
        ((url, known_hash, fname, path),) = asked
        assert url.startswith("https://") and url.endswith(fname) and path.name == "mnist"
        assert known_hash == "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873"
