"""Compiled loops, stacked steps and eight-bit products against the modules that define them."""

import copy
import os
import platform
import subprocess
import sys

import numba
import numpy as np
import pytest
import torch

from megadance_hf.cpu_kernels import compiled_steps, loops, products
from megadance_hf.cpu_kernels.compiled import FEATURES
from megadance_hf.cpu_kernels.int8 import Int8Config, Int8Linear, Int8Quantizer
from megadance_hf.cpu_kernels.stacked_steps import StackedStepper
from megadance_hf.modeling.configuration_megadance import MegaDanceConfig
from megadance_hf.modeling.modeling_megadance import MegaDanceForMotionGeneration

STATES = ("conv", "ssm", "keys", "values")
OLDER = [("haswell", "+avx,+avx2,+fma,+f16c"), ("x86-64", "")]
if products.LANES == 16:
    OLDER.append(("skylake-avx512", "+avx,+avx2,+fma,+f16c,+avx512f,+avx512bw,+avx512cd,+avx512dq,+avx512vl"))
if "avx512vnni" in FEATURES:
    OLDER.append(("haswell", "+avx,+avx2,+fma,+f16c,+avx512f,+avx512vl,+avx512vnni"))


@pytest.fixture(params=[16, 20, 32])
def model(request):
    """Sizes that fill vectors, and that do not."""
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


def of_type(model, kind):
    if kind != "int8":
        return model.to(getattr(torch, kind))
    return Int8Quantizer(Int8Config(), pre_quantized=False)._process_model_after_weight_loading(model)


def dance(model, backend, genres=(0, 1, 0), steps=7):
    """Logits of each step, and the cache."""
    generator, genres = torch.Generator().manual_seed(1), torch.tensor(genres)
    batch = len(genres)
    music = torch.randn(batch, 8 * (steps + 9), 35, generator=generator)
    codes = torch.randint(0, 15, (2, batch, steps + 9), generator=generator)
    # a prompt, single steps, then several positions: fewer than the convolution looks back, and more
    lasts = [2, *range(3, steps + 3), steps + 4, steps + 9]
    with torch.no_grad():
        cache, logits, first = model.make_cache(genres, backend), [], 0
        for last in lasts:
            output = model(music[:, 8 * first : 8 * last], *codes[:, :, first:last], genres, cache=cache)
            logits.append(torch.cat((output.upper_logits, output.lower_logits)))
            first = last
    return torch.cat(logits[1:], 1), cache


def expect_close(ours, theirs, tolerance):
    ours, theirs = ours.float(), theirs.float()
    torch.testing.assert_close(ours, theirs, atol=tolerance * float(theirs.abs().max()), rtol=0)


def dense(layer):
    return layer.dense_weight() if isinstance(layer, Int8Linear) else layer.weight.float()


def multiply(layer, x, y):
    compiled_steps.multiply(compiled_steps._linear_arguments(layer), x.numpy(), y.numpy())


def in_bytes(inputs, rows):
    """Whether inputs of weights of eight bits are rounded to as many."""
    return products.HAS_BYTES and rows > 2 * products._MOST_ROWS and inputs % (4 * products.LANES) == 0


@pytest.mark.parametrize("composition", ["sequential", "parallel"])
@pytest.mark.parametrize("kind", ["float32", "bfloat16", "int8"])
def test_steps_and_windows_equal_the_modules(model, monkeypatch, kind, composition):
    monkeypatch.setattr(compiled_steps, "LARGE", 0)  # the output layers, too
    for layer in model.model.layers:
        layer.parallel = composition == "parallel"
    model = of_type(model, kind)
    logits, cache = dance(model, "cpu")
    assert isinstance(cache.stepper(model), compiled_steps.CompiledStepper)
    expected, expected_cache = dance(model, "torch")
    # inputs are rounded to sixteen bits; torch rounds to bfloat16 after each operation
    tolerance = {"float32": 1e-5, "int8": 5e-4, "bfloat16": 0.04}[kind]
    # of many rows that fill instructions for bytes, to eight: in windows those of the output layers, with the largest size of others too
    in_eight = 0.015 if kind == "int8" and products.HAS_BYTES else tolerance
    others = in_eight if model.config.hidden_size == 32 else tolerance
    expect_close(logits[:, :7], expected[:, :7], others)
    expect_close(logits, expected, in_eight)
    assert logits.dtype == expected.dtype
    for name in STATES:
        expect_close(getattr(cache, name), getattr(expected_cache, name), others)


@pytest.mark.parametrize("composition", ["sequential", "parallel"])
@pytest.mark.parametrize("use_mamba", [True, False])
@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_stacked_steps_equal_the_modules(model, kind, use_mamba, composition):
    for layer in model.model.layers:
        layer.parallel = composition == "parallel"
        for expert in (layer.universal_expert, *layer.genre_experts.values()):
            expert.use_mamba = use_mamba
    model = of_type(model, kind)
    (logits, cache), (expected, expected_cache) = dance(model, "stacked"), dance(model, "torch")
    assert isinstance(cache.stepper(model), StackedStepper)
    tolerance = {"float32": 1e-5, "bfloat16": 0.04}[kind]
    expect_close(logits, expected, tolerance)
    for name in STATES:
        expect_close(getattr(cache, name), getattr(expected_cache, name), tolerance)


def test_without_numba_the_modules_compute(model, monkeypatch):
    monkeypatch.setattr(compiled_steps, "loops", lambda: None)
    assert model.make_cache(torch.tensor([0])).stepper(model) is not None, "small: stacked"
    with pytest.raises(ValueError, match="backend='cpu' cannot compute this model as torch.float32 on cpu"):
        dance(model, "cpu")


def test_what_cannot_be_computed_is_refused(model):
    with pytest.raises(ValueError, match="backend='cpu' cannot compute this model as torch.float64"):
        dance(copy.deepcopy(model).double(), "cpu")
    model = of_type(model, "int8")
    with pytest.raises(ValueError, match="backend='stacked' cannot compute this model"):
        dance(model, "stacked")
    assert model.make_cache(torch.tensor([0])).stepper(model) is None


# rows, outputs, inputs: one row, tiles of rows that are filled or not, few rows and many; outputs that fill tiles of four or not, one thread's
# share or more; inputs shorter than a vector, with a rest, whole vectors, more than stay in the first level of the cache
PRODUCTS = [
    (1, 2, 13),
    (1, 71, 2048),
    (2, 9, 45),
    (3, 12, 32),
    (5, 32, 128),
    (7, 71, 45),
    (16, 9, 128),
    (16, 12, 32),
    (33, 32, 13),
    (70, 71, 2048),
]


@pytest.mark.parametrize(("rows", "outputs", "inputs"), PRODUCTS)
def test_product(rows, outputs, inputs):
    """With weights of all types."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(inputs, outputs)
    x = torch.randn(1, rows, inputs)
    x[0, 0] = 0
    with torch.no_grad():
        for linear in (layer, Int8Linear(layer), copy.deepcopy(layer).to(torch.bfloat16)):
            y = torch.full((1, rows, outputs), torch.nan)
            multiply(linear, x, y)
            weight, bias = dense(linear), linear.bias.float()
            expected = torch.nn.functional.linear(x.double(), weight.double(), bias.double()).float()
            # inputs are rounded to sixteen or eight bits where weights have eight, and where instructions multiply bfloat16, to that
            largest = float(x.abs().max())
            step = {
                torch.int8: largest / 255 if in_bytes(inputs, rows) else largest / 65534,
                torch.bfloat16: products.HAS_BFLOAT16 * 2**-9 * largest,
            }
            rounded = step.get(linear.weight.dtype, 0.0) * float(weight.abs().sum(1).max())
            torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5 + 1.01 * rounded)


def test_products_of_bfloat16_are_exact():
    """But for the rounding of the inputs, where instructions multiply bfloat16."""
    torch.manual_seed(0)
    layer, x = torch.nn.Linear(512, 96).to(torch.bfloat16), torch.randn(1, 40, 512)
    y = torch.empty(1, 40, 96)
    with torch.no_grad():
        multiply(layer, x, y)
        inputs = x.bfloat16() if products.HAS_BFLOAT16 else x
        exact = torch.nn.functional.linear(inputs.double(), layer.weight.double(), layer.bias.double())
    torch.testing.assert_close(y, exact.float(), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(("rows", "outputs", "inputs"), [(40, 96, 512), (13, 32, 8192)])
def test_inputs_of_eight_bits(rows, outputs, inputs):
    """Exact where they need no more: 256 values a row, of which the least is not zero."""
    generator = torch.Generator().manual_seed(0)
    layer = Int8Linear(torch.nn.Linear(inputs, outputs))
    x = torch.randint(0, 256, (1, rows, inputs), generator=generator).float()
    x[..., 0], x[..., -1] = 0, 255
    x = x / 32 - torch.rand(rows, 1, generator=generator).mul(8).round()
    y = torch.empty(1, rows, outputs)
    multiply(layer, x, y)
    exact = torch.nn.functional.linear(x.double(), dense(layer).double(), layer.bias.double())
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
    assert "16 passed" in done.stdout


@pytest.mark.parametrize("inputs", [64, 8192])
@pytest.mark.parametrize(("rows", "outputs"), [(3, 4), (6, 32), (20, 32)])
def test_whole_numbers_never_overflow(rows, outputs, inputs):
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
    torch.testing.assert_close(y, torch.nn.functional.linear(x, dense(layer)), rtol=1e-5, atol=1e-5)


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
