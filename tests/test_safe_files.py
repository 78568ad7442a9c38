"""Arrays are read out of pickles, archives and .npy; programs are not run, and no number in a file is believed."""

import pickle
import struct
import subprocess
import sys
import textwrap
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
from scipy import sparse

from megadance_hf.motion.safe_files import FileError, load_npy, load_npz, load_pickle, load_torch, names_of_npz

pytestmark = pytest.mark.versions

CORE = np._core if hasattr(np, "_core") else np.core  # its name before numpy 2
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def write(path, content, protocol=2):
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def read_bytes(path, raw):
    path.write_bytes(raw)
    return load_pickle(path)


ARRAYS = {
    "rows": np.arange(12.0).reshape(3, 4),
    "columns": np.arange(12, dtype=np.float32).reshape(3, 4).T,
    "axes": np.arange(24, dtype=np.int16).reshape(2, 3, 4).transpose(1, 0, 2),
    "strided": np.arange(12)[::3],
    "big-endian": np.arange(5, dtype=">f4"),
    "halves": np.arange(3, dtype=np.float16),
    "complex": np.array([1 + 2j]),
    "truth": np.array([True, False]),
    "no frames": np.empty((0, 72)),
    "no dimensions": np.array(2.5),
    "text": np.array(["waltz", "jive"]),
    "bytes": np.array([b"waltz", b"jive"]),
    "unsigned": np.array([2**64 - 1], np.uint64),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_arrays(tmp_path, protocol):
    got = load_pickle(write(tmp_path / "a.pkl", ARRAYS, protocol))
    assert list(got) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(got[name], array)
        assert got[name].dtype == array.dtype.newbyteorder("=") and got[name].flags.writeable


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_numbers_and_containers(tmp_path, protocol):
    content = {
        "scalar": np.float64(2.5),
        "word": np.str_("waltz"),
        "numbers": [0, 1, -1, 255, 256, 65536, -(2**31), 2**40, -(2**70), 2.5, float("inf"), True, False, None],
        "text": ["", "é€\n'\"\\", b"", b"\x00\xff", bytearray(b"ab")],
        "nested": OrderedDict(a=[1, ("two", (3.0, None, True), ())], b={}, c=[[]], d={1: 2, 2.5: 3}),
        "long": list(range(3000)),
    }
    got = load_pickle(write(tmp_path / "a.pkl", content, protocol))
    assert got == content and type(got["scalar"]) is np.float64 and type(got["word"]) is np.str_


def test_shared_objects_stay_shared(tmp_path):
    array = np.ones(3)
    got = load_pickle(write(tmp_path / "a.pkl", {"a": array, "b": [array, array]}))
    assert got["a"] is got["b"][0] is got["b"][1]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_numpy_1_and_python_2(tmp_path, protocol):
    """As AIST++'s early files: numpy's old module names, and text that is bytes."""
    old, new = b"numpy.core", b"numpy._core"
    raw = pickle.dumps({"smpl_poses": np.ones((2, 3))}, protocol=protocol)
    raw = raw.replace(bytes([0x8C, 22]) + new + b".multiarray", bytes([0x8C, 21]) + old + b".multiarray")
    raw = raw.replace(bytes([0x8C, 19]) + new + b".numeric", bytes([0x8C, 18]) + old + b".numeric").replace(new, old)
    if protocol >= 4:  # a frame's length, which nobody needs
        raw = raw[:2] + raw[11:]
    assert new not in raw
    np.testing.assert_array_equal(read_bytes(tmp_path / "a.pkl", raw)["smpl_poses"], np.ones((2, 3)))


@pytest.mark.parametrize("binary", [True, False], ids=["protocol 2", "protocol 0"])
def test_bytes_of_python_2(tmp_path, binary):
    data = np.array([1.5, -2.0]).tobytes()
    said = b"U" + bytes([len(data)]) + data if binary else b"S" + repr(data)[1:].encode() + b"\n"
    raw = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(L2L\nt"
    raw += b"cnumpy\ndtype\n(S'f8'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\n" + said + b"tb."
    np.testing.assert_array_equal(read_bytes(tmp_path / "a.pkl", raw), [1.5, -2.0])


def test_a_dictionary_that_numpy_saved(tmp_path):
    np.save(tmp_path / "mean.npy", {"mean": np.arange(3.0), "names": ["a"]})
    got = load_pickle(tmp_path / "mean.npy")
    assert got["mean"].tolist() == [0, 1, 2] and got["names"] == ["a"]
    with pytest.raises(FileError, match="array of objects"):
        load_npy(tmp_path / "mean.npy")


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", [sparse.csc_matrix, sparse.csr_matrix])
def test_sparse_matrices_of_body_models(tmp_path, kind, protocol):
    dense = np.where(np.random.default_rng(0).random((5, 7)) < 0.3, 2.5, 0)
    got = load_pickle(write(tmp_path / "a.pkl", {"J_regressor": kind(dense)}, protocol))
    np.testing.assert_array_equal(got["J_regressor"], dense)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("indices", np.array([0, 1, 9], np.int32)),
        ("indices", np.array([0, -1, 1], np.int32)),
        ("indptr", np.array([0, 1, 1 << 30], np.int32)),
        ("indptr", np.array([0, 3, 1], np.int32)),
        ("data", np.zeros(2)),
        ("_shape", (1 << 20, 1 << 20)),
        ("_shape", (2, -1)),
    ],
)
def test_forged_sparse_matrices(tmp_path, name, value):
    matrix = sparse.csr_matrix(np.array([[1.0, 2, 0], [0, 0, 3]]))
    matrix.__dict__[name] = value
    with pytest.raises(FileError, match="sparse matri"):
        load_pickle(write(tmp_path / "a.pkl", matrix))


# --- what is refused ------------------------------------------------------------------------------------------------------


class Calls:
    """Pickled, a call of anything with anything."""

    def __init__(self, function, *arguments, state=None):
        self.parts = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.parts


def test_code_is_not_run(tmp_path):
    evil = Calls(open, str(tmp_path / "ran"), "w")
    for content in (evil, {"a": [np.ones(3), evil]}):
        with pytest.raises(FileError, match=r"a\.pkl cannot be read \(it asks for _?io.open"):
            load_pickle(write(tmp_path / "a.pkl", content))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content",
    [np.array([{"a": 1}]), [np.array([None])], np.zeros(2, dtype=[("a", "O")]), np.zeros(2, dtype=[("a", "f4")])],
    ids=["objects", "in a list", "a field of objects", "fields"],
)
def test_arrays_of_objects_and_records_are_refused(tmp_path, content):
    with pytest.raises(FileError, match="array of (objects|records)"):
        load_pickle(write(tmp_path / "a.pkl", content))
    np.savez(tmp_path / "a.npz", good=np.ones(2), bad=content)
    with pytest.raises(FileError, match=r"a\.npz cannot be read \(bad: it holds an array of (objects|records)"):
        load_npz(tmp_path / "a.npz")
    assert list(load_npz(tmp_path / "a.npz", keys=("good", "none"))) == ["good"]


def array_with(dtype="f8", shape=(4,), data=bytes(32), order="<", names=None, fields=None, size=-1, flags=0):
    """A pickled array whose every word may be a lie."""
    state = (3, order, None, names, fields, size, -1, flags)
    described = Calls(np.dtype, dtype, False, True, state=state)
    return Calls(CORE.multiarray._reconstruct, np.ndarray, (0,), b"b", state=(1, shape, described, False, data))


FORGED = {
    "pointers from bytes": Calls(np.ndarray, (4,), "O", b"\x01" * 32),
    "memory of others": Calls(np.ndarray, (1 << 20,)),
    "an array never filled": Calls(CORE.multiarray._reconstruct, np.ndarray, (1000,), b"b"),
    "objects": array_with("O8", data=b"\x01" * 32),
    "objects in a list": array_with("O8", data=[1, 2, 3, 4]),
    "a field of objects": array_with("V8", names=("a",), fields={"a": (np.dtype("O"), 0)}, size=8),
    "far offsets": array_with("V8", names=("a",), fields={"a": (np.dtype("f8"), 1 << 40)}, size=8),
    "negative item size": array_with("U2", size=-8),
    "another item size": array_with("U2", size=1 << 40),
    "fields of numbers": array_with("f8", names=("a",), fields={"a": (np.dtype("f8"), 64)}),
    "too large a shape": array_with(shape=(1 << 40,)),
    "a shape that overflows": array_with(shape=(1 << 32, 1 << 32, 4)),
    "a negative shape": array_with(shape=(-4, -1)),
    "a shape of truth": array_with(shape=(True, 4)),
    "a shape of text": array_with(shape=("4",)),
    "nothing, very often": array_with(shape=(1 << 40, 0), data=b""),
    "bytes of no size": array_with("S0", shape=(1 << 40,), data=b"", size=0),
    "no such characters": array_with("U2", data=b"\xff" * 32, size=8),
    "dates": array_with("M8"),
    "a type of a type": array_with(np.dtype("f8")),
    "a short scalar": Calls(CORE.multiarray.scalar, np.dtype("f8"), b"\x01"),
    "a scalar of an object": Calls(CORE.multiarray.scalar, np.dtype("O"), b"\x01" * 8),
    "a buffer that is none": Calls(CORE.numeric._frombuffer, 7, np.dtype("f8"), (1,), "C"),
    "a dtype": np.dtype("f8"),
    "an array's class": np.ndarray,
    "another function": Calls(np.frombuffer, b"12345678"),
    "a set": {1, 2},
    "an attribute": Calls(getattr, "", "join"),
    "what is deep": eval("[" * 60 + "]" * 60),
}


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("name", FORGED)
def test_forged_arrays(tmp_path, name, protocol):
    with pytest.raises(FileError, match=r"a\.pkl cannot be read \(it"):
        load_pickle(write(tmp_path / "a.pkl", FORGED[name], protocol))


def text(word):
    return b"X" + struct.pack("<I", len(word)) + word


def reconstructed(*, dtype):
    return b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n)U\x01btR(K\x01K\x08\x85" + dtype + b"\x89"


BOMBS = {
    "a note far away": b"Nr\xff\xff\xff\xff0N.",  # fine: the note is one entry
    "a length of exabytes": b"\x8e" + struct.pack("<Q", 1 << 62) + b"1.",
    "a bytearray of exabytes": b"\x96" + struct.pack("<Q", 1 << 40) + b"1.",
    "a number of gigabytes": b"\x8b" + struct.pack("<i", 1 << 30) + b"1.",
    "a negative length": b"\x8b" + struct.pack("<i", -5) + b"1.",
    "a number of a million digits": b"L" + b"9" * 1_000_000 + b"L\n.",
    "tuples that double": b"K\x01\x85q\x00" + b"h\x00h\x00\x86q\x00" * 45 + b".",
    "tuples that double, as a key": b"}K\x01\x85q\x00" + b"h\x00h\x00\x86q\x00" * 45 + b"K\x01s.",
    "a list in itself": b"]q\x00h\x00a.",
    "a dictionary in itself": b"}q\x00K\x01h\x00s.",
    "attributes of a function": b"c_codecs\nencode\n(N}X\x0c\x00\x00\x00__defaults__N\x85stb.",
    "a buffer beside the file": b"\x97.",
    "a persistent id": b"Pabc\n.",
    "an extension": b"\x82\x01.",
    "an instance": b"(icollections\nOrderedDict\n.",
    "nothing": b"",
    "garbage": bytes(range(256)),
    "an empty stack": b".",
    "the same array, a thousand times": b"(B" + struct.pack("<I", 1 << 16) + bytes(1 << 16) + b"q\x000"
    b"cnumpy\ndtype\n(U\x02u1\x89\x88tRq\x010" + b"cnumpy.core.numeric\n_frombuffer\nq\x020"
    + b"(h\x02(h\x00h\x01J\x00\x00\x01\x00\x85U\x01CtR" * 1000 + b"t.",
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in BOMBS if name != "a note far away"])
def test_decompression_bombs(tmp_path, name):
    with pytest.raises(FileError, match=r"a\.pkl cannot be read \(.*\): give a whole pickle of plain numpy arrays$"):
        read_bytes(tmp_path / "a.pkl", BOMBS[name])


def test_a_large_memo_index(tmp_path):
    """The library's own reader would fill 34 GB."""
    assert read_bytes(tmp_path / "a.pkl", BOMBS["a note far away"]) is None


def test_folders_and_devices(tmp_path):
    for load in (load_pickle, load_npz, load_npy, load_torch, names_of_npz):
        with pytest.raises(FileError, match="none.pkl does not exist"):
            load(tmp_path / "none.pkl")
        with pytest.raises(FileError, match="cannot be read"):
            load(tmp_path)
        with pytest.raises(FileError, match="/dev/zero cannot be read"):
            load("/dev/zero")


# --- numpy's own files ----------------------------------------------------------------------------------------------------


def test_npz_and_npy(tmp_path):
    for number, save in enumerate((np.savez, np.savez_compressed)):
        save(tmp_path / f"{number}.npz", **ARRAYS)
        got = load_npz(tmp_path / f"{number}.npz")
        assert list(got) == names_of_npz(tmp_path / f"{number}.npz") == list(ARRAYS)
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(got[name], array)
    for array in ARRAYS.values():
        np.save(tmp_path / "a.npy", array)
        got = load_npy(tmp_path / "a.npy")
        np.testing.assert_array_equal(got, array)
        assert got.dtype == array.dtype.newbyteorder("=") and got.flags.writeable
    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array(file, np.ones((2, 3)), version=(2, 0))
    np.testing.assert_array_equal(load_npy(tmp_path / "a.npy"), np.ones((2, 3)))


def npy(header: str, data: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + data


HEADERS = {
    "too large": "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }",
    "overflow": "{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 4294967296), }",
    "too small": "{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }",
    "negative": "{'descr': '<f8', 'fortran_order': False, 'shape': (-2,), }",
    "objects": "{'descr': '|O', 'fortran_order': False, 'shape': (2,), }",
    "a program": "{'descr': __import__('os').abort(), 'fortran_order': False, 'shape': (2,), }",
    "deep": "(" * 9000,
    "nothing": "",
}


@pytest.mark.parametrize("name", HEADERS)
def test_forged_headers(tmp_path, name):
    raw = npy(HEADERS[name], bytes(16))
    (tmp_path / "a.npy").write_bytes(raw)
    with pytest.raises(FileError, match=r"a\.npy cannot be read \(it"):
        load_npy(tmp_path / "a.npy")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("poses.npy", raw)
    with pytest.raises(FileError, match=r"a\.npz cannot be read \(poses: it"):
        load_npz(tmp_path / "a.npz")


def test_archives_that_unpack_to_too_much(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        shape = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({1 << 27},), }}"
        archive.writestr("poses.npy", npy(shape, bytes(1 << 27)))
    with pytest.raises(FileError, match=r"a\.npz cannot be read \(its \d+ bytes promise 134217\d+ unpacked\)"):
        load_npz(tmp_path / "a.npz")
    raw = (tmp_path / "a.npz").read_bytes()
    at = raw.rindex(b"PK\5\6") + 12
    (tmp_path / "a.npz").write_bytes(raw[:at] + struct.pack("<I", 1 << 31) + raw[at + 4 :])
    with pytest.raises(FileError, match="more members"):
        load_npz(tmp_path / "a.npz")


def test_unknown_compression(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("poses.npy", npy("{}", b""))
    with pytest.raises(FileError, match="packed in a way"):
        load_npz(tmp_path / "a.npz")


# --- chance ---------------------------------------------------------------------------------------------------------------

CHILD = """
    import random, sys
    from pathlib import Path
    from megadance_hf.motion.safe_files import FileError, load_npz, load_pickle

    chance = random.Random(int(sys.argv[2]))
    files = sorted(Path(sys.argv[1]).glob("*.*"))
    whole = {file: file.read_bytes() for file in files}
    read = refused = 0
    for case in range(int(sys.argv[3])):
        file = chance.choice(files)
        raw = bytearray(whole[file])
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(raw))
            kind = chance.randrange(6)
            if kind == 0:
                raw[at] ^= 1 << chance.randrange(8)
            elif kind == 1:
                raw[at] = chance.choice(b"\\x00\\x01\\x7f\\x80\\xffRbO(tpq")
            elif kind == 2:
                raw[at : at + 4] = chance.choice([b"\\xff\\xff\\xff\\x7f", b"\\xff" * 4, bytes(4)])
            elif kind == 3:
                raw = raw[: at + 1]
            elif kind == 4:
                raw[at:at] = raw[chance.randrange(len(raw)) :][: chance.randint(1, 30)]
            else:
                del raw[at : at + chance.randint(1, 8)]
            raw = raw or bytearray(b".")
        damaged = file.with_name("damaged")
        damaged.write_bytes(raw)
        try:
            got = (load_npz if file.suffix == ".npz" else load_pickle)(damaged)
            repr(got)
            read += 1
        except FileError as error:
            assert "damaged" in str(error) and "\\n" not in str(error), str(error)
            refused += 1
    print(read, refused)
"""


def test_thousands_of_damaged_files(tmp_path):
    """In a process of their own: what follows a wrong address ends it."""
    small = {name: array for name, array in ARRAYS.items() if array.size < 30}
    for protocol in PROTOCOLS:
        write(tmp_path / f"{protocol}.pkl", {**small, "more": [1, 2.5, "x", None, np.float32(3)]}, protocol)
        for number, name in enumerate(("pointers from bytes", "far offsets")):
            write(tmp_path / f"{protocol}{number}.pkl", FORGED[name], protocol)
    np.savez(tmp_path / "plain.npz", **small)
    np.savez_compressed(tmp_path / "packed.npz", **small)
    command = [sys.executable, "-c", textwrap.dedent(CHILD), str(tmp_path), "0", "4000"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr[-2000:]
    read, refused = map(int, ran.stdout.split())
    assert read > 50 and refused > 2000 and read + refused == 4000
