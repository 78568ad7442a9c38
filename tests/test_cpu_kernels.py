"""The backends "cpu" and "stacked", and their products and functions, against the modules that define them."""

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
OLDER_PROCESSORS = [("haswell", "+avx,+avx2,+fma,+f16c"), ("x86-64", "")]
if products.LANES == 16:
    OLDER_PROCESSORS.append(
        ("skylake-avx512", "+avx,+avx2,+fma,+f16c,+avx512f,+avx512bw,+avx512cd,+avx512dq,+avx512vl")
    )
if "avx512vnni" in FEATURES:
    OLDER_PROCESSORS.append(("haswell", "+avx,+avx2,+fma,+f16c,+avx512f,+avx512vl,+avx512vnni"))


HEADS = {
    "joint": {},
    "factorised": {"code_head": "factorised", "levels": [3, 5]},
    "sequential": {"code_head": "factorised", "levels": [3, 5], "level_decoding": "sequential"},
}
MAMBAS = {"experts": {}, "layers": {"mamba_placement": "layers"}, "none": {"use_mamba": False}}


def make_model(size, **switches):
    torch.manual_seed(0)
    config = MegaDanceConfig(
        hidden_size=size,
        num_attention_heads=2,
        state_size=3,
        num_hidden_layers=2,
        intermediate_size=2 * size,
        codebook_size=15,
        context_codes=4,
        genre_embedding=True,
        id2label={0: "waltz", 1: "rumba"},
        **switches,
    )
    model = MegaDanceForMotionGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or name.endswith("bias"):
                parameter += 0.1 * torch.randn_like(parameter)
            elif name.endswith("weight"):
                parameter *= 2
    return model


@pytest.fixture(params=[16, 20, 32])
def model(request):
    """Sizes that are multiples of a vector's length, and that are not."""
    return make_model(request.param)


def of_type(model, dtype):
    if dtype != "int8":
        return model.to(getattr(torch, dtype))
    return Int8Quantizer(Int8Config(), pre_quantized=False)._process_model_after_weight_loading(model)


def run_model(model, backend):
    """Scores [2 * batch, 14, codes] after a prompt of two codes, and the cache."""
    generator, genres = torch.Generator().manual_seed(1), torch.tensor((0, 1, 0))
    music = torch.randn(3, 8 * 16, 35, generator=generator)
    codes = torch.randint(0, 15, (2, 3, 16), generator=generator)
    with torch.no_grad():
        cache, scores, start = model.make_cache(genres, backend), [], 0
        # the prompt, seven single steps, then several positions: fewer than the convolution's history, and more
        for stop in (2, *range(3, 10), 11, 16):
            inputs = music[:, 8 * start : 8 * stop], *codes[:, :, start:stop], genres
            output = model(*inputs, cache=cache, output_code_scores=True)
            scores.append(torch.cat((output.upper_scores, output.lower_scores)))
            start = stop
    return torch.cat(scores[1:], 1), cache


def assert_close(actual, expected, tolerance):
    """Relative to the largest value."""
    actual, expected = actual.float(), expected.float()
    torch.testing.assert_close(actual, expected, atol=tolerance * float(expected.abs().max()), rtol=0)


def dense(layer):
    return layer.dense_weight() if isinstance(layer, Int8Linear) else layer.weight.float()


def multiply(layer, x, y):
    compiled_steps.multiply(compiled_steps._product_arguments(layer), x.numpy(), y.numpy())


def uses_uint8(inputs, rows):
    """Whether activations are quantized to eight bits for int8 weights."""
    return products.HAS_UINT8_DOT and rows > 2 * products._TILE_ROWS and inputs % (4 * products.LANES) == 0


def check_backend(model, dtype, backend, stepper):
    """Scores and states are those of the modules."""
    model = of_type(model, dtype)
    scores, cache = run_model(model, backend)
    assert isinstance(cache.stepper(model), stepper)
    expected, expected_cache = run_model(model, "torch")
    # int8: activations are quantized to sixteen bits; torch rounds to bfloat16 after each operation
    tolerance = {"float32": 1e-5, "int8": 5e-4, "bfloat16": 0.04}[dtype]
    # or to eight bits, for many rows of whole vectors: those of the output layers, and in the largest model all
    uint8_tolerance = 0.015 if dtype == "int8" and products.HAS_UINT8_DOT else tolerance
    tolerance = uint8_tolerance if model.config.hidden_size == 32 else tolerance
    assert_close(scores[:, :7], expected[:, :7], tolerance)
    assert_close(scores, expected, uint8_tolerance)
    assert scores.dtype == expected.dtype
    for name in STATES:
        assert_close(getattr(cache, name), getattr(expected_cache, name), tolerance)


@pytest.mark.parametrize("composition", ["sequential", "parallel"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("size", [16, 20, 32])
def test_cpu_backend_equals_the_modules(monkeypatch, size, dtype, composition):
    monkeypatch.setattr(compiled_steps, "LARGE", 0)  # the output layers, too
    model = make_model(size, expert_composition=composition)
    check_backend(model, dtype, "cpu", compiled_steps.CompiledStepper)


@pytest.mark.parametrize("mode", ["paper", "stream"])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("backend", ["cpu", "stacked"])
def test_mixed_guided_and_known_codes_and_their_scores_equal_those_of_the_modules(backend, head, mode):
    """Passes are rows of a batch, whose number changes with the plan."""
    model = make_model(16, **HEADS[head])
    generator, steps = torch.Generator().manual_seed(1), 12
    plan = torch.zeros(2, steps, 2)
    plan[0, :4, 0], plan[0, 4:8], plan[0, 8:, 1], plan[1, :, 1] = 1, 0.5, 1, 1
    inputs = {"input_features": torch.randn(2, 8 * steps, 35, generator=generator), "genre_ids": plan, "mode": mode}
    known = torch.randint(15, (2, 2, steps), generator=generator)
    mask = torch.rand(known.shape, generator=generator) < 0.7
    options = {
        "known_codes": known,
        "known_mask": mask,
        "guidance_scale": 1.5,
        "do_sample": False,
        "output_scores": True,
    }
    dance, expected = (model.generate(**inputs, **options, backend=one) for one in (backend, "torch"))
    assert torch.equal(dance.upper_codes, expected.upper_codes) and torch.equal(dance.lower_codes, expected.lower_codes)
    assert_close(dance.upper_scores, expected.upper_scores, 1e-5)
    codes = known.unbind(1)
    assert_close(
        *(model.score(**inputs, upper_codes=codes[0], lower_codes=codes[1], backend=b) for b in (backend, "torch")),
        1e-5,
    )


@pytest.mark.parametrize("composition", ["sequential", "parallel"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("size", [16, 20])
def test_stacked_backend_equals_the_modules(size, dtype, composition):
    check_backend(make_model(size, expert_composition=composition), dtype, "stacked", StackedStepper)


@pytest.mark.parametrize("norm_per_stream", [False, True])
@pytest.mark.parametrize("mambas", MAMBAS)
@pytest.mark.parametrize("head", HEADS)
def test_every_arrangement(monkeypatch, head, mambas, norm_per_stream):
    monkeypatch.setattr(compiled_steps, "LARGE", 0)
    switches = {**HEADS[head], **MAMBAS[mambas], "norm_per_stream": norm_per_stream}
    for dtype in ("float32", "bfloat16", "int8"):
        check_backend(make_model(20, **switches), dtype, "cpu", compiled_steps.CompiledStepper)
    for dtype in ("float32", "bfloat16"):
        check_backend(make_model(20, **switches), dtype, "stacked", StackedStepper)


@pytest.mark.parametrize(
    "switch", [{"expert_composition": "parallel"}, {"use_universal_experts": False}, {"use_genre_experts": False}]
)
@pytest.mark.parametrize(("backend", "stepper"), [("cpu", compiled_steps.CompiledStepper), ("stacked", StackedStepper)])
def test_experts_after_a_layers_mambas(backend, stepper, switch):
    model = make_model(20, mamba_placement="layers", norm_per_stream=True, **switch)
    check_backend(model, "float32", backend, stepper)


def test_without_numba_the_modules_compute(model, monkeypatch):
    monkeypatch.setattr(compiled_steps, "loops", lambda: None)
    assert model.make_cache(torch.tensor([0])).stepper(model) is not None, "small: stacked"
    with pytest.raises(ValueError, match="backend='cpu' cannot compute this model as torch.float32 on cpu"):
        run_model(model, "cpu")


def test_what_cannot_be_computed_is_refused(model):
    with pytest.raises(ValueError, match="backend='cpu' cannot compute this model as torch.float64"):
        run_model(copy.deepcopy(model).double(), "cpu")
    model = of_type(model, "int8")
    with pytest.raises(ValueError, match="backend='stacked' cannot compute this model"):
        run_model(model, "stacked")
    assert model.make_cache(torch.tensor([0])).stepper(model) is None


class Adapted(torch.nn.Linear):
    """A layer that computes more than its weight says, as those of LoRA do."""


def test_layers_that_are_no_plain_ones_are_left_to_the_modules(monkeypatch):
    monkeypatch.setattr(compiled_steps, "LARGE", 0)
    model, genres = make_model(16), torch.tensor([0])
    model.output_mlp.fc2.__class__ = Adapted
    assert model.make_cache(genres, "cpu").stepper(model).head is model.output_mlp
    projection = model.model.layers[1].genre_experts["genre_waltz"].mambas["lower"].in_proj
    projection.__class__ = Adapted
    assert model.make_cache(genres).stepper(model) is None
    projection.__class__ = torch.nn.Linear
    assert model.make_cache(genres).stepper(model) is not None
    projection.weight = torch.nn.Parameter(projection.weight.to("meta"))  # offloaded
    for backend in ("cpu", "stacked"):
        with pytest.raises(ValueError, match="cannot compute this model"):
            model.make_cache(genres, backend).stepper(model)


# Rows: one, full tiles and others, few and many. Outputs: multiples of four and others, one thread's and several'.
# Inputs: fewer than a vector, whole vectors, with a rest, more than `_L1_BUDGET`.
PRODUCTS = [  # rows, outputs, inputs
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
    """With float32, int8 and bfloat16 weights."""
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
            largest = float(x.abs().max())
            error = {  # of a quantized or rounded activation
                torch.int8: largest / 255 if uses_uint8(inputs, rows) else largest / 65534,
                torch.bfloat16: products.HAS_BFLOAT16_DOT * 2**-9 * largest,
            }
            bound = error.get(linear.weight.dtype, 0.0) * float(weight.abs().sum(1).max())
            torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5 + 1.01 * bound)


def test_bfloat16_products_are_exact():
    """But for the rounding of the activations, where there are dot products of bfloat16."""
    torch.manual_seed(0)
    layer, x = torch.nn.Linear(512, 96).to(torch.bfloat16), torch.randn(1, 40, 512)
    y = torch.empty(1, 40, 96)
    with torch.no_grad():
        multiply(layer, x, y)
        inputs = x.bfloat16() if products.HAS_BFLOAT16_DOT else x
        exact = torch.nn.functional.linear(inputs.double(), layer.weight.double(), layer.bias.double())
    torch.testing.assert_close(y, exact.float(), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(("rows", "outputs", "inputs"), [(40, 96, 512), (13, 32, 8192)])
def test_uint8_activations(rows, outputs, inputs):
    """Exact for activations of 256 equidistant values per row, whose zero points are not zero."""
    generator = torch.Generator().manual_seed(0)
    layer = Int8Linear(torch.nn.Linear(inputs, outputs))
    x = torch.randint(0, 256, (1, rows, inputs), generator=generator).float()
    x[..., 0], x[..., -1] = 0, 255
    x = x / 32 - torch.rand(rows, 1, generator=generator).mul(8).round()
    y = torch.empty(1, rows, outputs)
    multiply(layer, x, y)
    exact = torch.nn.functional.linear(x.double(), dense(layer).double(), layer.bias.double())
    torch.testing.assert_close(y, exact.float(), rtol=1e-5, atol=2e-5)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="x86 processors")
@pytest.mark.slow
@pytest.mark.parametrize(("name", "features"), OLDER_PROCESSORS)
def test_older_processors(name, features, tmp_path):
    """AVX2; SSE2, without dot products; AVX-512 without VNNI and bfloat16; vectors of AVX2 with VNNI."""
    environment = {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features, "NUMBA_CACHE_DIR": str(tmp_path)}
    tests = [f"{__file__}::test_product", f"{__file__}::test_accumulators_do_not_overflow"]
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    assert f"{len(PRODUCTS) + 6} passed" in done.stdout


@pytest.mark.parametrize("inputs", [64, 8192])
@pytest.mark.parametrize(("rows", "outputs"), [(3, 4), (6, 32), (20, 32)])
def test_accumulators_do_not_overflow(rows, outputs, inputs):
    """int8 weights with the largest weights and activations, all of one sign."""
    layer = torch.nn.Linear(inputs, outputs, bias=False)
    with torch.no_grad():
        layer.weight.fill_(2.0)
        x, y = torch.full((1, rows, inputs), 1000.0), torch.empty(1, rows, outputs)
        x[..., 0] = 0  # the zero point, so that the others become 255
        multiply(Int8Linear(layer), x, y)
    torch.testing.assert_close(y, torch.full_like(y, 2000.0 * (inputs - 1)), rtol=1e-3, atol=0)


def test_int8_weights_without_dot_products():
    """As on ARM: weights are converted to float32."""
    torch.manual_seed(0)
    layer, x, y = Int8Linear(torch.nn.Linear(40, 6, bias=False)), torch.randn(1, 4, 40), torch.empty(1, 4, 6)
    weight = layer.weight.numpy()
    scales = np.stack((layer.scale.numpy(), layer.scale.numpy()))
    arguments = weight[:0, 0], np.array([weight.ctypes.data]), np.array([0, 6]), scales, np.zeros(6, np.float32), 0
    products.multiply_quantized(*arguments, x.numpy(), np.ones((2, 1, 4), np.float32), 2, 0, 6, y.numpy())
    torch.testing.assert_close(y, torch.nn.functional.linear(x, dense(layer)), rtol=1e-5, atol=1e-5)


def test_functions():
    """Against float64, over the range of their arguments."""

    @numba.njit
    def apply(function, x):
        return np.array([function(value) for value in x], np.float32)

    x = np.linspace(-90, 20, 20001).astype(np.float32)
    exact = torch.from_numpy(x).double()
    np.testing.assert_allclose(apply(loops._exp, x), exact.exp(), rtol=4e-6, atol=1e-37)
    np.testing.assert_allclose(apply(loops._silu, x), torch.nn.functional.silu(exact), rtol=4e-6, atol=1e-6)
    np.testing.assert_allclose(apply(loops._softplus, x), torch.nn.functional.softplus(exact), rtol=4e-6, atol=1e-37)
    np.testing.assert_allclose(apply(loops._gelu, x), torch.nn.functional.gelu(exact), rtol=1e-6, atol=1e-6)
