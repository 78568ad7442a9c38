"""Compiled code steps against the modules that define them."""

import copy
import os
import platform
import subprocess
import sys

import numba
import numpy as np
import pytest
import torch

from megadance_hf.modeling import amx_megadance as amx
from megadance_hf.modeling import experts_megadance
from megadance_hf.modeling import kernels_megadance as kernels
from megadance_hf.modeling import loops_megadance as loops
from megadance_hf.modeling import products_megadance as products
from megadance_hf.modeling.compiled_megadance import FEATURES, Machine
from megadance_hf.modeling.configuration_megadance import MegaDanceConfig
from megadance_hf.modeling.linear_megadance import Int8Linear, dense_weight
from megadance_hf.modeling.modeling_megadance import MegaDanceForMotionGeneration

STATES = ("conv", "ssm", "keys", "values")
MATRICES = [False, True] if amx.permitted() else [False]
OLDER = [("haswell", "+avx,+avx2,+fma,+f16c"), ("x86-64", "")]
if products.LANES == 16:
    OLDER.append(("skylake-avx512", "+avx,+avx2,+fma,+f16c,+avx512f,+avx512bw,+avx512cd,+avx512dq,+avx512vl"))
if "avx512vnni" in FEATURES:
    OLDER.append(("haswell", "+avx,+avx2,+fma,+f16c,+avx512f,+avx512vl,+avx512vnni"))


@pytest.fixture(params=MATRICES, ids=lambda matrices: "amx" if matrices else "vectors")
def matrices(request, monkeypatch):
    """With matrix registers, where there are some, and without."""
    there = kernels.loops()
    of_this_kind = there._replace(machine=lambda: Machine(2, request.param))
    monkeypatch.setattr(kernels, "loops", lambda: of_this_kind)
    return request.param


@pytest.fixture(params=[16, 20, 32])
def model(request):
    """Sizes that fill no matrix register, no vector, and both."""
    torch.manual_seed(0)
    config = MegaDanceConfig(
        hidden_size=request.param,
        num_attention_heads=2,
        state_size=3,
        num_hidden_layers=2,
        intermediate_size=2 * request.param,
        codebook_size=15,
        context_codes=4,
        genre_embedding=True,
        id2label={0: "waltz", 1: "rumba"},
    )
    model = MegaDanceForMotionGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or name.endswith("bias"):
                parameter += 0.1 * torch.randn_like(parameter)
            elif name.endswith("weight"):
                parameter *= 2
    return model


def dance(model, monkeypatch, smallest, genres=(0, 1, 0), steps=7):
    """Logits of each step, and the cache; computed by steps of the kernels when `smallest` is 0."""
    monkeypatch.setattr(kernels, "SMALLEST", smallest)
    generator, genres = torch.Generator().manual_seed(1), torch.tensor(genres)
    batch = len(genres)
    music = torch.randn(batch, 8 * (steps + 9), 35, generator=generator)
    codes = torch.randint(0, 15, (2, batch, steps + 9), generator=generator)
    with torch.no_grad():
        output = model(music[:, :16], *codes[:, :, :2], genres, use_cache=True)
        cache, logits = output.cache, []
        for step in range(2, steps + 2):
            heard = slice(8 * step, 8 * step + 8)
            output = model(music[:, heard], *codes[:, :, step : step + 1], genres, cache=cache)
            logits.append(torch.cat((output.upper_logits, output.lower_logits)))
        # several positions after these: fewer than the convolution looks back, and more
        for first, last in ((steps + 2, steps + 4), (steps + 4, steps + 9)):
            heard = slice(8 * first, 8 * last)
            output = model(music[:, heard], *codes[:, :, first:last], genres, cache=cache)
            logits.append(torch.cat((output.upper_logits, output.lower_logits)))
    return torch.cat(logits, 1), cache


def expect_close(ours, theirs, tolerance):
    ours, theirs = ours.float(), theirs.float()
    torch.testing.assert_close(ours, theirs, atol=tolerance * float(theirs.abs().max()), rtol=0)


def multiply(layer, x, y):
    kernels._multiply(kernels._linear_step(layer), x.numpy(), y.numpy())


def in_bytes(inputs, rows, matrices):
    """Whether inputs of weights of eight bits are rounded to as many."""
    if matrices:
        return rows >= products._MANY_FOR_MATRICES and inputs % 64 == 0
    return products.HAS_BYTES and rows > 2 * products._MOST_ROWS and inputs % (4 * products.LANES) == 0


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "int8"])
def test_steps_and_windows_equal_the_modules(model, monkeypatch, kind, matrices):
    called = []

    def counted(*arguments):
        called.append(kernels.run_steps(*arguments))
        return called[-1]

    monkeypatch.setattr(experts_megadance, "run_steps", counted)
    model = model.quantize("int8") if kind == "int8" else model.to(getattr(torch, kind))
    monkeypatch.setattr(Int8Linear, "_pack", lambda self, rows: None)  # these products round their inputs, too
    logits, cache = dance(model, monkeypatch, smallest=0)
    assert len(called) == 10  # steps, and the prompt and the windows
    expected, expected_cache = dance(model, monkeypatch, smallest=10**9)
    assert len(called) == 10
    # inputs are rounded to sixteen bits; torch rounds to bfloat16 after each operation
    tolerance = {"float32": 1e-5, "int8": 2e-4, "bfloat16": 0.04}[kind]
    # of many rows that fill instructions for bytes, to eight: in windows those of the output layers, with the largest size of others too
    in_eight = 0.015 if kind == "int8" and (matrices or products.HAS_BYTES) else tolerance
    others = in_eight if model.config.hidden_size == 32 else tolerance
    expect_close(logits[:, :7], expected[:, :7], others)
    expect_close(logits, expected, in_eight)
    assert logits.dtype == expected.dtype
    for name in STATES:
        expect_close(getattr(cache, name), getattr(expected_cache, name), others)


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "int8"])
def test_experts_side_by_side(model, monkeypatch, kind, matrices):
    """Where universal and genre experts hear the same, each is a call of its own."""
    model.config.expert_composition = "parallel"
    for layer in model.model.layers:
        layer.parallel = True
    model = model.quantize("int8") if kind == "int8" else model.to(getattr(torch, kind))
    monkeypatch.setattr(Int8Linear, "_pack", lambda self, rows: None)
    logits, _ = dance(model, monkeypatch, smallest=0)
    expected, _ = dance(model, monkeypatch, smallest=10**9)
    eight_bits = 0.015 if matrices or products.HAS_BYTES else 5e-4
    expect_close(logits, expected, {"float32": 1e-5, "int8": eight_bits, "bfloat16": 0.04}[kind])


def test_without_numba_everything_works(model, monkeypatch):
    expected, _ = dance(model, monkeypatch, smallest=0)
    monkeypatch.setattr(kernels, "loops", lambda: None)
    logits, _ = dance(model, monkeypatch, smallest=0)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("inputs", [13, 32, 45, 128, 2048])
@pytest.mark.parametrize("rows", [1, 2, 3, 5, 7, 16, 33, 70])
@pytest.mark.parametrize("outputs", [2, 9, 12, 32, 71])
def test_product(rows, outputs, inputs, matrices):
    """Also where neither rows nor outputs fill the tiles, nor inputs the instructions, and with weights of all types."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(inputs, outputs)
    x = torch.randn(1, rows, inputs)
    x[0, 0] = 0
    with torch.no_grad():
        for linear in (layer, Int8Linear(layer), copy.deepcopy(layer).to(torch.bfloat16)):
            y = torch.full((1, rows, outputs), torch.nan)
            multiply(linear, x, y)
            weight, bias = dense_weight(linear).float(), linear.bias.float()
            expected = torch.nn.functional.linear(x.double(), weight.double(), bias.double()).float()
            # inputs are rounded to sixteen or eight bits where weights have eight, and where instructions multiply bfloat16, to that
            in_bfloat16, largest = matrices or products.HAS_BFLOAT16, float(x.abs().max())
            step = {
                torch.int8: largest / 255 if in_bytes(inputs, rows, matrices) else largest / 65534,
                torch.bfloat16: in_bfloat16 * 2**-9 * largest,
            }
            rounded = step.get(linear.weight.dtype, 0.0) * float(weight.abs().sum(1).max())
            torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5 + 1.01 * rounded)


def test_products_of_bfloat16_are_exact(matrices):
    """But for the rounding of the inputs, where instructions multiply bfloat16."""
    torch.manual_seed(0)
    layer, x = torch.nn.Linear(512, 96).to(torch.bfloat16), torch.randn(1, 40, 512)
    y = torch.empty(1, 40, 96)
    with torch.no_grad():
        multiply(layer, x, y)
        heard = x.bfloat16() if matrices or products.HAS_BFLOAT16 else x
        exact = torch.nn.functional.linear(heard.double(), layer.weight.double(), layer.bias.double())
    torch.testing.assert_close(y, exact.float(), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(("rows", "outputs", "inputs"), [(40, 96, 512), (13, 32, 8192)])
def test_inputs_of_eight_bits(rows, outputs, inputs, matrices):
    """Exact where they need no more: 256 values a row, of which the least is not zero."""
    generator = torch.Generator().manual_seed(0)
    layer = Int8Linear(torch.nn.Linear(inputs, outputs))
    x = torch.randint(0, 256, (1, rows, inputs), generator=generator).float()
    x[..., 0], x[..., -1] = 0, 255
    x = x / 32 - torch.rand(rows, 1, generator=generator).mul(8).round()
    y = torch.empty(1, rows, outputs)
    multiply(layer, x, y)
    exact = torch.nn.functional.linear(x.double(), dense_weight(layer).double(), layer.bias.double())
    torch.testing.assert_close(y, exact.float(), rtol=1e-5, atol=2e-5)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="these are processors of the x86 kind")
@pytest.mark.slow
@pytest.mark.parametrize(("name", "features"), OLDER)
def test_older_processors(name, features, tmp_path):
    """With vectors of eight numbers, and with those of four and no instruction for pairs; with those of sixteen, and none for
    bfloat16; with those of eight, and products of bytes.
    """
    environment = {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features, "NUMBA_CACHE_DIR": str(tmp_path)}
    tests = [f"{__file__}::test_product", f"{__file__}::test_whole_numbers_never_overflow"]
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "206 passed" in done.stdout  # without registers, and no more than that


@pytest.mark.parametrize("inputs", [64, 8192])
@pytest.mark.parametrize(("rows", "outputs"), [(3, 4), (6, 32), (20, 32)])
def test_whole_numbers_never_overflow(rows, outputs, inputs, matrices):
    """The largest weights and inputs there can be, all of one sign."""
    layer = torch.nn.Linear(inputs, outputs, bias=False)
    with torch.no_grad():
        layer.weight.fill_(2.0)
        x, y = torch.full((1, rows, inputs), 1000.0), torch.empty(1, rows, outputs)
        x[..., 0] = 0  # so that the others are far from the least
        multiply(Int8Linear(layer), x, y)
    torch.testing.assert_close(y, torch.full_like(y, 2000.0 * (inputs - 1)), rtol=1e-3, atol=0)


def test_eight_bits_without_the_instruction_for_pairs():
    """What other processors do with them."""
    torch.manual_seed(0)
    layer, x, y = Int8Linear(torch.nn.Linear(40, 6, bias=False)), torch.randn(1, 4, 40), torch.empty(1, 4, 6)
    weight = layer.weight.numpy()
    scales = np.stack((layer.scale.numpy(), layer.scale.numpy()))
    place = np.array([weight.ctypes.data]), np.array([0, 6]), scales, np.zeros(6, np.float32)
    products.multiply(weight[:0, 0], *place, 0, x.numpy(), np.ones((2, 1, 4), np.float32), 2, 0, 6, y.numpy())
    torch.testing.assert_close(y, torch.nn.functional.linear(x, dense_weight(layer)), rtol=1e-5, atol=1e-5)


def test_functions():
    """Over all the values they can meet, against float64."""

    @numba.njit
    def apply(function, x):
        return np.array([function(value) for value in x], np.float32)

    x = np.linspace(-90, 20, 20001).astype(np.float32)
    exact = torch.from_numpy(x).double()
    np.testing.assert_allclose(apply(loops._exp, x), exact.exp(), rtol=4e-6, atol=1e-37)
    np.testing.assert_allclose(apply(loops._silu, x), torch.nn.functional.silu(exact), rtol=4e-6, atol=1e-6)
    np.testing.assert_allclose(apply(loops._softplus, x), torch.nn.functional.softplus(exact), rtol=4e-6, atol=1e-37)
    np.testing.assert_allclose(apply(loops._gelu, x), torch.nn.functional.gelu(exact), rtol=1e-6, atol=1e-6)
