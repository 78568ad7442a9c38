"""A code as one function of tensors: against the modules, compiled, recorded, without waiting, and in how many operations."""

import collections
import contextlib

import pytest
import torch
from helpers import ARRANGEMENTS, tiny_generator
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import CompileConfig

from megadance_hf.cpu_kernels.int8 import Int8Config, Int8Quantizer
from megadance_hf.modeling import static_generation_megadance
from megadance_hf.modeling import static_step_megadance as static
from megadance_hf.modeling.conditions_megadance import Conditions, Passes, genre_weights, pass_weights
from megadance_hf.modeling.generation_megadance import Windows, choose
from megadance_hf.modeling.host_megadance import Faults
from megadance_hf.modeling.static_generation_megadance import CapturedFunction, StaticOptions, StaticSteps

pytestmark = pytest.mark.versions

CONTEXT, SLIDE, CODES, ITEMS = 4, 2, 13, 3
ARRANGEMENTS = {
    **ARRANGEMENTS,
    "no_mamba": {"use_mamba": False, "music_to_codes": True},
    "universal": {"use_genre_experts": False},
    "genres": {"use_universal_experts": False},
}
PLAN = torch.tensor([[0] * 6 + [1] * 7, [1] * 13, [2] * 9 + [1] * 4])
CONDITIONS = {
    "padded groups": {"genre_ids": torch.tensor([2, 0, 2])},
    "equal groups": {"genre_ids": torch.tensor([2, 0, 1])},
    "guidance": {"genre_ids": torch.tensor([1, 1, 1]), "guidance_scale": 1.5},
    "plan": {"genre_ids": PLAN},
    "ramp": {
        "genre_ids": torch.rand(ITEMS, CODES, 3, generator=torch.Generator().manual_seed(0)),
        "genre_guidance_scale": 2.0,
        "negative_genre_ids": torch.tensor([1, 1, 0]),
    },
}
# of a model that does not tell genres apart
ONE_GENRE = {name: CONDITIONS[name] for name in ("padded groups", "guidance")}


def make_model(arrangement="released_2025", **overrides):
    torch.manual_seed(0)
    sizes = {"num_hidden_layers": 2, "context_codes": CONTEXT, "slide_codes": SLIDE}
    return tiny_generator(**sizes, **ARRANGEMENTS[arrangement], **overrides)


def generate(model, **options):
    torch.manual_seed(1)
    music = torch.randn(ITEMS, 8 * CODES, 35)
    wanted = {"output_scores": True, "output_logits": options.get("genre_ids", PLAN).dim() == 1}
    wanted["output_logits"] &= "guidance_scale" not in options
    return model.generate(music, do_sample=True, top_k=9, seed=3, **wanted, **options)


def assert_same_dance(output, expected, tolerance=1e-4):
    for name, value in expected.items():
        if value.is_floating_point():
            torch.testing.assert_close(output[name], value, atol=tolerance, rtol=tolerance)
        else:
            assert torch.equal(output[name], value), name


# --- the same as the modules -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_static_steps_dance_as_the_modules_do(arrangement):
    model, cases = make_model(arrangement), list(ONE_GENRE if arrangement == "universal" else CONDITIONS)
    if arrangement == "released_2025":
        pairs = [(mode, case) for mode in ("paper", "released", "stream") for case in cases]
    else:
        pairs = [("paper", cases[0]), ("stream", cases[-1])]
    for mode, case in pairs:
        expected = generate(model, mode=mode, backend="torch", **CONDITIONS[case])
        assert_same_dance(generate(model, mode=mode, cache_implementation="static", **CONDITIONS[case]), expected)


def test_codes_that_are_known_stay_and_random_numbers_are_those_of_an_item_alone():
    model, known = make_model(), torch.randint(27, (ITEMS, 2, CODES))
    mask = torch.rand(ITEMS, 2, CODES) < 0.4
    mask[:, :, :3] = True
    options = {"genre_ids": torch.tensor([2, 0, 2]), "known_codes": known, "known_mask": mask}
    output = generate(model, cache_implementation="static", **options)
    assert_same_dance(output, generate(model, **options))
    danced = torch.stack((output.upper_codes, output.lower_codes), 1)
    assert torch.equal(danced[mask], known[mask])


def test_weights_of_eight_bits():
    model = make_model("released_2026")
    quantizer = Int8Quantizer(Int8Config(), pre_quantized=False)
    model = quantizer._process_model_after_weight_loading(model)
    options = {"genre_ids": torch.tensor([2, 0, 2])}
    expected = generate(model, backend="torch", **options)
    assert_same_dance(generate(model, cache_implementation="static", **options), expected)


def test_bfloat16():
    model = make_model().to(torch.bfloat16)
    options = {"genre_ids": torch.tensor([2, 0, 2]), "max_new_tokens": 1}
    expected = generate(model, backend="torch", **options)
    output = generate(model, cache_implementation="static", **options)
    scale = float(expected.upper_logits.abs().max())
    assert float((output.upper_logits - expected.upper_logits).abs().max()) < 0.05 * scale


def test_attention_of_another_kind():
    model, options = make_model(), {"genre_ids": torch.tensor([2, 0, 2])}
    expected = generate(model, **options)
    model.set_attn_implementation("eager")
    assert_same_dance(generate(model, cache_implementation="static", **options), expected)


def test_weights_that_were_changed_are_not_stale():
    model, options = make_model(), {"genre_ids": torch.tensor([2, 0, 2])}
    before = generate(model, cache_implementation="static", **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.8)
    after = generate(model, cache_implementation="static", **options)
    assert not torch.equal(after.upper_scores, before.upper_scores)
    assert_same_dance(after, generate(model, **options))


def test_a_cache_goes_from_steps_to_modules_and_back():
    model, genres = make_model(), torch.tensor([2, 0, 2])
    music, codes = torch.randn(ITEMS, CODES, 16), torch.randint(27, (2 * ITEMS, CODES))
    weights = genre_weights(genres, ITEMS, CODES, model.config)
    caches = []
    with torch.no_grad():
        for by_steps in ((), range(1, CODES), (3, 4, 5, 9)):
            windows = Windows(
                model, music, codes, Conditions(pass_weights(weights), 1, model.device), "stream", "torch"
            )
            steps = StaticSteps(windows, StaticOptions(), False)
            for index in range(1, CODES):
                if index in by_steps:
                    assert steps.scores(index) is not None
                else:
                    steps.release()
                    for inputs in windows.inputs(index, index + 1):
                        model(**inputs)
            steps.release()
            caches.append(windows.cache)
    for other in caches[1:]:
        for name in ("conv", "ssm", "keys", "values"):
            torch.testing.assert_close(getattr(other, name), getattr(caches[0], name), atol=1e-5, rtol=1e-4)
        assert other.position == caches[0].position


# --- compiled ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arrangement", ["sequential", "paper"])
def test_steps_and_slides_compile_whole_and_once(arrangement):
    torch._dynamo.reset()
    model, graphs = make_model(arrangement), []

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    options = {"genre_ids": torch.tensor([2, 0, 2]), "guidance_scale": 1.5}
    expected = generate(model, backend="torch", **options)
    compile_config = CompileConfig(fullgraph=True, backend=count, mode=None)
    assert_same_dance(generate(model, compile_config=compile_config, **options), expected)
    assert len(graphs) == 3  # a position, a window, the choice of a code
    longer = {"input_features": torch.randn(ITEMS, 8 * (CODES + 4), 35), "do_sample": True, "top_k": 9, "seed": 3}
    expected = model.generate(**longer, **options)  # needs no other graph
    assert_same_dance(model.generate(**longer, **options, compile_config=compile_config), expected)
    assert len(graphs) == 3


@pytest.mark.parametrize("arrangement", ["released_2025", "released_2026", "paper"])
def test_products_that_are_written_out_as_sums_are_the_same(monkeypatch, arrangement):
    torch._dynamo.reset()
    monkeypatch.setattr(static, "_WRITTEN_OUT_ON", ("cpu",))
    model, music = make_model(arrangement), torch.randn(1, 8 * CODES, 35)
    if arrangement == "released_2026":
        quantizer = Int8Quantizer(Int8Config(), pre_quantized=False)
        model = quantizer._process_model_after_weight_loading(model)
    options = {"genre_ids": torch.tensor([2]), "output_logits": True}
    expected = model.generate(music, backend="torch", **options)
    output = model.generate(music, compile_config=CompileConfig(True, backend="eager", mode=None), **options)
    assert_same_dance(output, expected)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_one_dance_compiled_by_inductor_equals_the_plain_one():
    torch._dynamo.reset()
    model = tiny_generator(context_codes=CONTEXT, slide_codes=SLIDE)
    music = torch.randn(1, 8 * CODES, 35)
    options = {"genre_ids": torch.tensor([2]), "mode": "stream", "output_logits": True}
    expected = model.generate(music, **options)
    output = model.generate(music, compile_config=CompileConfig(fullgraph=True), **options)
    assert_same_dance(output, expected)


# --- nothing waits -----------------------------------------------------------------------------------------------------------------


class NoWaiting(TorchDispatchMode):
    """Fails where a number of a device would be read."""

    WAITS = {"_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal", "masked_select", "unique_dim", "_unique2"}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, func.overloadpacket.__name__
        reads = any(isinstance(one, torch.Tensor) and one.is_meta for one in args)
        assert not (reads and name in self.WAITS), name
        to_host = name in ("_to_copy", "to") and torch.device(kwargs.get("device") or "meta").type == "cpu"
        to_host |= name == "copy_" and not args[0].is_meta
        assert not (reads and to_host), name
        if name == "index" and reads:  # a mask has as many rows as it is true
            assert not any(one is not None and one.dtype == torch.bool for one in args[1]), name
        return func(*args, **kwargs)


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
@pytest.mark.parametrize("by_steps", [True, False])
def test_no_code_waits_for_the_device(monkeypatch, arrangement, by_steps):
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)  # does not know this device
    model = make_model(arrangement).to("meta")
    genres, device = torch.tensor([2, 0, 2]), torch.device("meta")
    music, codes = (
        torch.empty(ITEMS, CODES, 16, device=device),
        torch.empty(2 * ITEMS, CODES, dtype=torch.long, device=device),
    )
    plan = genres if arrangement == "universal" else PLAN
    weights = genre_weights(plan, ITEMS, CODES, model.config)
    conditions = Conditions(pass_weights(weights, 1.5), 1, device)
    generation = model.generation_config
    generation.update(do_sample=True, temperature=0.9, top_k=5, top_p=0.8, min_p=0.01, repetition_penalty=1.1)
    generation._eos_token_tensor = None
    processors = model._get_logits_processor(generation, input_ids_seq_length=1, device=device)
    assert len(processors) == 5
    faults, is_known = Faults(device), torch.empty(codes.shape, dtype=torch.bool, device=device)
    lengths = torch.empty(ITEMS, dtype=torch.long, device=device)
    with torch.no_grad():
        windows = Windows(model, music, codes, conditions, "paper", "torch")
        steps = StaticSteps(windows, StaticOptions(), False) if by_steps else None
        for index in range(1, CODES):
            with contextlib.nullcontext() if index == 1 else NoWaiting():
                scores = model._score_next(windows, index, steps, faults)[0]
                scores = processors(codes[:, :index], scores)
                new = choose(scores, True, None, faults)
                codes[:, index] = torch.where(is_known[:, index], codes[:, index], new)
                ended = (index >= lengths).repeat(2)
                codes[:, index] = torch.where(ended, codes[:, index - 1], codes[:, index])


class NothingFromTheHost(TorchDispatchMode):
    """Fails where a tensor of the host is used: it can't be copied while a CUDA graph is recorded."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        for one in torch.utils._pytree.tree_leaves((args, kwargs)):
            assert not isinstance(one, torch.Tensor) or one.is_meta, func
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_what_is_recorded_takes_nothing_from_the_host(arrangement):
    model, genres = make_model(arrangement).to("meta"), torch.tensor([2, 0, 2])
    weights = genre_weights(genres, ITEMS, CODES, model.config)
    passes = Conditions(pass_weights(weights, 1.5), 1, model.device).passes(1)
    cache = model.make_cache(torch.tensor(passes.genres), "torch")
    rows, layers = static.arrange_rows(cache.routing, model.device), static.stack_weights(model, cache.routing)
    music, codes = torch.empty(ITEMS, CODES, 16), torch.empty(2 * ITEMS, CODES, dtype=torch.long)
    inputs = (codes, music, music[0, 0], music, passes, torch.empty(2, dtype=torch.long))
    inputs = static.Inputs(*(one.to("meta") if isinstance(one, torch.Tensor) else one for one in inputs))
    state = static.read_state(cache, rows)
    with torch.no_grad(), NothingFromTheHost():
        for function in (static.code_scores, static.window_scores):
            scores = function(model, layers, state, rows, inputs, True).scores
            assert scores.shape == (2 * ITEMS, 27)


def test_the_compiled_choice_of_a_code_does_not_wait():
    scores, codes, is_known, lengths, place, number, found = (
        torch.empty(*shape, dtype=dtype, device="meta")
        for shape, dtype in (
            ((2, 27), torch.float32),
            ((2, CODES), torch.long),
            ((2, CODES), torch.bool),
            ((1,), torch.long),
            ((2,), torch.long),
            ((2, 1), torch.float32),
            ((3,), torch.bool),
        )
    )
    with NoWaiting():
        static.choose_code(warpers(), scores, codes, is_known, lengths, place, number, found)


def warpers():
    model = make_model()
    model.generation_config.update(do_sample=True, temperature=0.9, top_k=5)
    found = static.plain_warpers(model._get_logits_processor(model.generation_config, input_ids_seq_length=1))
    assert [type(one).__name__ for one in found] == ["TemperatureLogitsWarper", "TopKLogitsWarper"]
    return found


def test_processors_that_look_at_codes_are_not_compiled():
    model = make_model()
    model.generation_config.update(do_sample=True, top_k=5, repetition_penalty=1.1)
    processors = model._get_logits_processor(model.generation_config, input_ids_seq_length=1)
    assert static.plain_warpers(processors) is None and static.plain_warpers([]) == []
    assert static.plain_warpers([lambda codes, scores: scores]) is None


# --- counts ------------------------------------------------------------------------------------------------------------------------

# Operations and kernels of a code at the paper's number of layers, 6, with small widths, for one dance. They may only fall.
EAGER_OPERATIONS = {"released_2025": 567, "released_2026": 404}
COMPILED_KERNELS = {"released_2025": 112, "released_2026": 97}
CHOICE_KERNELS = {"greedy": 3, "sampled": 7}  # of a compiled choice; drawing a number is one more
# Views and reservations launch nothing.
VIEWS = {
    "view",
    "_unsafe_view",
    "reshape",
    "permute",
    "transpose",
    "t",
    "expand",
    "unsqueeze",
    "squeeze",
    "select",
    "slice",
    "split",
}
VIEWS |= {
    "split_with_sizes",
    "chunk",
    "unbind",
    "alias",
    "detach",
    "as_strided",
    "unfold",
    "lift_fresh",
    "empty",
    "empty_like",
}
VIEWS |= {"new_empty", "empty_strided", "new_empty_strided", "_local_scalar_dense", "movedim"}


class Operations(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = collections.Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))

    def total(self):
        return sum(count for name, count in self.names.items() if name not in VIEWS)


def wide_model(arrangement, layers):
    sizes = {"hidden_size": 64, "intermediate_size": 128, "state_size": 16, "context_codes": 22, "slide_codes": 8}
    torch.manual_seed(0)
    return tiny_generator(num_hidden_layers=layers, **sizes, **ARRANGEMENTS[arrangement])


def of_six_layers(count):
    one, two = count(1), count(2)
    return one + 5 * (two - one)


@pytest.mark.parametrize("arrangement", EAGER_OPERATIONS)
def test_operations_of_a_code(arrangement):
    def count(layers):
        model, totals = wide_model(arrangement, layers), []
        for codes in (4, 5):
            with Operations() as operations:
                model.generate(torch.zeros(1, 8 * codes, 35), torch.tensor([2]), cache_implementation="static")
            totals.append(operations.total())
        return totals[1] - totals[0]

    assert of_six_layers(count) <= EAGER_OPERATIONS[arrangement]


class Counted(Exception):
    pass


def kernels_of(function, *arguments):
    """Launches of a function compiled by inductor: what is left after its scheduler has fused what it can, by the rules that it has for
    GPUs, and calls of libraries. Nothing is run."""
    inductor = pytest.importorskip("torch._inductor.config")
    if not hasattr(inductor, "_post_fusion_custom_pass") or not hasattr(inductor, "cpu_backend"):
        pytest.skip("this torch does not tell what it has fused")
    from torch._inductor.ir import MultiOutput
    from torch._inductor.scheduler import NopKernelSchedulerNode

    counts = []

    def look(nodes):
        launches = (one for one in nodes if not isinstance(one, NopKernelSchedulerNode))
        counts.append(sum(not (one.is_extern() and isinstance(one.node, MultiOutput)) for one in launches))
        raise Counted

    torch._dynamo.reset()
    settings = {"_post_fusion_custom_pass": look, "force_disable_caches": True, "cpu_backend": "triton"}
    with torch.no_grad(), inductor.patch(settings), pytest.raises(Exception, match="Counted"):
        torch.compile(function, fullgraph=True)(*arguments)
    return counts[0]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("arrangement", COMPILED_KERNELS)
def test_kernels_of_a_compiled_code(monkeypatch, arrangement):
    monkeypatch.setattr(static, "_WRITTEN_OUT_ON", ("cpu",))

    def count(layers):
        model, genres = wide_model(arrangement, layers), torch.tensor([2])
        cache = model.make_cache(genres, "torch")
        rows = static.arrange_rows(cache.routing, model.device)
        codes, place = torch.zeros(2, 30, dtype=torch.long), torch.zeros(2, dtype=torch.long)
        music = torch.zeros(1, 30, 64)
        inputs = static.Inputs(codes, music, music[0, 0], None, Passes(0, genres), place)
        state, weights = static.read_state(cache, rows), static.stack_weights(model, cache.routing)
        return kernels_of(static.code_scores, model, weights, state, rows, inputs, False)

    assert of_six_layers(count) <= COMPILED_KERNELS[arrangement]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("way", CHOICE_KERNELS)
def test_kernels_of_a_compiled_choice(way):
    codes = torch.zeros(2, 30, dtype=torch.long)
    number = torch.rand(2, 1) if way == "sampled" else None
    rest = codes == 0, torch.tensor([30]), torch.zeros(2, dtype=torch.long), number, torch.zeros(3, dtype=torch.bool)
    processors = warpers() if way == "sampled" else []
    assert kernels_of(static.choose_code, processors, torch.randn(2, 27), codes, *rest) <= CHOICE_KERNELS[way]


# --- CUDA graphs -------------------------------------------------------------------------------------------------------------------


class Tape(TorchDispatchMode):
    """Stands in for a CUDA graph: what is recorded leaves no trace, and a replay computes it with the same tensors."""

    def __init__(self):
        super().__init__()
        self.calls, self.saved = [], {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        changed = [args[0]] if func._schema.is_mutable else []
        for one in changed:
            self.saved.setdefault(one.data_ptr(), (one, one.clone()))
        result = func(*args, **kwargs)
        if name not in VIEWS - {"empty", "empty_like"}:
            self.calls.append((func, args, kwargs, None if changed else result))
        return result

    def restore(self):
        for tensor, value in self.saved.values():
            tensor.copy_(value)

    def replay(self):
        for func, args, kwargs, result in self.calls:
            new = func(*args, **kwargs)
            pairs = zip(result, new, strict=True) if isinstance(result, tuple | list) else [(result, new)]
            for kept, value in pairs:
                if isinstance(kept, torch.Tensor):
                    kept.copy_(value)


@pytest.fixture
def graphs(monkeypatch):
    """CUDA graphs that are made while `generate` believes to be on a GPU."""
    made = []

    @contextlib.contextmanager
    def record(graph, stream, capture_error_mode):
        made.append(graph)
        with graph:
            yield
        graph.restore()

    class Stream:
        def wait_stream(self, other):
            pass

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Tape)
    monkeypatch.setattr(torch.cuda, "graph", record)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device=None: Stream())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: Stream())
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(static_generation_megadance, "_records", lambda device: True)
    return made


@pytest.mark.parametrize("mode", ["paper", "released", "stream"])
@pytest.mark.parametrize("case", CONDITIONS)
def test_recorded_steps_dance_as_the_modules_do(graphs, case, mode):
    model = make_model("released_2026" if case == "ramp" else "released_2025")
    expected = generate(model, mode=mode, backend="torch", **CONDITIONS[case])
    assert graphs == []
    output = generate(model, mode=mode, **CONDITIONS[case])
    assert_same_dance(output, expected)
    if case not in ("plan", "ramp"):
        assert len(graphs) == {"paper": 2, "released": 2, "stream": 1}[mode]


def test_what_cannot_be_recorded_runs_as_it_is(graphs, monkeypatch, caplog):
    @contextlib.contextmanager
    def fail(graph, stream, capture_error_mode):
        raise RuntimeError("operation not permitted\nwhen stream is capturing")
        yield

    monkeypatch.setattr(torch.cuda, "graph", fail)
    static_generation_megadance.logger.warning_once.cache_clear()
    calls = []
    function = CapturedFunction(lambda x: calls.append(1) or x + 1, torch.device("cpu"))
    assert [int(function(torch.tensor(2))) for _ in range(4)] == [3, 3, 3, 3] and len(calls) == 4
    assert "operation not permitted when stream is capturing" in caplog.text


# --- options -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cache_implementation": "offloaded"}, "cache_implementation='offloaded': give 'static' or 'dynamic'"),
        ({"compile_config": {"mode": "default"}}, "compile_config of type dict: give a transformers.CompileConfig"),
        ({"disable_compile": 1}, "disable_compile=1: give True or False"),
        (
            {"cache_implementation": "static", "use_cache": False},
            "cache_implementation='static' .*: leave use_cache=False out",
        ),
        ({"compile_config": CompileConfig(), "backend": "stacked"}, "compile_config .*: leave backend='stacked' out"),
        (
            {"compile_config": CompileConfig(), "cache_implementation": "dynamic"},
            "compile_config .*: leave cache_implementation='dynamic' out",
        ),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make_model().generate(torch.zeros(1, 40, 35), torch.tensor([0]), **options)


def test_models_that_static_steps_cannot_compute_are_refused():
    model = make_model()
    arguments = {
        "input_features": torch.zeros(1, 40, 35),
        "genre_ids": torch.tensor([0]),
        "cache_implementation": "static",
    }
    with pytest.raises(ValueError, match="can't compute this model: it is in training mode, call model.eval()"):
        model.train().generate(**arguments)
    model.eval()
    with torch.autocast("cpu", dtype=torch.bfloat16), pytest.raises(ValueError, match="autocast is on"):
        model.generate(**arguments)
    peft = pytest.importorskip("peft")
    adapted = peft.get_peft_model(model, peft.LoraConfig(target_modules=["fc1"]))
    with pytest.raises(ValueError, match="it has adapters"):
        adapted.base_model.model.eval().generate(**arguments)


def test_compilation_can_be_switched_off(monkeypatch):
    monkeypatch.setattr(torch, "compile", None)
    model, options = make_model(), {"genre_ids": torch.tensor([2, 0, 2])}
    config = CompileConfig(backend="nothing")
    output = generate(model, compile_config=config, disable_compile=True, **options)
    assert_same_dance(output, generate(model, cache_implementation="dynamic", **options))


def test_compile_options_leave_graphs_to_us():
    modes = {"reduce-overhead": None, "max-autotune": "max-autotune-no-cudagraphs", "default": "default", None: None}
    for mode, expected in modes.items():
        assert static_generation_megadance._compile_options(CompileConfig(mode=mode, fullgraph=True)) == {
            "fullgraph": True,
            "dynamic": None,
            "backend": "inductor",
            "mode": expected,
            "options": None,
        }
