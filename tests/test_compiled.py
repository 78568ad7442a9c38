"""Conversion of stored numbers, and machine code on disk."""

import subprocess
from pathlib import Path

import numba
import numpy as np
import pytest
import torch

from megadance_hf.cpu_kernels import compiled as module
from megadance_hf.cpu_kernels.compiled import cache_folder, compiled, to_float32, to_type_of


def test_conversion_to_bfloat16_and_back():
    """Rounded as torch does; float32 stays as it is."""

    @numba.njit
    def convert(values, bits, floats):
        for k in range(len(values)):
            bits[k] = to_type_of(bits, values[k])
            floats[k] = to_float32(bits[k])

    values = np.concatenate(
        [np.random.default_rng(0).normal(size=1000) * 10.0 ** np.arange(-20, 20).repeat(25), [0, 1]]
    )
    values = values.astype(np.float32)
    values[0] = np.array([0x3F808000], np.uint32).view(np.float32)[0]  # half-way between two: to the even one
    bits, floats = np.empty(len(values), np.uint16), np.empty(len(values), np.float32)
    convert(values, bits, floats)
    expected = torch.from_numpy(values).bfloat16()
    np.testing.assert_array_equal(bits, expected.view(torch.uint16).numpy())
    np.testing.assert_array_equal(floats, expected.float().numpy())
    same = np.empty_like(values)
    convert(values, same, floats)
    np.testing.assert_array_equal(same, values)


def double(x):
    return 2 * x


def test_machine_code_is_reused_until_a_source_changes(monkeypatch, tmp_path):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    folder = cache_folder().name

    def hits() -> int:
        function = compiled()(double)
        assert function(21) == 42
        return sum(function.stats.cache_hits.values())

    assert [hits(), hits()] == [0, 1]
    monkeypatch.setattr(module, "_source_hash", lambda: "other")
    assert [hits(), hits()] == [0, 1]
    assert {path.name for path in tmp_path.iterdir()} == {folder, "numba-other"}
    assert numba.config.CACHE_DIR == str(tmp_path)


def test_machine_code_lies_beside_the_modules():
    assert cache_folder().parent == Path(module.__file__).parent / "__pycache__"


# Two processes that start together, with nothing compiled yet: numba numbers the files of machine code, so that each
# could overwrite the other's. A small function stands for all that are called
# like this; arrays with and without gaps are different types.
COMPUTE = """
import sys, time
import numba, numpy, torch
from numba.core.caching import IndexDataCacheFile
load = IndexDataCacheFile._load_index
def load_index(self):  # between this and writing it the other process must not do the same
    index = load(self)
    time.sleep(0.3)
    return index
IndexDataCacheFile._load_index = load_index
numba.config.CACHE_DIR = sys.argv[1]
from megadance_hf.cpu_kernels import compiled_steps, loops
x = numpy.linspace(-3, 3, 24, dtype=numpy.float32)[:: int(sys.argv[2])]
expected = torch.nn.functional.gelu(torch.from_numpy(x.copy()))
compiled_steps._call(loops._gelu_in_place, x.strides, x)
torch.testing.assert_close(torch.from_numpy(x), expected, rtol=1e-5, atol=1e-5)
"""


@pytest.mark.slow
def test_processes_do_not_overwrite_each_others_code(tmp_path, forked_python):
    for _ in range(2):  # compiles, then loads
        commands = [[forked_python, "-c", COMPUTE, str(tmp_path), stride] for stride in ("1", "2")]
        processes = [subprocess.Popen(command) for command in commands]
        assert [process.wait(300) for process in processes] == [0, 0]
        files = sorted(path.name[-6:] for path in tmp_path.rglob("*_gelu_in_place*.nbc"))
        assert files == [".1.nbc", ".2.nbc"]


def test_all_compiled_modules_are_hashed():
    folder = Path(module.__file__).parent
    with_compiled_functions = {path.name for path in folder.glob("*.py") if "@compiled(" in path.read_text()}
    assert with_compiled_functions <= set(module.MODULES)
    assert all((folder / name).is_file() for name in module.MODULES)
