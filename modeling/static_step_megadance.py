"""A code as one function of tensors, with shapes that never change: for CUDA graphs and `torch.compile`.

`MegaDanceLayer.forward` is the definition, and the tests compare. Here the position is a tensor on the device, rings and mask have
their full size, and nothing is read back, so that a recorded function is right at every position. Two functions are enough: `code_scores`
reads one position, `window_scores` a whole window that begins anew (the slide). Both write the cache exactly as the modules do; windows
of other lengths, as at the beginning of a dance, are read by the modules.

Weights are stacked once for each cache: the Mambas of the streams side by side, queries, keys and values joined, and the experts of all
genres of a batch as groups of equally many rows. A compiler gets the products of a few rows written out as sums: they only wait for their
weights, and what comes before and after becomes part of the same kernel.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .attention_megadance import eager_attention
from .cache_megadance import STREAMS, MegaDanceCache
from .conditions_megadance import Passes
from .configuration_megadance import MegaDanceConfig
from .experts_megadance import Expert, StreamNorms
from .host_megadance import NO_CODE_LEFT
from .kernels_megadance import step_by_kernel
from .mamba_megadance import causal_convolution
from .routing_megadance import Routing
from .scan_megadance import selective_scan

if TYPE_CHECKING:
    from .modeling_megadance import MegaDanceForMotionGeneration

# Rows with which a compiler still gets a product as sums: each of them reads the weights again.
_FEW_ROWS = 3

# It pays where a launch is what costs: on a CPU the libraries' products are twice as fast.
_WRITTEN_OUT_ON = ("cuda", "xpu", "meta")


def _is_written_out(device: torch.device, rows: int) -> bool:
    """Whether a compiler gets products of so many rows as sums."""
    return torch.compiler.is_compiling() and rows <= _FEW_ROWS and device.type in _WRITTEN_OUT_ON


# --- products ---------------------------------------------------------------------------------------------------------------------


class Product(NamedTuple):
    """Linear layers side by side; int8 weights with a scale of each output.

    Attributes:
        weight: [layers, outputs, inputs]. bias, scale: [layers, 1, outputs], or None.
    """

    weight: Tensor
    bias: Tensor | None = None
    scale: Tensor | None = None

    def apply(self, x: Tensor, *norms: "Norm") -> Tensor:
        """[layers, rows, inputs] -> [layers, rows, outputs], in the type of `x`; of what `norms`, one after the other, make of `x`."""
        if _is_written_out(x.device, x.shape[1]):
            return self._as_sums(x, norms)
        for norm in norms:
            x = norm.apply(x)
        weight = self.weight.to(x.dtype).mT
        if self.scale is None:
            return torch.bmm(x, weight) if self.bias is None else torch.baddbmm(self.bias.to(x.dtype), x, weight)
        y = torch.bmm(x, weight) * self.scale.to(x.dtype)
        return y if self.bias is None else y + self.bias.to(x.dtype)

    def parts(self, count: int) -> "list[Product]":
        """The outputs cut into so many."""
        rest = ([None] * count if one is None else one.chunk(count, -1) for one in (self.bias, self.scale))
        return [Product(*part) for part in zip(self.weight.chunk(count, 1), *rest, strict=True)]

    def _as_sums(self, x: Tensor, norms: "Sequence[Norm]") -> Tensor:
        # each output normalises its inputs anew, so that norms need no kernels of their own
        rows = x.float().unsqueeze(-2).expand(*x.shape[:-1], *self.weight.shape[-2:])
        for norm in norms:
            centred = rows - rows.mean(-1, keepdim=True)
            spread = (centred.square().mean(-1, keepdim=True) + norm.eps).rsqrt()
            weight, bias = norm.of_rows(x)
            rows = centred * spread * weight.unsqueeze(-2) + bias.unsqueeze(-2)
        y = (rows * self.weight.float().unsqueeze(-3)).sum(-1)
        y = y if self.scale is None else y * self.scale
        return (y if self.bias is None else y + self.bias.float()).to(x.dtype)


class Norm(NamedTuple):
    """Layer norms side by side. weight, bias: [layers, 1, hidden], or [layers * streams, 1, hidden] with one for each stream."""

    weight: Tensor
    bias: Tensor
    eps: float

    def apply(self, x: Tensor) -> Tensor:
        """[layers, rows, hidden], rows of a stream as neighbours -> same."""
        if len(self.weight) == 1:
            return F.layer_norm(x, x.shape[-1:], self.weight[0, 0], self.bias[0, 0], self.eps)
        normal = F.layer_norm(x, x.shape[-1:], eps=self.eps).reshape(len(self.weight), -1, x.shape[-1])
        return torch.addcmul(self.bias, normal, self.weight).view(x.shape)

    def as_sums(self, x: Tensor) -> Tensor:
        """The same, with the sums of a row computed anew for each of its numbers: part of the kernel that they are needed in."""
        rows = x.float().unsqueeze(-2).expand(*x.shape, x.shape[-1])
        mean = rows.mean(-1)
        spread = ((rows - mean.unsqueeze(-1)).square().mean(-1) + self.eps).rsqrt()
        weight, bias = self.of_rows(x)
        return ((x.float() - mean) * spread * weight + bias).to(x.dtype)

    def of_rows(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Weight and bias of each row of `x`, in float32."""
        shape = len(self.weight), x.shape[0] * x.shape[1] // len(self.weight), x.shape[2]
        weight, bias = (one.float().expand(shape).reshape(x.shape) for one in (self.weight, self.bias))
        return weight, bias


def _stack(tensors: Iterable[Tensor]) -> Tensor:
    tensors = list(tensors)
    return tensors[0].detach().unsqueeze(0) if len(tensors) == 1 else torch.stack([one.detach() for one in tensors])


def _product(layers: Sequence[Sequence[nn.Module]]) -> Product:
    """Of each row of layers the outputs one after the other; the rows side by side."""

    def joined(name: str) -> list[Tensor] | None:
        if getattr(layers[0][0], name, None) is None:
            return None
        rows = [[getattr(layer, name) for layer in row] for row in layers]
        return [row[0] if len(row) == 1 else torch.cat(row) for row in rows]

    weight, bias, scale = (joined(name) for name in ("weight", "bias", "scale"))
    assert weight is not None
    rest = (None if one is None else _stack(one).unsqueeze(1) for one in (bias, scale))
    return Product(_stack(weight), *rest)


def _norm(norms: Sequence[nn.Module]) -> Norm:
    """The norm of each group: one for all streams, or one for each, [groups * streams, 1, hidden]."""
    parts: list[Any] = [
        one for norm in norms for one in ([norm[s] for s in STREAMS] if isinstance(norm, StreamNorms) else [norm])
    ]
    weight, bias = (_stack(getattr(part, name) for part in parts).unsqueeze(1) for name in ("weight", "bias"))
    return Norm(weight, bias, parts[0].eps)


def _dense(layer: Any) -> Tensor:
    """The weight in float32: small ones are in any model, since rounding after each small operation takes time and precision."""
    dense = getattr(layer, "dense_weight", None)
    return (layer.weight.detach() if dense is None else dense()).float()


# --- weights ----------------------------------------------------------------------------------------------------------------------


class Rows(NamedTuple):
    """The rows of a batch by the genre whose expert computes them, equally many of each: some stand there twice where they are not.

    Attributes:
        groups: number of genres.
        order: [groups * rows of a group], rows of the batch. back: [batch], where each of them lies among these. None: as they are.
        padding: [groups * rows of a group], the same of the batch sorted by genre, as in a cache; None: as they are.
        sorted_back: [batch], where each row of the sorted batch lies among these.
    """

    groups: int
    order: Tensor | None
    back: Tensor | None
    padding: Tensor | None
    sorted_back: Tensor | None


def arrange_rows(routing: Routing, device: torch.device) -> Rows:
    sizes = [rows.stop - rows.start for _, rows in routing.groups]
    if len(set(sizes)) == 1:
        return Rows(len(sizes), routing.order, routing.inverse, None, None)
    most = max(sizes)
    padding = [min(start + place, stop - 1) for start, stop in _bounds(routing) for place in range(most)]
    back = [group * most + place for group, size in enumerate(sizes) for place in range(size)]
    twice, of_sorted = (torch.tensor(numbers).to(device) for numbers in (padding, back))
    if routing.order is None or routing.inverse is None:
        return Rows(len(sizes), twice, of_sorted, twice, of_sorted)
    return Rows(len(sizes), routing.order[twice], of_sorted[routing.inverse], twice, of_sorted)


def _bounds(routing: Routing) -> list[tuple[int, int]]:
    return [(rows.start, rows.stop) for _, rows in routing.groups]


class MambaWeights(NamedTuple):
    """Of the streams' Mambas of each group, [groups * streams, ...], and the norms after them.

    The first outputs of `x_proj`, the ranks of the time steps, are padded with zeros to a multiple of the states.
    """

    in_proj: Product  # to the input of the convolution, and the gate
    u_gate_proj: list[Product]  # its parts
    x_proj: Product
    dt_proj: Tensor  # [groups * streams, inner, ranks]
    dt_bias: Tensor  # [groups * streams, 1, inner]
    conv: Tensor  # [groups * streams, kernel, inner]
    conv_bias: Tensor  # [groups * streams, 1, inner]
    A: Tensor  # [groups * streams, inner, state]
    D: Tensor  # [groups * streams, 1, inner]
    out_proj: Product
    norm: Norm


class AttentionWeights(NamedTuple):
    """Of what follows the Mambas in the experts of each group, [groups, ...]."""

    norm: Norm
    qkv_proj: Product
    q_k_v_proj: list[Product]  # its parts
    o_proj: Product
    mlp_norm: Norm
    fc1: Product
    fc2: Product


class ExpertWeights(NamedTuple):
    """Of the experts of one place in a layer. groups: of rows, each with an expert of its own."""

    groups: int
    mambas: MambaWeights | None
    attention: AttentionWeights | None  # None: only the Mambas that the experts of a layer share


class LayerWeights(NamedTuple):
    mambas: ExpertWeights | None
    universal: ExpertWeights | None
    genres: ExpertWeights | None


def _mamba_weights(mambas: Sequence[nn.ModuleDict], norms: Sequence[StreamNorms]) -> MambaWeights:
    modules: list[Any] = [of_streams[stream] for of_streams in mambas for stream in STREAMS]
    states = modules[0].A_log.shape[1]
    rank = modules[0].dt_proj.in_features
    padding = -rank % states
    in_proj = _product([[mamba.in_proj] for mamba in modules])

    def floats(of: Callable[[Any], Tensor]) -> Tensor:
        return _stack(of(mamba).detach().float() for mamba in modules)

    x_proj = floats(lambda mamba: F.pad(_dense(mamba.x_proj), (0, 0, padding, 0)))
    return MambaWeights(
        in_proj,
        in_proj.parts(2),
        Product(x_proj),
        floats(lambda mamba: F.pad(_dense(mamba.dt_proj), (padding, 0))),
        floats(lambda mamba: mamba.dt_proj.bias[None]),
        floats(lambda mamba: mamba.conv1d.weight[:, 0].t()),
        floats(lambda mamba: mamba.conv1d.bias[None]),
        -torch.exp(floats(lambda mamba: mamba.A_log)),
        floats(lambda mamba: mamba.D[None]),
        _product([[mamba.out_proj] for mamba in modules]),
        _norm(norms),
    )


def _attention_weights(experts: Sequence[Expert]) -> AttentionWeights:
    attentions, mlps = [one.attention for one in experts], [one.mlp for one in experts]
    qkv_proj = _product([[one.q_proj, one.k_proj, one.v_proj] for one in attentions])
    return AttentionWeights(
        _norm([one.attention_norm for one in experts]),
        qkv_proj,
        qkv_proj.parts(3),
        _product([[one.o_proj] for one in attentions]),
        _norm([one.mlp_norm for one in experts]),
        _product([[one.fc1] for one in mlps]),
        _product([[one.fc2] for one in mlps]),
    )


def _expert_weights(experts: Sequence[Expert]) -> ExpertWeights:
    mambas = None
    if experts[0].use_mamba:
        mambas = _mamba_weights([one.mambas for one in experts], [one.mamba_norms for one in experts])
    return ExpertWeights(len(experts), mambas, _attention_weights(experts))


def stack_weights(model: "MegaDanceForMotionGeneration", routing: Routing) -> list[LayerWeights]:
    """The weights that a batch needs, as they are now."""
    layers = []
    for layer in model.base_model.layers:
        shared = universal = genres = None
        if layer.use_mamba:
            shared = ExpertWeights(1, _mamba_weights([layer.mambas], [layer.mamba_norms]), None)
        if layer.universal_expert is not None:
            universal = _expert_weights([layer.universal_expert])
        if layer.genre_experts is not None:
            genres = _expert_weights([layer.genre_experts[key] for key, _ in routing.groups])
        layers.append(LayerWeights(shared, universal, genres))
    return layers


# --- state ------------------------------------------------------------------------------------------------------------------------


class MambaState(NamedTuple):
    """Of the streams' Mambas; overwritten.

    Attributes:
        history: the last inputs of the convolution, each [groups * 3, rows, inner]. ssm: [groups * 3, rows, inner, state].
    """

    history: list[Tensor]
    ssm: Tensor


class Rings(NamedTuple):
    """Keys and values of an expert, each [groups * rows, context, 3, hidden]; overwritten."""

    keys: Tensor
    values: Tensor


class State(NamedTuple):
    """What a [`MegaDanceCache`] holds, in tensors of their own for each expert: a compiler writes them in place.

    Attributes:
        mambas: of each layer and each place where Mambas are in it. rings: of each layer and expert.
        mask: [context, 3], 0 for what the rings hold, else minus infinity.
    """

    mambas: list[list[MambaState]]
    rings: list[list[Rings]]
    mask: Tensor


def _mamba_groups(config: MegaDanceConfig, slot: int, rows: Rows) -> int:
    shared = config.mamba_placement == "layers" or slot < int(config.use_universal_experts)
    return 1 if shared else rows.groups


def _by_group(x: Tensor, groups: int) -> Tensor:
    """[3, rows, ...] -> [groups * 3, rows of a group, ...]."""
    return x.unflatten(1, (groups, -1)).transpose(0, 1).flatten(0, 1)


def _by_stream(x: Tensor, groups: int) -> Tensor:
    """[groups * 3, rows of a group, ...] -> [3, rows, ...]."""
    return x.unflatten(0, (groups, -1)).transpose(0, 1).flatten(1, 2)


def _whole(cache: MegaDanceCache) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The tensors of a cache whose layers are on one device."""
    conv, ssm, keys, values = cache.conv, cache.ssm, cache.keys, cache.values
    assert isinstance(conv, Tensor) and isinstance(ssm, Tensor)
    assert isinstance(keys, Tensor) and isinstance(values, Tensor)
    return conv, ssm, keys, values


def _copy(x: Tensor) -> Tensor:
    return x.clone(memory_format=torch.contiguous_format)


def read_state(cache: MegaDanceCache, rows: Rows) -> State:
    """A copy of what a cache holds."""

    def pad(x: Tensor, dim: int) -> Tensor:
        return x if rows.padding is None else x.index_select(dim, rows.padding)

    conv, ssm, keys, values = _whole(cache)
    mambas: list[list[MambaState]] = []
    rings: list[list[Rings]] = []
    for layer in range(len(cache)):
        mambas.append([])
        for slot in range(conv.shape[1]):
            groups = _mamba_groups(cache.config, slot, rows)
            history, states = (_by_group(pad(x[layer, slot], 1), groups) for x in (conv, ssm))
            mambas[-1].append(MambaState([_copy(one) for one in history.unbind(2)], _copy(states.mT)))
        rings.append([])
        for slot in range(keys.shape[1]):
            of_slot = (pad(x[layer, slot], 0).permute(0, 2, 3, 1, 4).flatten(3) for x in (keys, values))
            rings[-1].append(Rings(*map(_copy, of_slot)))
    mask = keys.new_full((cache.max_cache_len, len(STREAMS)), -torch.inf)
    mask[: cache.position] = 0
    return State(mambas, rings, mask)


def write_state(state: State, cache: MegaDanceCache, rows: Rows) -> None:
    """Give a cache what its state has become."""

    def unpad(x: Tensor, dim: int) -> Tensor:
        return x if rows.sorted_back is None else x.index_select(dim, rows.sorted_back)

    conv, ssm, keys, values = _whole(cache)
    for layer, (mambas, rings) in enumerate(zip(state.mambas, state.rings, strict=True)):
        for slot, mamba in enumerate(mambas):
            groups = _mamba_groups(cache.config, slot, rows)
            for kept, new in ((conv, torch.stack(mamba.history, dim=2)), (ssm, mamba.ssm.mT)):
                kept[layer, slot].copy_(unpad(_by_stream(new, groups), 1))
        for slot, ring in enumerate(rings):
            for kept, new in ((keys, ring.keys), (values, ring.values)):
                in_heads = new.unflatten(3, (kept.shape[3], -1)).permute(0, 3, 1, 2, 4)
                kept[layer, slot].copy_(unpad(in_heads, 0))


# --- the layers -------------------------------------------------------------------------------------------------------------------


class Window(NamedTuple):
    """Where new positions lie. slots: [time], of the rings. mask: [..., time * 3, keys * 3], 0 where a query may look, else minus infinity."""

    slots: Tensor
    mask: Tensor


def _mix_in_time(x: Tensor, weights: MambaWeights, state: MambaState) -> Tensor:
    """What `mix_in_time` computes before its norms: [groups * 3, rows, time, hidden] -> same. One position goes on from the state,
    several begin anew."""
    rows, steps = x.shape[1:3]
    flat = x.flatten(1, 2)
    if _is_written_out(x.device, rows * steps):
        u, gate = (one.apply(flat).float() for one in weights.u_gate_proj)
    else:
        u, gate = weights.in_proj.apply(flat).float().chunk(2, dim=-1)
    if steps == 1:
        inputs = [*state.history, u]
        u = weights.conv_bias
        for shift, earlier in enumerate(inputs):
            u = u + earlier * weights.conv[:, shift : shift + 1]
        last_inputs = inputs[1:]
    else:
        by_time = u.unflatten(1, (rows, steps))
        last_inputs = by_time[:, :, steps - len(state.history) :].unbind(2)
        u = causal_convolution(by_time, weights.conv[:, None], weights.conv_bias[:, None]).flatten(1, 2)
    for old, new in zip(state.history, last_inputs, strict=True):
        old.copy_(new)
    u = F.silu(u)
    states, ranks = weights.A.shape[2], weights.dt_proj.shape[2]
    dt, b, c = weights.x_proj.apply(u).split((ranks, states, states), dim=-1)
    if _is_written_out(x.device, rows * steps):
        # as many terms as the scan has states, so that both sums become one kernel
        terms = zip(dt.split(states, -1), weights.dt_proj.split(states, -1), strict=True)
        delta = sum(part[:, :, None] * weight[:, None] for part, weight in terms).sum(-1)
    else:
        delta = torch.bmm(dt, weights.dt_proj.mT)
    delta = F.softplus(delta + weights.dt_bias)
    if steps == 1:
        y = _next_state(u, delta, b, c, weights.A, state.ssm)
    else:
        u_in_time, delta, b, c = (one.unflatten(1, (rows, steps)) for one in (u, delta, b, c))
        y, last = selective_scan(u_in_time, delta, weights.A[:, None], b, c)
        state.ssm.copy_(last.mT)
        y = y.flatten(1, 2)
    mixed = (torch.addcmul(y, u, weights.D) * F.silu(gate)).to(x.dtype)
    return (flat + weights.out_proj.apply(mixed)).view(x.shape)


def _next_state(u: Tensor, delta: Tensor, b: Tensor, c: Tensor, A: Tensor, ssm: Tensor) -> Tensor:
    """`continue_scan` of one position: [groups * 3, rows, inner] -> same."""
    y = step_by_kernel(u[:, :, None], delta[:, :, None], A[:, None], b[:, :, None], c[:, :, None], ssm.mT)
    if y is not None:
        return y[:, :, 0]
    last = torch.exp(delta[..., None] * A[:, None]) * ssm + (delta * u)[..., None] * b[:, :, None]
    y = (last * c[:, :, None]).sum(-1)
    ssm.copy_(last)
    return y


def _attend(
    x: Tensor,
    norm: Norm | None,
    weights: AttentionWeights,
    rings: Rings,
    window: Window,
    num_heads: int,
    attend: Callable,
) -> Tensor:
    """What follows the Mambas in an expert: [groups, 3, rows, time, hidden] -> same. `norm` is that after the Mambas, still to be
    applied to `x`, or None."""
    groups, streams, rows, steps, hidden = x.shape
    flat = x.reshape(groups, -1, hidden)
    norms = [weights.norm] if norm is None else [norm, weights.norm]

    def in_time(projected: Tensor) -> Tensor:  # [groups * rows, time, streams, hidden]
        return projected.view(groups, streams, rows, steps, hidden).permute(0, 2, 3, 1, 4).flatten(0, 1)

    def heads(x: Tensor) -> Tensor:  # [groups * rows, heads, time * streams, head size]
        return x.flatten(1, 2).unflatten(2, (num_heads, -1)).transpose(1, 2)

    if _is_written_out(x.device, flat.shape[1]):
        projected: Sequence[Tensor] = [one.apply(flat, *norms) for one in weights.q_k_v_proj]
        flat = flat if norm is None else norm.as_sums(flat)
    else:
        flat = flat if norm is None else norm.apply(flat)
        projected = weights.qkv_proj.apply(flat, weights.norm).chunk(3, dim=-1)
    query, key, value = (in_time(one) for one in projected)
    for ring, new in zip(rings, (key, value), strict=True):
        ring.index_copy_(1, window.slots, new)
    if steps == 1:
        key, value = rings
    attended = attend(heads(query), heads(key), heads(value), window.mask)
    # [groups * rows, time * streams, heads, head size] -> [groups, rows of all streams, hidden]
    attended = attended.reshape(groups, rows, steps, streams, hidden).permute(0, 3, 1, 2, 4).reshape(flat.shape)
    flat = flat + weights.o_proj.apply(attended)
    middle = F.gelu(weights.fc1.apply(flat, weights.mlp_norm))
    return (flat + weights.fc2.apply(middle)).view(x.shape)


def _through_layers(
    x: Tensor,
    layers: list[LayerWeights],
    state: State,
    window: Window,
    num_heads: int,
    parallel: bool,
    attend: Callable,
) -> Tensor:
    """New positions [3, rows, time, hidden] through all layers."""

    def run(expert: ExpertWeights, x: Tensor, mamba: MambaState, rings: Rings) -> Tensor:
        shape, norm = x.shape, None
        x = _by_group(x, expert.groups)
        if expert.mambas is not None:
            x, norm = _mix_in_time(x, expert.mambas, mamba), expert.mambas.norm
        if expert.attention is not None:
            x = x.unflatten(0, (expert.groups, -1))
            x = _attend(x, norm, expert.attention, rings, window, num_heads, attend).flatten(0, 1)
        elif norm is not None:
            x = norm.apply(x.flatten(1, 2)).view(x.shape)
        return _by_stream(x, expert.groups).view(shape)

    for layer, mambas, rings in zip(layers, state.mambas, state.rings, strict=True):
        if layer.mambas is not None:
            x = run(layer.mambas, x, mambas[0], rings[0])
        universal = x if layer.universal is None else run(layer.universal, x, mambas[0], rings[0])
        if layer.genres is None:
            x = universal
            continue
        special = run(layer.genres, x if parallel else universal, mambas[-1], rings[-1])
        x = (universal + special) / 2 if parallel and layer.universal is not None else special
    return x


# --- a code -----------------------------------------------------------------------------------------------------------------------


class Inputs(NamedTuple):
    """What the codes of a batch are computed from; the same tensors at every code.

    Attributes:
        codes: [2 * batch, codes], upper body first. music, asked: [batch, codes, hidden] of `encode_music` and `encode_attributes`.
        no_music: [hidden].
        passes: of the code.
        place: [2], where the first new position lies in the dance, and in the window.
    """

    codes: Tensor
    music: Tensor
    no_music: Tensor
    asked: Tensor | None
    passes: Passes
    place: Tensor


class Scores(NamedTuple):
    """Of one code: scores [2 * batch, codebook_size], what the head scored [2 * passes, hidden], and its logits where they are wanted."""

    scores: Tensor
    states: Tensor
    logits: Tensor | None


def code_scores(
    model: "MegaDanceForMotionGeneration",
    layers: list[LayerWeights],
    state: State,
    rows: Rows,
    inputs: Inputs,
    with_logits: bool,
) -> Scores:
    """Read one position, and score the code after it. The state is overwritten."""
    slots = inputs.place[1:] % model.config.context_codes
    state.mask.index_copy_(0, slots, torch.zeros_like(state.mask[:1]))
    window = Window(slots, state.mask.view(1, -1))
    return _scores(model, layers, state, rows, inputs, inputs.place[:1], window, with_logits)


def window_scores(
    model: "MegaDanceForMotionGeneration",
    layers: list[LayerWeights],
    state: State,
    rows: Rows,
    inputs: Inputs,
    with_logits: bool,
) -> Scores:
    """Read a whole window of `context_codes` positions from its beginning, and score the code after it. The state before does not
    matter."""
    steps, streams = model.config.context_codes, len(STREAMS)
    slots = torch.arange(steps, device=inputs.place.device)
    order = torch.arange(steps * streams, device=slots.device) // streams  # the streams of a position are neighbours
    nothing = state.mask.new_zeros(len(order), len(order))
    mask = nothing.masked_fill(order[:, None] < order, -torch.inf)
    state.mask.zero_()
    return _scores(model, layers, state, rows, inputs, inputs.place[:1] + slots, Window(slots, mask), with_logits)


def _any_attention(model: Any) -> nn.Module:
    """A module for attention functions that ask one for its settings, which all share."""
    layer = model.base_model.layers[0]
    experts = [layer.universal_expert] if layer.genre_experts is None else list(layer.genre_experts.values())
    return experts[0].attention


def _scores(
    model: Any,
    layers: list[LayerWeights],
    state: State,
    rows: Rows,
    inputs: Inputs,
    positions: Tensor,
    window: Window,
    with_logits: bool,
) -> Scores:
    config, passes = model.config, inputs.passes
    music = passes.select_music(inputs.music.index_select(1, positions), inputs.no_music)
    if inputs.asked is not None:
        nothing = torch.zeros_like(inputs.no_music)
        music = music + passes.select_attributes(inputs.asked.index_select(1, positions), nothing)
    upper, lower = inputs.codes.index_select(1, positions).chunk(2)
    hidden = model.base_model.join_streams(passes.select(upper), passes.select(lower), music, passes.genre_ids)
    hidden = (hidden if rows.order is None else hidden.index_select(0, rows.order)).transpose(0, 1)

    def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        name = config._attn_implementation
        if name == "sdpa":
            return F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2)
        function = ALL_ATTENTION_FUNCTIONS.get_interface(name, eager_attention)
        return function(
            _any_attention(model), query, key, value, mask == 0, dropout=0.0, scaling=query.shape[-1] ** -0.5
        )[0]

    parallel = config.expert_composition == "parallel"
    hidden = _through_layers(hidden, layers, state, window, config.num_attention_heads, parallel, attend)
    states = hidden[:2, :, -1]
    states = (states if rows.back is None else states.index_select(1, rows.back)).flatten(0, 1)
    logits = model.output_mlp(states) if with_logits else None
    if logits is None or config.code_head != "joint":
        scores = model.output_mlp.over_codes(states)
    else:
        scores = logits
    return Scores(passes.mix(scores.float()), states, logits)


def draw_at(scores: Tensor, number: Tensor) -> Tensor:
    """The codes, [rows], where numbers from 0 to below 1, [rows, 1], fall in the running sums of the softmax of scores, [rows, codes]."""
    running = scores.softmax(-1).cumsum(-1)
    running = running / running[:, -1:]  # so that the number is below the last one
    return torch.searchsorted(running, number, right=True)[:, 0]


# Processors that look at nothing but the scores.
_WARPERS = {f"{name}LogitsWarper" for name in ("Temperature", "TopK", "TopP", "MinP", "Typical", "Epsilon")}
_known_warpers: dict[tuple, Callable] = {}


def plain_warpers(processors: Sequence[Callable]) -> list[Callable] | None:
    """The processors, where all of them look at nothing but the scores and can be compiled; None where one does not.

    Those that were seen before with the same settings are given again: a function is compiled for these objects.
    """
    found = []
    for one in processors:
        settings = tuple(sorted(vars(one).items())) if hasattr(one, "__dict__") else ()
        is_plain = all(isinstance(value, int | float) for _, value in settings)
        if not is_plain or type(one).__name__ not in _WARPERS or not type(one).__module__.startswith("transformers."):
            return None
        found.append(_known_warpers.setdefault((type(one), settings), one))
    return found


def choose_code(
    warpers: list[Callable],
    scores: Tensor,
    codes: Tensor,
    is_known: Tensor,
    lengths: Tensor,
    place: Tensor,
    number: Tensor | None,
    found: Tensor,
) -> Tensor:
    """What `generate` does with the scores of a code, [2 * batch, codes]: choose one by the warped scores, keep those that are known, and
    repeat the last one beyond a dance's end. `codes` and the faults that were `found` are overwritten. Gives the warped scores.

    `place` [2] is that of the last position read. `number` [2 * batch, 1] is random; None: the likeliest.
    """
    for warp in warpers:
        scores = warp(None, scores)
    best = scores.amax(-1)
    new = scores.argmax(-1) if number is None else draw_at(scores, number).clamp(max=scores.shape[-1] - 1)
    last, index = place[:1], place[:1] + 1
    new = torch.where(is_known.index_select(1, index)[:, 0], codes.index_select(1, index)[:, 0], new)
    new = torch.where((index >= lengths).repeat(2), codes.index_select(1, last)[:, 0], new)
    codes.index_copy_(1, index, new[:, None])
    faults = torch.stack((best == -torch.inf, ~torch.isfinite(best))).any(-1)  # NO_CODE_LEFT, NOT_FINITE
    found[NO_CODE_LEFT:].logical_or_(faults)
    return scores
