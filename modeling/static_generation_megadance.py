"""How static steps are run (`static_step_megadance.py`): for which windows, compiled, and recorded as CUDA graphs."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers.generation.configuration_utils import CompileConfig, GenerationConfig
from transformers.utils import logging

from .cache_megadance import MegaDanceCache
from .conditions_megadance import Passes
from .devices_megadance import is_spread
from .host_megadance import Faults
from .static_step_megadance import (
    Inputs,
    Scores,
    State,
    arrange_rows,
    choose_code,
    code_scores,
    read_state,
    stack_weights,
    window_scores,
    write_state,
)

if TYPE_CHECKING:
    from .modeling_megadance import MegaDanceForMotionGeneration

logger = logging.get_logger(__name__)


class StaticOptions(NamedTuple):
    """How `generate` runs static steps.

    Attributes:
        compile: arguments of `torch.compile`; None: as they are.
        capture: record CUDA graphs.
    """

    compile: dict[str, Any] | None = None
    capture: bool = False


_compiled_functions: dict[tuple, Callable] = {}


def compiled(function: Callable, options: dict[str, Any]) -> Callable:
    """`torch.compile(function, **options)`, the same for the same options, so that a second dance need not compile again."""
    key = (function, repr(sorted(options.items(), key=lambda item: item[0])))
    if key not in _compiled_functions:
        _compiled_functions[key] = torch.compile(function, **options)
    return _compiled_functions[key]


def _let_vary(of_song: Tensor | None) -> None:
    """Tell the compiler that [batch, codes, ...] is as long as a song: the next one needs no other kernels."""
    mark = getattr(torch._dynamo, "maybe_mark_dynamic", None)
    if of_song is not None and mark is not None:
        mark(of_song, 1)


class CapturedFunction:
    """A function of tensors that is recorded as a CUDA graph when it is called for the second time; the first call warms up.

    Every call has to come with the tensors of the first, whose contents may change, and gives the same tensors, overwritten. Where it
    can't be recorded it runs as it is, and a line in the log says why.
    """

    def __init__(self, function: Callable, device: torch.device):
        self.function, self.device = function, device
        self._graph: Any = None
        self._result: Any = None
        self._calls = 0

    def __call__(self, *arguments: Any) -> Any:
        self._calls += 1
        if self._calls == 1:
            return self._warm_up(*arguments)
        if self._calls == 2:
            self._capture(*arguments)
        if self._graph is None:
            return self.function(*arguments)
        self._graph.replay()
        return self._result

    def _warm_up(self, *arguments: Any) -> Any:
        # what compiles, tries kernels or loads libraries must not do so while recording
        current, self._side = torch.cuda.current_stream(self.device), torch.cuda.Stream(self.device)
        self._side.wait_stream(current)
        with torch.cuda.stream(self._side):
            result = self.function(*arguments)
        current.wait_stream(self._side)
        return result

    def _capture(self, *arguments: Any) -> None:
        graph = torch.cuda.CUDAGraph()
        try:
            # other threads may go on: a server has several
            with torch.cuda.graph(graph, stream=self._side, capture_error_mode="thread_local"):
                self._result = self.function(*arguments)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            logger.warning_once(
                f"the steps of this model can't be recorded as a CUDA graph, they run one by one ({reason})"
            )
        else:
            self._graph = graph


def static_fault(model: "MegaDanceForMotionGeneration") -> str | None:
    """Why static steps can't compute this model; None where they can."""
    if model.training:
        return "it is in training mode, call model.eval()"
    if torch.is_autocast_enabled(model.device.type):
        return "autocast is on, use from_pretrained(dtype=torch.bfloat16)"
    if is_spread(model) or len({weight.device for weight in model.parameters()}) > 1:
        return "its weights are on several devices"
    linear = [module for module in model.base_model.layers.modules() if hasattr(module, "out_features")]
    if any(type(layer) is not nn.Linear and not hasattr(layer, "dense_weight") for layer in linear):
        return "it has adapters, or weights that are quantized by another package: merge adapters, or use quantization='int8'"
    if any(type(layer.weight.data) is not Tensor for layer in linear) or any(w.is_meta for w in model.parameters()):
        return "its weights are offloaded or distributed"
    return None


def _records(device: torch.device) -> bool:
    """Whether steps can be recorded there, which is what a launch and a line of Python then cost."""
    return device.type == "cuda"


def static_options(
    model: "MegaDanceForMotionGeneration", generation_config: GenerationConfig, backend: str
) -> StaticOptions | None:
    """How static steps compute a dance; None: they do not. They do where `cache_implementation="static"` or a `compile_config` asks for
    them, and on a GPU where nothing else is asked for.

    Raises:
        ValueError: they are asked for together with something else, or can't compute this model.
    """
    kept, compile_config = generation_config.cache_implementation, generation_config.compile_config
    on_gpu, is_asked = _records(model.device), kept == "static" or compile_config is not None
    what = "cache_implementation='static'" if compile_config is None else "compile_config"
    others = {
        "use_cache=False": not generation_config.use_cache,
        f"backend={backend!r}": backend != "auto",
        "cache_implementation='dynamic'": kept == "dynamic",
    }
    other = next((name for name, is_given in others.items() if is_given), None)
    if other is not None or not (is_asked or on_gpu):
        if is_asked:
            raise ValueError(f"{what} is a way to compute with a static cache: leave {other} out")
        return None
    fault = static_fault(model)
    if fault is not None:
        if is_asked:
            raise ValueError(f"{what} can't compute this model: {fault}")
        logger.warning_once(f"The steps of this model are not recorded as a CUDA graph: {fault}.")
        return None
    if generation_config.disable_compile:
        return StaticOptions()
    if compile_config is None and not (on_gpu and kept == "static"):
        return StaticOptions(capture=on_gpu)
    return StaticOptions(_compile_options(compile_config or CompileConfig()), on_gpu)


def _compile_options(config: CompileConfig) -> dict[str, Any]:
    """The arguments of `torch.compile`. Graphs are recorded here: of the modes that record their own, those that do not."""
    options = config.to_dict()
    without_graphs = {"reduce-overhead": None, "max-autotune": "max-autotune-no-cudagraphs"}
    options["mode"] = without_graphs.get(options["mode"], options["mode"])
    return options


class StaticSteps:
    """Scores of the codes of a batch, one after the other, by static steps wherever a window allows.

    Args:
        windows: of the batch, with its cache.
        options: how they are run.
        with_logits: give the head's logits, too.
    """

    def __init__(self, windows: Any, options: StaticOptions, with_logits: bool):
        self.windows, self.options, self.with_logits = windows, options, with_logits
        model = windows.model
        self._place = torch.zeros(2, dtype=torch.long, device=model.device)
        self._cache: MegaDanceCache | None = None
        self._in_state = False  # or in the cache
        self._inputs: Inputs | None = None
        self._passes: Passes | None = None

    def scores(self, index: int) -> Scores | None:
        """Of code `index`; None where the modules have to read a window of this length."""
        windows, context = self.windows, self.windows.model.config.context_codes
        first, self._last = windows.open(index), index - 1
        cache = windows.cache
        count, is_new = index - first, cache.position == 0
        if count != 1 and not (is_new and count == context):
            self.release()
            return None
        if cache is not self._cache:
            self.release()
            self._prepare(cache)
        if not self._in_state:
            self._fill(cache)
        elif is_new and count == 1:  # the cache was emptied
            self._empty()
        self._set_passes(windows.conditions.passes(index))
        self._place[0].fill_(first)  # moved on to the last position once they are read
        self._place[1].fill_(cache.position)
        step = self._step if count == 1 else self._slide
        found = step(windows.model, self._layers, self._state, self._rows, self._inputs, self.with_logits)
        cache.position += count
        if count > 1:
            self._place[0].fill_(index - 1)
        if self.options.capture:  # the next replay overwrites them
            logits = None if found.logits is None else found.logits.clone()
            found = Scores(found.scores.clone(), found.states.clone(), logits)
        return found

    def choose(
        self,
        scores: Tensor,
        warpers: list[Callable],
        is_known: Tensor,
        lengths: Tensor,
        number: Tensor | None,
        faults: Faults,
    ) -> Tensor:
        """Write the next code by its scores, and give what the warpers make of them; as `choose_code`."""
        assert self.options.compile is not None
        # with many settings in one process the compiler gives up, and it runs as it is
        choose = compiled(choose_code, {**self.options.compile, "fullgraph": False})
        _let_vary(is_known)
        place = self._place if self._in_state else self._place.new_tensor((self._last, 0))
        scores = choose(warpers, scores, self.windows.codes, is_known, lengths, place, number, faults.found)
        faults.check(at_end=faults.at_once)
        return scores

    def release(self) -> None:
        """Give the cache what the steps have made of it: from here on others read it."""
        if self._in_state:
            assert self._state is not None and self._cache is not None
            write_state(self._state, self._cache, self._rows)
        self._in_state = False

    def _prepare(self, cache: MegaDanceCache) -> None:
        model = self.windows.model
        self._cache, self._in_state, self._passes = cache, False, None
        self._rows = arrange_rows(cache.routing, model.device)
        self._layers = stack_weights(model, cache.routing)
        self._state: State | None = None

    def _runner(self, function: Callable) -> Callable:
        if self.options.compile is not None:
            function = compiled(function, self.options.compile)
        return CapturedFunction(function, self.windows.model.device) if self.options.capture else function

    def _fill(self, cache: MegaDanceCache) -> None:
        found = read_state(cache, self._rows)
        if self._state is None:
            self._state = found
        else:  # the tensors stay, a graph holds them
            for kept, new in zip(_tensors(self._state), _tensors(found), strict=True):
                kept.copy_(new)
        self._in_state = True

    def _empty(self) -> None:
        assert self._state is not None
        for mambas in self._state.mambas:
            for mamba in mambas:
                for kept in (*mamba.history, mamba.ssm):
                    kept.zero_()
        self._state.mask.fill_(-torch.inf)

    def _set_passes(self, passes: Passes) -> None:
        windows, before = self.windows, self._passes
        if before is passes:
            return
        self._passes = passes
        if before is not None and before.batch == passes.batch and (before.rows is None) == (passes.rows is None):
            if passes.weights is not None and self._inputs is not None and self._inputs.passes.weights is not None:
                self._inputs.passes.weights.copy_(passes.weights)  # all that changes within a batch of passes
            return
        weights = None if passes.weights is None else passes.weights.clone()
        own = passes._replace(batch=0, genres=(), weights=weights)
        if self.options.compile is not None:
            for of_song in (windows.codes, windows.music, windows.asked):
                _let_vary(of_song)
        self._inputs = Inputs(windows.codes, windows.music, windows.no_music, windows.asked, own, self._place)
        self._step, self._slide = (self._runner(function) for function in (code_scores, window_scores))


def _tensors(state: State) -> list[Tensor]:
    mambas = [one for layer in state.mambas for mamba in layer for one in (*mamba.history, mamba.ssm)]
    return [*mambas, *(ring for layer in state.rings for rings in layer for ring in rings), state.mask]
