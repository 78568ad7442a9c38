"""Numbers as they are stored, and machine code that is kept."""

import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
import torch

from megadance_hf.cpu_kernels import compiled as module
from megadance_hf.cpu_kernels.compiled import cache_folder, compiled, real, stored


def test_bits_of_bfloat16():
    """Rounded as torch does, there and back; other types stay as they are."""

    @numba.njit
    def there_and_back(values, bits, floats):
        for k in range(len(values)):
            bits[k] = stored(values[k], bits)
            floats[k] = real(bits[k])

    values = np.concatenate(
        [np.random.default_rng(0).normal(size=1000) * 10.0 ** np.arange(-20, 20).repeat(25), [0, 1]]
    )
    values = values.astype(np.float32)
    values[0] = np.array([0x3F808000], np.uint32).view(np.float32)[0]  # half-way: to the even one
    bits, floats = np.empty(len(values), np.uint16), np.empty(len(values), np.float32)
    there_and_back(values, bits, floats)
    expected = torch.from_numpy(values).bfloat16()
    np.testing.assert_array_equal(bits, expected.view(torch.uint16).numpy())
    np.testing.assert_array_equal(floats, expected.float().numpy())
    same = np.empty_like(values)
    there_and_back(values, same, floats)
    np.testing.assert_array_equal(same, values)


def double(x):
    return 2 * x


def test_machine_code_is_kept_until_a_source_changes(monkeypatch, tmp_path):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))

    own = cache_folder().name

    def hits() -> int:
        function = compiled()(double)
        assert function(21) == 42
        return sum(function.stats.cache_hits.values())

    assert [hits(), hits()] == [0, 1]
    monkeypatch.setattr(module, "_sources", lambda: "others")
    assert [hits(), hits()] == [0, 1]
    assert {path.name for path in tmp_path.iterdir()} == {own, "numba-others"}
    assert numba.config.CACHE_DIR == str(tmp_path)


def test_machine_code_lies_beside_the_modules():
    assert cache_folder().parent == Path(module.__file__).parent / "__pycache__"


# Two processes that begin together, with nothing compiled yet: numba numbers files of machine code, so that each could overwrite the other's.
TOGETHER = """
import sys, torch
from megadance_hf.cpu_kernels import compiled_steps
layer, x, y = torch.nn.Linear(32, 8).to(getattr(torch, sys.argv[1])), torch.ones(1, 2, 32), torch.empty(1, 2, 8)
with torch.no_grad():
    compiled_steps.multiply(compiled_steps._linear_arguments(layer), x.numpy(), y.numpy())
    torch.testing.assert_close(y[0], layer.float()(x[0]), rtol=1e-3, atol=1e-3)
"""


@pytest.mark.slow
def test_processes_do_not_overwrite_each_others_code(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    for _ in range(2):  # the second time what the first ones kept is loaded
        commands = [[sys.executable, "-c", TOGETHER, kind] for kind in ("float32", "bfloat16")]
        running = [subprocess.Popen(command, env=environment) for command in commands]
        assert [process.wait(300) for process in running] == [0, 0]


def test_all_sources_count():
    folder = Path(module.__file__).parent
    with_compiled_functions = {path.name for path in folder.glob("*.py") if "@compiled(" in path.read_text()}
    assert with_compiled_functions <= set(module.MODULES)
    assert all((folder / name).is_file() for name in module.MODULES)
