"""Numbers as they are stored, and machine code that is kept."""

from pathlib import Path

import numba
import numpy as np
import torch

from megadance_hf.modeling import compiled_megadance
from megadance_hf.modeling.compiled_megadance import compiled, real, stored


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

    def hits() -> int:
        function = compiled()(double)
        assert function(21) == 42
        return sum(function.stats.cache_hits.values())

    assert [hits(), hits()] == [0, 1]
    monkeypatch.setattr(compiled_megadance, "SOURCES", "others")
    assert [hits(), hits()] == [0, 1]


def test_processes_do_not_write_each_others_code(monkeypatch, tmp_path):
    """Two that compile at the same time: each looks at the index before the other has written to it."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))

    def hits(value) -> int:
        function = compiled()(double)
        assert function(value) == 2 * value
        return sum(function.stats.cache_hits.values())

    def codes() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in tmp_path.rglob("*.nbc")}

    assert hits(21) == 0
    (index,) = tmp_path.rglob("*.nbi")
    of_first, first = index.read_bytes(), codes()
    index.unlink()
    assert hits(1.5) == 0
    assert len(codes()) == 2 and first.items() <= codes().items()
    assert hits(1.5) == 1
    index.write_bytes(of_first)  # the first one's index came last: what the other has made is forgotten
    assert [hits(21), hits(1.5), hits(1.5)] == [1, 0, 1]


def test_all_sources_count():
    folder = Path(compiled_megadance.__file__).parent
    with_compiled_functions = {path.name for path in folder.glob("*.py") if "@compiled(" in path.read_text()}
    assert with_compiled_functions <= set(compiled_megadance.MODULES)
    assert all((folder / name).is_file() for name in compiled_megadance.MODULES)
