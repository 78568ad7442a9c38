"""The generator: codes of both body halves from music, with universal and genre experts (paper, section 3.3).

Three streams (upper-body codes, lower-body codes, music), one vector a code step each, run through layers of experts.
An expert is a whole Mamba-attention-feed-forward block. Tensors keep the streams apart as [batch, 3, time, hidden];
attention joins them to [batch, 3 * time, hidden], which is the paper's concatenation along time.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init
from transformers.generation.configuration_utils import GenerationConfig
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import ModelOutput

from .configuration_megadance import MegaDanceConfig, match_genre
from .generation_megadance import MegaDanceGenerationMixin
from .mamba_megadance import Mamba
from .rhythm_megadance import RhythmEncoder

STREAMS = ("upper", "lower", "music")
NUM_STREAMS = len(STREAMS)


# --------------------------------------------------------------------------------------------------------------------
# Cache
# --------------------------------------------------------------------------------------------------------------------


class ExpertCache(NamedTuple):
    """What one expert remembers of some rows of the batch: views into a [`MegaDanceCache`], written in place."""

    conv: torch.Tensor  # [3, rows, conv_kernel - 1, inner]  last inputs of the convolutions
    ssm: torch.Tensor  # [3, rows, state, inner]  float32
    keys: torch.Tensor  # [rows, heads, context, 3, head size]  a ring: position p lies in slot p % context
    values: torch.Tensor
    position: int  # positions seen before this call


class MegaDanceCache:
    """The state of generation, allocated once and written in place: its size does not depend on the length.

    An item uses one genre, so a layer has at most two experts' worth of state an item, however many genres there are.
    Rows are kept in the order in which the batch is sorted by genre.

    Args:
        config: sizes are read from it.
        genre_ids: [batch], fixed for the life of the cache.
        dtype: type of keys, values and convolution inputs (the model's); the Mamba states are float32.
    """

    def __init__(self, config: MegaDanceConfig, genre_ids: torch.Tensor, dtype: torch.dtype):
        device, batch = genre_ids.device, genre_ids.shape[0]
        self.genre_ids = genre_ids.clone()
        self.position = 0
        experts = (config.num_hidden_layers, int(config.use_universal_experts) + int(config.use_genre_experts))
        mamba = (*experts, NUM_STREAMS, batch)
        heads = config.num_attention_heads
        ring = (*experts, batch, heads, config.context_codes, NUM_STREAMS, config.hidden_size // heads)
        self.conv = torch.zeros(*mamba, config.conv_kernel - 1, config.inner_size, device=device, dtype=dtype)
        self.ssm = torch.zeros(*mamba, config.state_size, config.inner_size, device=device, dtype=torch.float32)
        self.keys = torch.zeros(ring, device=device, dtype=dtype)
        self.values = torch.zeros(ring, device=device, dtype=dtype)

    def get_seq_length(self) -> int:
        """Positions seen so far (of each stream)."""
        return self.position

    def reset(self, genre_ids: torch.Tensor | None = None) -> None:
        """Forget everything; `genre_ids` of the same batch size may change."""
        self.position = 0
        self.conv.zero_()
        self.ssm.zero_()
        if genre_ids is not None:
            self.genre_ids = genre_ids.clone()

    def expert(self, layer: int, slot: int, rows: slice) -> ExpertCache:
        """Views of one expert's state; slot 0 is the first expert of the layer."""
        return ExpertCache(
            self.conv[layer, slot, :, rows],
            self.ssm[layer, slot, :, rows],
            self.keys[layer, slot, rows],
            self.values[layer, slot, rows],
            self.position,
        )


# --------------------------------------------------------------------------------------------------------------------
# Parts of an expert
# --------------------------------------------------------------------------------------------------------------------


class Dropout(nn.Dropout):
    """Dropout that draws a byte instead of eight of them for each number where the drawing is slow: on a CPU.

    The probability is rounded to 1/256 there.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.p == 0 or x.device.type != "cpu":
            return super().forward(x)
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        dropped = round(self.p * 256)
        kept = words.view(torch.uint8)[: x.numel()].view(x.shape) >= dropped
        return x * kept * (256 / (256 - dropped))


def sliding_window_mask(query_positions: torch.Tensor, key_positions: torch.Tensor, context: int) -> torch.Tensor:
    """Boolean [queries, keys], True where a query at position i may look: i - context + 1 to i (section 3.3.3)."""
    distance = query_positions[:, None] - key_positions[None, :]
    return (distance >= 0) & (distance < context)


class SlidingWindowAttention(nn.Module):
    """Attention over all three streams, each of the 3x3 blocks masked by the same sliding window (Eq. 4).

    The mask belongs inside the softmax; Eq. 4 prints it before the division, which is the same for 0 and minus infinity.
    """

    def __init__(self, config: MegaDanceConfig):
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.context = config.context_codes
        self.dropout = Dropout(config.dropout)
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def _attend(self, query, key, value, mask):
        """[batch, heads, length, head size] each; mask [queries, keys] or None."""
        if query.device.type == "cpu" and query.requires_grad:
            # torch's fused kernel has a slow masked backward on CPUs
            scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
            if mask is not None:  # added, not filled in: an addition costs nothing on the way back
                scores = scores.add_(torch.zeros_like(mask, dtype=scores.dtype).masked_fill_(~mask, -torch.inf))
            return self.dropout(scores.softmax(-1)) @ value
        dropout = self.dropout.p if self.training else 0.0
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)

    def forward(
        self, hidden_states: torch.Tensor, mask: torch.Tensor | None, cache: ExpertCache | None = None
    ) -> torch.Tensor:
        """[batch, 3, time, hidden] -> same. `mask` [time * 3, (past + time) * 3], streams innermost."""
        batch, streams, steps, hidden = hidden_states.shape
        # [batch, heads, time, streams, head size]: the order of keys is free, this one makes the cache a plain ring
        shape = (batch, streams, steps, self.num_heads, -1)
        query, key, value = (
            projection(hidden_states).view(shape).permute(0, 3, 2, 1, 4)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        if cache is not None:
            past = min(cache.position, self.context)
            # only the last `context` positions can ever be looked at again
            kept = min(steps, self.context)
            end = cache.position + steps
            slots = [position % self.context for position in range(end - kept, end)]
            if steps == 1:
                cache.keys[:, :, slots[0]] = key[:, :, 0].detach()
                cache.values[:, :, slots[0]] = value[:, :, 0].detach()
                seen = min(cache.position + 1, self.context)
                key, value = cache.keys[:, :, :seen], cache.values[:, :, :seen]
            else:
                new_key, new_value = key.detach(), value.detach()
                if past > 0:
                    key = torch.cat((cache.keys[:, :, :past], key), dim=2)
                    value = torch.cat((cache.values[:, :, :past], value), dim=2)
                cache.keys[:, :, slots] = new_key[:, :, steps - kept :]
                cache.values[:, :, slots] = new_value[:, :, steps - kept :]
        result = self._attend(query.flatten(2, 3), key.flatten(2, 3), value.flatten(2, 3), mask)
        result = result.view(batch, self.num_heads, steps, streams, -1).permute(0, 3, 2, 1, 4)
        return self.o_proj(result.reshape(batch, streams, steps, hidden))


class FeedForward(nn.Module):
    """Two linear layers with an activation, or nothing, between them."""

    def __init__(self, input_size: int, middle_size: int, output_size: int, activation: str):
        super().__init__()
        self.fc1 = nn.Linear(input_size, middle_size)
        self.act = nn.GELU() if activation == "gelu" else nn.Identity()  # the exact GELU
        self.fc2 = nn.Linear(middle_size, output_size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.act(self.fc1(hidden_states)))


class Expert(nn.Module):
    """Mamba-Transformer block: three Mambas for what happens inside a stream, attention for what joins them."""

    def __init__(self, config: MegaDanceConfig):
        super().__init__()
        norm = {"normalized_shape": config.hidden_size, "eps": config.layer_norm_eps}
        self.use_mamba = config.use_mamba
        if self.use_mamba:
            self.mambas = nn.ModuleDict({stream: Mamba(config) for stream in STREAMS})
            self.mamba_norms = nn.ModuleDict({stream: nn.LayerNorm(**norm) for stream in STREAMS})
        self.attention_norm = nn.LayerNorm(**norm)
        self.attention = SlidingWindowAttention(config)
        self.mlp_norm = nn.LayerNorm(**norm)
        self.mlp = FeedForward(config.hidden_size, config.intermediate_size, config.hidden_size, "gelu")
        self.dropout = Dropout(config.dropout)

    def forward(
        self, hidden_states: torch.Tensor, mask: torch.Tensor | None, cache: ExpertCache | None = None
    ) -> torch.Tensor:
        """[batch, 3, time, hidden] -> same."""
        if self.use_mamba:
            streams = []
            for index, stream in enumerate(STREAMS):
                x = hidden_states[:, index]
                states = (None, None) if cache is None else (cache.conv[index], cache.ssm[index])
                # the norm comes after the sum here (released code; the paper does not say)
                streams.append(self.mamba_norms[stream](x + self.mambas[stream](x, *states)))
            hidden_states = torch.stack(streams, dim=1)
        attended = self.attention(self.attention_norm(hidden_states), mask, cache)
        hidden_states = hidden_states + self.dropout(attended)
        return hidden_states + self.dropout(self.mlp(self.mlp_norm(hidden_states)))


def genre_key(genre: str) -> str:
    """Name of a genre's modules: prefixed, because `nn.ModuleDict` refuses names such as "pop", and without dots."""
    return "genre_" + re.sub(r"\W", "_", genre)


class GenreGroup(NamedTuple):
    """Neighbouring rows of the sorted batch that share a genre."""

    key: str
    rows: slice


class MegaDanceLayer(GradientCheckpointingLayer):
    """Universal expert and genre experts (section 3.3.1); whole sequences are routed by their genre."""

    def __init__(self, config: MegaDanceConfig, index: int):
        super().__init__()
        self.index = index
        self.parallel = config.expert_composition == "parallel"
        self.universal_expert = Expert(config) if config.use_universal_experts else None
        self.genre_experts = None
        if config.use_genre_experts:
            self.genre_experts = nn.ModuleDict({genre_key(genre): Expert(config) for genre in config.built_genres})

    def forward(
        self,
        hidden_states: torch.Tensor,
        groups: Sequence[GenreGroup],
        mask: torch.Tensor | None = None,
        cache: MegaDanceCache | None = None,
    ) -> torch.Tensor:
        """[batch sorted by genre, 3, time, hidden] -> same."""
        universal = hidden_states
        if self.universal_expert is not None:
            state = None if cache is None else cache.expert(self.index, 0, slice(None))
            universal = self.universal_expert(hidden_states, mask, state)
        if self.genre_experts is None:
            return universal
        slot = int(self.universal_expert is not None)
        source = hidden_states if self.parallel else universal
        parts = []
        for key, rows in groups:
            state = None if cache is None else cache.expert(self.index, slot, rows)
            parts.append(self.genre_experts[key](source[rows], mask, state))
        special = parts[0] if len(parts) == 1 else torch.cat(parts)
        if self.parallel and self.universal_expert is not None:
            # The paper does not say how the two results join. Their average keeps the scale of one expert.
            return (universal + special) / 2
        return special


# --------------------------------------------------------------------------------------------------------------------
# Models
# --------------------------------------------------------------------------------------------------------------------


@dataclass
class MegaDanceModelOutput(ModelOutput):
    """Output of [`MegaDanceModel`].

    Args:
        last_hidden_state: [batch, 3, time, hidden]; streams in the order upper, lower, music.
        past_key_values: the [`MegaDanceCache`], when one was used.
        hidden_states: what entered the first layer and what each layer gave, shaped like `last_hidden_state`.
    """

    last_hidden_state: torch.Tensor | None = None
    past_key_values: MegaDanceCache | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None


@dataclass
class MegaDanceMotionGenerationOutput(ModelOutput):
    """Output of [`MegaDanceForMotionGeneration`].

    Args:
        loss: mean cross-entropy of the upper plus that of the lower stream, when labels were given, plus `rhythm_loss`.
        upper_logits, lower_logits: [batch, time, codebook_size]; position i scores code i + 1.
        past_key_values, hidden_states: as in [`MegaDanceModelOutput`].
        rhythm_loss: mean squared error of the rhythm encoder, when `rhythm_labels` were given.
    """

    loss: torch.Tensor | None = None
    upper_logits: torch.Tensor | None = None
    lower_logits: torch.Tensor | None = None
    past_key_values: MegaDanceCache | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    rhythm_loss: torch.Tensor | None = None


class MegaDancePreTrainedModel(PreTrainedModel):
    config_class = MegaDanceConfig
    base_model_prefix = "model"
    main_input_name = "input_features"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ["MegaDanceLayer"]
    # MFCC reach -500: in bfloat16 the mean alone would be off by more than a spread
    _keep_in_fp32_modules_strict = ["music_mean", "music_std"]
    # genres that are in the checkpoint but not in `active_genres`
    _keys_to_ignore_on_load_unexpected = [r"layers\.\d+\.genre_experts\.genre_"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, Mamba):
            module.init_weights()
        elif isinstance(module, RhythmEncoder):
            module.init_weights()
        elif isinstance(module, nn.Linear):
            init.normal_(module.weight, std=self.config.initializer_range)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, std=self.config.initializer_range)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, MegaDanceModel):
            init.zeros_(module.music_mean)
            init.ones_(module.music_std)

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        """As in transformers, but a genre whose expert the checkpoint lacks is an error, never random weights."""
        wants_info = kwargs.pop("output_loading_info", False)
        model, info = super().from_pretrained(*args, output_loading_info=True, **kwargs)
        found = [re.search(r"genre_experts\.(genre_\w+)\.", name) for name in info["missing_keys"]]
        absent = {match[1] for match in found if match}
        if absent:
            missing = [genre for genre in model.config.built_genres if genre_key(genre) in absent]
            raise ValueError(
                f"active_genres={model.config.built_genres!r}: the checkpoint has no expert for {', '.join(missing)}; "
                "leave them out of active_genres, or load a checkpoint that was saved with them"
            )
        return (model, info) if wants_info else model

    def genre_id(self, genre: str) -> int:
        """Id of a genre name, for `genre_ids`, spelled as `match_genre` allows.

        Raises:
            GenreError: no such genre; the message lists the genres and the nearest spelling.
            ValueError: the genre is not among those this model was built with.
        """
        index = self.config.label2id[match_genre(genre, self.config.genres)]
        self._check_built(index)
        return index

    def _check_built(self, index: int) -> None:
        genres = self.config.genres
        if not 0 <= index < len(genres):
            listing = ", ".join(f"{number} {name}" for number, name in enumerate(genres))
            raise ValueError(f"genre_ids has {index}, which is no genre; the genres are {listing}")
        if self.config.use_genre_experts and genres[index] not in self.config.built_genres:
            raise ValueError(
                f"genre {genres[index]!r} (id {index}) is not among the genres this model was built with: "
                f"{', '.join(self.config.built_genres)}; name it in active_genres when loading"
            )

    def num_active_parameters(self) -> int:
        """Parameters that one dance uses: all but the experts of the other genres."""
        total = sum(parameter.numel() for parameter in self.parameters())
        experts = [layer.genre_experts for layer in self.base_model.layers if layer.genre_experts is not None]
        for genre_experts in experts:
            sizes = [sum(parameter.numel() for parameter in expert.parameters()) for expert in genre_experts.values()]
            total -= sum(sizes[1:])
        return total


class MegaDanceModel(MegaDancePreTrainedModel):
    """Embeddings and layers: codes and music in, one vector a stream and code step out."""

    _keys_to_ignore_on_load_unexpected = [
        *MegaDancePreTrainedModel._keys_to_ignore_on_load_unexpected,
        r"^output_mlp\.",
    ]

    def __init__(self, config: MegaDanceConfig):
        config.validate()  # from_pretrained sets fields after the configuration checked itself
        super().__init__(config)
        keys = [genre_key(genre) for genre in config.genres]
        if len(set(keys)) < len(keys):
            raise ValueError(f"id2label={config.genres!r}: genres must differ in letters, digits or underscores")
        hidden = config.hidden_size
        self.upper_embedding = nn.Embedding(config.codebook_size, hidden)
        self.lower_embedding = nn.Embedding(config.codebook_size, hidden)
        self.rhythm_encoder = RhythmEncoder(config) if config.rhythm_size else None
        self.music_mlp = FeedForward(config.music_step_size, config.music_hidden_size, hidden, config.mlp_activation)
        self.genre_embedding = nn.Embedding(len(keys), hidden) if config.genre_embedding else None
        self.layers = nn.ModuleList(MegaDanceLayer(config, index) for index in range(config.num_hidden_layers))
        # persistent, because buffers that are not are lost in from_pretrained
        self.register_buffer("music_mean", torch.zeros(config.music_feature_size))
        self.register_buffer("music_std", torch.ones(config.music_feature_size))
        self.post_init()

    def set_music_statistics(self, mean, std) -> None:
        """Set what raw features are normalised with: `(features - mean) / std`, each of `music_feature_size` numbers."""
        for name, value in (("mean", mean), ("std", std)):
            value = torch.as_tensor(value, dtype=torch.float32).flatten()
            if value.numel() != self.config.music_feature_size or not torch.isfinite(value).all():
                raise ValueError(f"{name} must be {self.config.music_feature_size} finite numbers, one a music column")
            if name == "std" and not (value > 0).all():
                raise ValueError("std must be above 0 in every column; use 1 for a column that never changes")
            getattr(self, f"music_{name}").copy_(value)

    def _normalize_music(self, input_features: torch.Tensor) -> torch.Tensor:
        # in float32 also where the weights are not: raw columns reach several hundreds
        features = input_features.to(self.device, torch.float32)
        return (features - self.music_mean.float()) / self.music_std.float()

    def encode_rhythm(
        self, input_features: torch.Tensor, attention_mask: torch.Tensor | None = None
    ) -> torch.Tensor | None:
        """Beat and bar of raw features: [batch, frames, music_feature_size] -> [batch, frames, 4].

        Cosine and sine of the beat's phase, then of the bar's; shorter vectors where they are uncertain. The longer the
        piece of music the better. `attention_mask` [batch, frames] is 1 for music and 0 for padding. None for a model
        without rhythm encoder.
        """
        if self.rhythm_encoder is None:
            return None
        features = self._normalize_music(input_features)
        mask = None if attention_mask is None else attention_mask.to(features.device)
        return self.rhythm_encoder(features.to(self.upper_embedding.weight.dtype), mask)

    def _music_steps(
        self, input_features: torch.Tensor, steps: int, rhythm: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Raw [batch, frames, features] -> [batch, steps, music_step_size] as position i sees it."""
        config = self.config
        if input_features.dim() != 3 or input_features.shape[-1] != config.music_feature_size:
            raise ValueError(
                f"input_features has shape {tuple(input_features.shape)}; expected (batch, frames, "
                f"{config.music_feature_size}) at {config.fps} frames/s"
            )
        available = input_features.shape[1] // config.frames_per_code
        if not steps <= available <= steps + config.music_lookahead:
            raise ValueError(
                f"input_features has {input_features.shape[1]} frames = {available} code steps, but there are {steps} "
                f"codes; give {config.frames_per_code} frames a code"
            )
        frames = available * config.frames_per_code
        features = self._normalize_music(input_features[:, :frames])
        if config.music_columns is not None:
            features = features[..., config.music_columns]
        if config.rhythm_size:
            if rhythm is None:
                rhythm = self.encode_rhythm(input_features)
            features = torch.cat((features, rhythm[:, :frames].to(features)), dim=-1)
        features = features.unflatten(1, (available, config.frames_per_code))  # [batch, steps, frames a code, features]
        if config.music_reduction == "stride":
            music = features[:, :, 0]
        elif config.music_reduction == "mean":
            music = features.mean(2)
        else:
            music = features.flatten(2)
        if config.music_lookahead:
            if available == steps:
                music = torch.cat((music, music[:, -1:]), dim=1)
            music = music[:, 1:]  # position i, which predicts code i + 1, hears step i + 1
        return music.to(self.upper_embedding.weight.dtype)

    def _group(self, genre_ids: torch.Tensor) -> tuple[list[GenreGroup], torch.Tensor | None]:
        """Runs of equal genre once the batch is sorted, and the sorting (None when it is sorted already)."""
        ids = genre_ids.tolist()
        for index in sorted(set(ids)):
            self._check_built(index)
        ordered = sorted(ids)
        groups, start = [], 0
        for index in sorted(set(ids)):
            stop = start + ids.count(index)
            groups.append(GenreGroup(genre_key(self.config.genres[index]), slice(start, stop)))
            start = stop
        return groups, None if ordered == ids else torch.argsort(genre_ids, stable=True)

    def forward(
        self,
        input_features: torch.Tensor,
        upper_codes: torch.Tensor,
        lower_codes: torch.Tensor,
        genre_ids: torch.Tensor,
        past_key_values: MegaDanceCache | None = None,
        use_cache: bool = False,
        output_hidden_states: bool = False,
        rhythm: torch.Tensor | None = None,
    ) -> MegaDanceModelOutput:
        """Args: see [`MegaDanceForMotionGeneration.forward`]."""
        batch, steps = upper_codes.shape
        if lower_codes.shape != upper_codes.shape:
            raise ValueError(
                f"lower_codes has shape {tuple(lower_codes.shape)}, but upper_codes {tuple(upper_codes.shape)}"
            )
        if steps == 0 or genre_ids.shape != (batch,) or input_features.shape[0] != batch:
            raise ValueError(
                f"a batch of {batch} needs upper_codes (batch, 1 or more), genre_ids ({batch},) and input_features "
                f"({batch}, frames, features), not {tuple(upper_codes.shape)}, {tuple(genre_ids.shape)} and "
                f"{tuple(input_features.shape)}"
            )
        cache = past_key_values
        if cache is None and use_cache:
            cache = MegaDanceCache(self.config, genre_ids, self.upper_embedding.weight.dtype)
        if cache is not None and not torch.equal(cache.genre_ids, genre_ids):
            raise ValueError(
                "genre_ids differ from those of past_key_values; make a new cache, or reset() it with them"
            )

        music = self.music_mlp(self._music_steps(input_features, steps, rhythm))
        codes = torch.stack((self.upper_embedding(upper_codes), self.lower_embedding(lower_codes)), dim=1)
        if self.config.music_to_codes:
            codes = codes + music[:, None]
        hidden = torch.cat((codes, music[:, None]), dim=1)
        if self.genre_embedding is not None:
            hidden = hidden + self.genre_embedding(genre_ids)[:, None, None]
        groups, order = self._group(genre_ids)
        if order is not None:
            hidden = hidden[order]
            inverse = torch.argsort(order)
        mask = self._mask(steps, 0 if cache is None else cache.position, hidden.device)
        if mask is not None:  # from one block to all 3x3, in the order in which attention has its positions
            mask = mask.repeat_interleave(NUM_STREAMS, 0).repeat_interleave(NUM_STREAMS, 1)

        def restore(tensor):
            return tensor if order is None else tensor[inverse]

        all_hidden = (restore(hidden),) if output_hidden_states else None
        for layer in self.layers:
            hidden = layer(hidden, groups, mask, cache)
            if output_hidden_states:
                all_hidden += (restore(hidden),)
        if cache is not None:
            cache.position += steps
        return MegaDanceModelOutput(restore(hidden), cache, all_hidden)

    def _mask(self, steps: int, past: int, device: torch.device) -> torch.Tensor | None:
        """One block of the 3x3 mask: [steps, keys in the ring + steps]; None where nothing is hidden."""
        if steps == 1:
            return None
        context = self.config.context_codes
        queries = torch.arange(past, past + steps, device=device)
        ring = torch.arange(min(past, context), device=device)
        if past > context:  # slot s holds the latest position p < past with p % context == s
            ring = past - 1 - (past - 1 - ring) % context
        return sliding_window_mask(queries, torch.cat((ring, queries)), context)


class MegaDanceForMotionGeneration(MegaDancePreTrainedModel, MegaDanceGenerationMixin):
    """The generator with its output layers: next upper-body and lower-body codes from the codes so far and the music."""

    def __init__(self, config: MegaDanceConfig):
        super().__init__(config)
        self.model = MegaDanceModel(config)
        # one for both streams
        self.output_mlp = FeedForward(
            config.hidden_size, config.output_hidden_size, config.codebook_size, config.mlp_activation
        )
        # the one that transformers derives from the configuration would not keep fields of its own when loaded
        self.generation_config = GenerationConfig(mode="paper", start_codes={})
        self.post_init()

    def set_music_statistics(self, mean, std) -> None:
        """See [`MegaDanceModel.set_music_statistics`]."""
        self.model.set_music_statistics(mean, std)

    def forward(
        self,
        input_features: torch.Tensor,
        upper_codes: torch.Tensor | None = None,
        lower_codes: torch.Tensor | None = None,
        genre_ids: torch.Tensor | None = None,
        upper_labels: torch.Tensor | None = None,
        lower_labels: torch.Tensor | None = None,
        past_key_values: MegaDanceCache | None = None,
        use_cache: bool = False,
        logits_to_keep: int = 0,
        output_hidden_states: bool = False,
        rhythm: torch.Tensor | None = None,
        rhythm_labels: torch.Tensor | None = None,
    ) -> MegaDanceMotionGenerationOutput:
        """Score the next codes.

        Args:
            input_features: [batch, frames, music_feature_size], raw features at `config.fps`; `frames_per_code` frames
                a code. Position i hears music step i, or i + 1 with `music_lookahead=1`; where the last position has no
                step left (its prediction lies beyond the music), it hears the last one again. One more step may be
                given then.
            upper_codes, lower_codes: [batch, time], 0 to codebook_size - 1. With a cache, only the new ones.
            genre_ids: [batch], see [`~MegaDancePreTrainedModel.genre_id`].
            upper_labels, lower_labels: [batch, time]: the codes themselves; they are shifted here, so that position i
                is compared with label i + 1. -100 is left out.
            past_key_values: cache of the positions before these; overwritten in place.
            use_cache: make a cache when none is given. Inference only: no gradient flows through a cache.
            logits_to_keep: only the last so many positions' logits; 0 for all.
            output_hidden_states: also give what each layer makes.
            rhythm: [batch, frames, 4], what `model.encode_rhythm` reads from the whole song, or known phases as
                `phase_vectors` writes them; read from these `input_features` when None. Without meaning for a model
                without rhythm encoder.
            rhythm_labels: [batch, frames, 4], known phases that the rhythm encoder learns; NaN where unknown. With them,
                and without codes and genres, nothing else is computed.

        Raises:
            ValueError: shapes that do not fit, a genre that is unknown or not built.
        """
        if (upper_labels is not None or lower_labels is not None) and logits_to_keep:
            raise ValueError(f"logits_to_keep={logits_to_keep} can't go together with labels; leave one of them out")
        rhythm_loss = None
        if rhythm_labels is not None:
            rhythm_loss = self._rhythm_loss(input_features, rhythm_labels)
            if upper_codes is None:
                return MegaDanceMotionGenerationOutput(rhythm_loss, rhythm_loss=rhythm_loss)
        if upper_codes is None or lower_codes is None or genre_ids is None:
            raise ValueError(
                "upper_codes, lower_codes and genre_ids are needed; only to learn rhythm_labels they are not"
            )
        outputs = self.model(
            input_features,
            upper_codes,
            lower_codes,
            genre_ids,
            past_key_values,
            use_cache,
            output_hidden_states,
            rhythm,
        )
        kept = outputs.last_hidden_state[:, :2, -logits_to_keep:]  # -0: all
        upper_logits, lower_logits = self.output_mlp(kept).unbind(1)
        losses = [
            F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten())
            for logits, labels in ((upper_logits, upper_labels), (lower_logits, lower_labels))
            if labels is not None
        ]
        if rhythm_loss is not None:
            losses.append(rhythm_loss)
        return MegaDanceMotionGenerationOutput(
            sum(losses) if losses else None,
            upper_logits,
            lower_logits,
            outputs.past_key_values,
            outputs.hidden_states,
            rhythm_loss,
        )

    def _rhythm_loss(self, input_features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if self.config.rhythm_size == 0:
            raise ValueError("rhythm_labels: this model has no rhythm encoder; leave them out, or set rhythm_size")
        known = ~labels.isnan()
        error = self.model.encode_rhythm(input_features).float() - labels.nan_to_num()
        return (error.square() * known).sum() / known.sum().clamp(min=1)


__all__ = [
    "MegaDanceCache",
    "MegaDanceForMotionGeneration",
    "MegaDanceModel",
    "MegaDanceModelOutput",
    "MegaDanceMotionGenerationOutput",
    "MegaDancePreTrainedModel",
]
