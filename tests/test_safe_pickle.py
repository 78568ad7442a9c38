"""Pickles as data sets have them are read; programs are not run."""

import pickle
from collections import OrderedDict

import numpy as np
import pytest

from megadance_hf.datasets_scripts.safe_pickle import UnsafePickleError, load_pickle


def write(path, content, protocol=2):
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_containers(tmp_path, protocol):
    content = {
        "poses": np.arange(12.0).reshape(3, 4),
        "strided": np.arange(12, dtype=np.float32).reshape(3, 4).T,
        "scalar": np.float64(2.5),
        "plain": OrderedDict(a=[1, "two", (3.0, None, True)], b=b"bytes"),
    }
    got = load_pickle(write(tmp_path / "a.pkl", content, protocol))
    np.testing.assert_array_equal(got["poses"], content["poses"])
    np.testing.assert_array_equal(got["strided"], content["strided"])
    assert got["scalar"] == 2.5 and got["plain"] == content["plain"]


def test_python_2_pickles(tmp_path):
    """As AIST++'s early files: numpy's old module names, and text that is bytes."""
    raw = pickle.dumps({"smpl_poses": np.ones((2, 3))}, protocol=2).replace(b"numpy._core", b"numpy.core")
    (tmp_path / "a.pkl").write_bytes(raw)
    np.testing.assert_array_equal(load_pickle(tmp_path / "a.pkl")["smpl_poses"], np.ones((2, 3)))


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_program_is_not_run(tmp_path):
    for content in (Evil(tmp_path / "ran"), {"a": [np.ones(3), Evil(tmp_path / "ran")]}):
        with pytest.raises(UnsafePickleError, match="asks for io.open"):
            load_pickle(write(tmp_path / "a.pkl", content))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content",
    [np.array([{"a": 1}]), [np.array([None])], np.zeros(2, dtype=[("a", "O")])],
    ids=["objects", "in a list", "a field of objects"],
)
def test_arrays_of_objects_are_refused(tmp_path, content):
    with pytest.raises(UnsafePickleError, match="array of objects"):
        load_pickle(write(tmp_path / "a.pkl", content))


def test_a_list_that_holds_itself_ends(tmp_path):
    content = [1]
    content.append(content)
    got = load_pickle(write(tmp_path / "a.pkl", content))
    assert got[0] == 1 and got[1] is got


def test_every_cut_and_garbage_is_told(tmp_path):
    whole = pickle.dumps({"a": np.arange(20.0), "b": ["x"]}, protocol=2)
    garbage = np.random.default_rng(0).integers(0, 256, (200, 40), dtype=np.uint8)
    for raw in [whole[:cut] for cut in range(len(whole))] + [row.tobytes() for row in garbage]:
        (tmp_path / "a.pkl").write_bytes(raw)
        with pytest.raises(UnsafePickleError, match=r"a\.pkl"):
            load_pickle(tmp_path / "a.pkl")


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_pickle(tmp_path / "none.pkl")
