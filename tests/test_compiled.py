"""Conversion of stored numbers, and machine code on disk."""

import os
import subprocess
import sys
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
# could overwrite the other's.
MULTIPLY = """
import sys, torch
from megadance_hf.cpu_kernels import compiled_steps
layer, x, y = torch.nn.Linear(32, 8).to(getattr(torch, sys.argv[1])), torch.ones(1, 2, 32), torch.empty(1, 2, 8)
with torch.no_grad():
    compiled_steps.multiply(compiled_steps._product_arguments(layer), x.numpy(), y.numpy())
    torch.testing.assert_close(y[0], layer.float()(x[0]), rtol=1e-3, atol=1e-3)
"""


@pytest.mark.slow
def test_processes_do_not_overwrite_each_others_code(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    for _ in range(2):  # compiles, then loads
        commands = [[sys.executable, "-c", MULTIPLY, dtype] for dtype in ("float32", "bfloat16")]
        processes = [subprocess.Popen(command, env=environment) for command in commands]
        assert [process.wait(300) for process in processes] == [0, 0]


def test_all_compiled_modules_are_hashed():
    folder = Path(module.__file__).parent
    with_compiled_functions = {path.name for path in folder.glob("*.py") if "@compiled(" in path.read_text()}
    assert with_compiled_functions <= set(module.MODULES)
    assert all((folder / name).is_file() for name in module.MODULES)
