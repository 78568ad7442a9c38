"""The generator: codes of both body halves from music, with universal and genre experts (paper, section 3.3).

Three streams (upper-body codes, lower-body codes, music), one vector per code step each, pass through layers of experts.
An expert is a whole Mamba-attention-feed-forward block (`experts_megadance.py`); codes are embedded and scored in
`code_head_megadance.py`.
"""

import copy
import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.generation.configuration_utils import GenerationConfig
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import ModelOutput, logging

from .arguments_megadance import need_codes, need_counts, need_tensors
from .attention_megadance import mask_of_new_positions
from .attributes_megadance import AttributeEmbedding, check_attributes
from .backends_megadance import quantization_config
from .cache_megadance import STREAMS, MegaDanceCache
from .checkpoints_megadance import (
    HUB_ARGUMENTS,
    genre_of,
    only_genres,
    read_experts,
    remember_source,
    save_by_genre,
)
from .code_head_megadance import IGNORED, code_embedding, code_head
from .configuration_megadance import RHYTHM_SIZE, MegaDanceConfig
from .devices_megadance import computing_device, is_spread, layer_devices
from .errors_megadance import ModelError
from .experts_megadance import Expert, FeedForward, MegaDanceLayer
from .folders_megadance import ChecksFolder
from .generation_megadance import MegaDanceGenerationMixin
from .genres_megadance import match_genre
from .hearing_megadance import GenreHearing
from .kernels_megadance import ask_hub
from .mamba_megadance import Mamba
from .rhythm_megadance import RhythmEncoder, steady_rhythm
from .routing_megadance import Routing, check_genre_id, genre_key, integers_on, known_numbers, route

logger = logging.get_logger(__name__)

_MISSING = (
    "a forward pass scores given codes (model(..., upper_codes=..., lower_codes=..., genre_ids=...)); to dance to music use "
    "model.generate(**processor(song, genre=...))"
)


class OutputWithCache(ModelOutput):
    """`cache`, as transformers calls this field since 5.24, can be asked for as `past_key_values`, its name before, too."""

    @property
    def past_key_values(self) -> MegaDanceCache | None:
        return self.cache


@dataclass
class MegaDanceModelOutput(OutputWithCache):
    """Output of [`MegaDanceModel`].

    Args:
        last_hidden_state: [batch, 3, time, hidden]; streams in the order upper, lower, music.
        cache: the [`MegaDanceCache`], when one was used.
        hidden_states: what entered the first layer and what each layer gave, shaped like `last_hidden_state`.
        attentions: of each layer [batch, experts, heads, 3 time, 3 time]; the universal expert first, streams one after the other.
    """

    last_hidden_state: torch.Tensor | None = None
    cache: MegaDanceCache | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class MegaDanceMotionGenerationOutput(OutputWithCache):
    """Output of [`MegaDanceForMotionGeneration`].

    Args:
        loss: mean cross-entropy of the upper plus that of the lower stream, when labels were given, plus `rhythm_loss`.
        upper_logits, lower_logits: [batch, time, codebook_size], or of a factorised head the levels' logits side by side,
            [batch, time, sum(levels)]; position i scores code i + 1.
        cache, hidden_states, attentions: as in [`MegaDanceModelOutput`].
        rhythm_loss: mean squared error of the rhythm encoder, when `rhythm_labels` were given.
        upper_scores, lower_scores: [batch, time, codebook_size], with `output_code_scores=True`: scores of whole codes, whatever
            the head.
        code_states: [batch, 2, time, hidden], with `output_code_scores=True`: what the head scored.
    """

    loss: torch.Tensor | None = None
    upper_logits: torch.Tensor | None = None
    lower_logits: torch.Tensor | None = None
    cache: MegaDanceCache | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    rhythm_loss: torch.Tensor | None = None
    upper_scores: torch.Tensor | None = None
    lower_scores: torch.Tensor | None = None
    code_states: torch.Tensor | None = None


class MegaDancePreTrainedModel(ChecksFolder, PreTrainedModel):
    config_class = MegaDanceConfig
    base_model_prefix = "model"
    main_input_name = "input_features"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ["MegaDanceLayer"]
    _skip_keys_device_placement = ["attentions"]  # a list that is added to, not copied
    # MFCC reach -500: in bfloat16 the mean alone would be off by more than a spread
    _keep_in_fp32_modules_strict = ["music_mean", "music_std"]
    # genres that are in the checkpoint but not in `active_genres`
    _keys_to_ignore_on_load_unexpected = [r"layers\.\d+\.genre_experts\.genre_"]

    @property
    def device(self) -> torch.device:
        """Where inputs belong: the device of the first weights, or where a `device_map` has them computed."""
        device = super().device
        return computing_device(self) if device.type == "meta" or is_spread(self) else device

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, Mamba | RhythmEncoder | GenreHearing):
            module.init_weights()
        elif isinstance(module, nn.Linear | nn.Embedding):
            init.normal_(module.weight, std=self.config.initializer_range)
            if getattr(module, "bias", None) is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, MegaDanceModel):
            init.zeros_(module.music_mean)
            init.ones_(module.music_std)

    def set_use_kernels(self, use_kernels, *args, **kwargs):
        """As in transformers; here it is scan, step and convolution of the Mambas that come from the Hub, for all models of the process."""
        super().set_use_kernels(use_kernels, *args, **kwargs)
        if use_kernels:
            ask_hub()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, active_genres=None, quantization=None, **kwargs):
        """As in transformers, and one or a few genres can be asked for, or eight-bit weights.

        Args:
            active_genres: names of the genres to build and read, spelled as `match_genre` allows; those of the
                configuration, usually all, when None. Of a model saved with `shard_by_genre` the other genres' files
                are neither opened nor downloaded. `load_genres` adds more later.
            quantization: "int8" where `megadance_hf` is installed, short for `quantization_config=Int8Config()`. `dtype` should be
                float32 then, the default.

        Raises:
            GenreError: a genre that the model does not know; the message lists them.
            ValueError: the checkpoint lacks a genre's experts: an error, never random weights.
        """
        _check_attention(kwargs.get("attn_implementation"))
        if quantization is not None:
            kwargs["quantization_config"] = quantization_config(quantization)
        source = pretrained_model_name_or_path
        place = {name: kwargs[name] for name in HUB_ARGUMENTS if name in kwargs}
        if active_genres is None:  # AutoModel reads the argument into the configuration
            active_genres = getattr(kwargs.get("config"), "active_genres", None)
        if active_genres is None or source is None:
            loaded = cls._from_pretrained(source, *args, **kwargs)
        else:
            loaded = cls._load_genres_only(source, active_genres, place, *args, **kwargs)
        if source is not None:
            remember_source(loaded[0] if isinstance(loaded, tuple) else loaded, source, place)
        return loaded

    @classmethod
    def _load_genres_only(cls, source, active_genres, place, *args, **kwargs):
        config = kwargs.pop("config", None)
        if not isinstance(config, MegaDanceConfig):
            config = cls.config_class.from_pretrained(source if config is None else config, **place)
        config.active_genres = list(dict.fromkeys(match_genre(genre, config.genres) for genre in active_genres))
        with only_genres(source, [genre_key(genre) for genre in config.active_genres], **place) as folder:
            if folder is None:
                return cls._from_pretrained(source, *args, config=config, **kwargs)
            local = {name: value for name, value in kwargs.items() if name not in HUB_ARGUMENTS}
            try:
                loaded = cls._from_pretrained(folder, *args, config=config, **local)
            except ModelError as error:  # the folder that looks like the model is gone when this is read
                raise ModelError(str(error).replace(os.fspath(folder), os.fspath(source))) from error
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        model.name_or_path = model.config.name_or_path = os.fspath(source)  # not the folder, which is gone
        return loaded

    @classmethod
    def _from_pretrained(cls, *args, **kwargs):
        wants_info = kwargs.pop("output_loading_info", False)
        model, info = super().from_pretrained(*args, output_loading_info=True, **kwargs)
        # A view of the file would keep all of it in memory, also weights that were cast.
        for module in model.modules():
            for name, buffer in module.named_buffers(recurse=False):
                setattr(module, name, buffer.clone())
        absent = {genre_of(name) for name in info["missing_keys"]} - {None}
        if absent:
            missing = [genre for genre in model.config.built_genres if genre_key(genre) in absent]
            raise ValueError(
                f"active_genres={model.config.built_genres!r}: the checkpoint has no expert for {', '.join(missing)}; "
                "leave them out of active_genres, or load a checkpoint that was saved with them"
            )
        return (model, info) if wants_info else model

    def save_pretrained(self, save_directory, *args, shard_by_genre: bool = False, **kwargs):
        """As in transformers. `shard_by_genre` writes the weights in one file per genre (`checkpoints_megadance.py`)."""
        if not shard_by_genre:
            return super().save_pretrained(save_directory, *args, **kwargs)
        # everything but the weights; an empty state dict would be written as an empty file
        super().save_pretrained(save_directory, *args, state_dict={}, **kwargs)
        folder = Path(save_directory)
        (folder / "model.safetensors").unlink(missing_ok=True)
        save_by_genre(self.state_dict(), folder)

    def prepare_for_hub(self, folder) -> None:
        """Add the code, and write the weights in one file per genre: whoever wants one genre downloads one."""
        super().prepare_for_hub(folder)
        if self.config.use_genre_experts:
            for file in Path(folder).glob("model*.safetensors"):
                file.unlink()
            save_by_genre(self.state_dict(), folder)

    @torch.no_grad()
    def load_genres(self, source: str | os.PathLike, genres: Sequence[str], **hub) -> None:
        """Add the experts of further genres from a saved model, a folder or a Hub id, without reading anything else.

        Args:
            source: the model this one was loaded from, or one that fits to it.
            genres: names; those that are built already stay as they are.
            hub: `revision`, `token`, `cache_dir`, ... as in `from_pretrained`.

        Raises:
            GenreError: a genre that this model does not know. ValueError: `source` lacks a genre's experts, or they do not
                fit; the model is unchanged then.
        """
        names = list(dict.fromkeys(match_genre(genre, self.config.genres) for genre in genres))
        names = [name for name in names if name not in self.config.built_genres]
        layers = self.base_model.layers
        quantizer = getattr(self, "hf_quantizer", None)
        quantize = getattr(quantizer, "quantize", None)  # of the one that megadance_hf brings
        if quantizer is not None and quantize is None:
            raise ValueError(
                f"genres={names!r}: this model is quantized ({type(quantizer).__name__}); name them in active_genres when loading"
            )
        tensors = read_experts(source, [genre_key(name) for name in names], **hub)
        experts = {}
        for name in names:
            for index in range(len(layers)):
                marker = f"layers.{index}.genre_experts.{genre_key(name)}."
                state = {k.split(marker, 1)[1]: v for k, v in tensors.items() if marker in k}
                with torch.device("meta"):
                    expert = Expert(self.config)
                try:
                    device = computing_device(layers[index])
                    expert.load_state_dict({k: v.to(device, self.dtype) for k, v in state.items()}, assign=True)
                except RuntimeError as error:
                    raise ValueError(
                        f"genres={name!r}: {os.fspath(source)} has no such expert, or it does not fit "
                        f"({str(error).splitlines()[-1].strip()})"
                    ) from None
                if quantize is not None:
                    quantize(expert)
                experts[index, name] = expert.train(self.training)
        for (index, name), expert in experts.items():
            layers[index].genre_experts[genre_key(name)] = expert
        if names:
            self.config.active_genres = self.config.built_genres + names

    @torch.no_grad()
    def add_genre(self, genre: str, like: str | None = None) -> list[nn.Parameter]:
        """Add a genre with an expert in each layer (and a row of the genre embedding), to be trained on its dances.

        Nothing that other genres use changes.

        Args:
            genre: its name.
            like: the genre whose expert it begins with; the mean of all built experts when None.

        Returns:
            the parameters of the new experts.

        Raises:
            GenreError: `like` is unknown. ValueError: the genre is known already, or this model does not tell genres apart.
        """
        config, base = self.config, self.base_model
        if not (config.use_genre_experts or config.genre_embedding):
            raise ValueError(f"genre={genre!r}: this model has neither genre experts nor a genre embedding to add to")
        if getattr(self, "hf_quantizer", None) is not None:
            raise ValueError(
                f"genre={genre!r}: this model is quantized and can't be trained; load it without quantization"
            )
        alike = {name for name in config.genres if genre_key(name).casefold() == genre_key(genre).casefold()}
        if alike or not any(character.isalnum() for character in genre):
            raise ValueError(f"genre={genre!r} is known already or no name; the genres are {', '.join(config.genres)}")
        sources = config.built_genres if like is None else [config.genres[self.genre_id(like)]]
        rows = [config.label2id[name] for name in sources]
        added = []
        for layer in base.layers if config.use_genre_experts else ():
            experts = [layer.genre_experts[genre_key(name)] for name in sources]
            expert = copy.deepcopy(experts[0])
            for name, parameter in expert.named_parameters():
                parameter.copy_(torch.stack([other.get_parameter(name).float() for other in experts]).mean(0))
            layer.genre_experts[genre_key(genre)] = expert
            added.extend(expert.parameters())
        if base.genre_embedding is not None:
            old = base.genre_embedding.weight
            new = torch.cat((old, old[rows].float().mean(0, keepdim=True).to(old)))
            base.genre_embedding = nn.Embedding.from_pretrained(new, freeze=not old.requires_grad)
        if (hearing := getattr(self, "hearing", None)) is not None:
            hearing.add_genre()
        number = len(config.genres)
        config.id2label = {**config.id2label, number: genre}
        config.label2id = {**config.label2id, genre: number}
        if config.active_genres is not None:
            config.active_genres = [*config.active_genres, genre]
        return added

    def make_cache(self, genre_ids: torch.Tensor, backend: str = "auto") -> MegaDanceCache:
        """An empty cache for dances of these genres, `genre_ids` [batch]: the `cache` of `forward`, which fills it in place.

        `backend` as in `generate`.
        """
        base, device = self.base_model, self.device
        devices = layer_devices(base.layers) if is_spread(self) else [computing_device(layer) for layer in base.layers]
        return MegaDanceCache(self.config, genre_ids, base.embedding_dtype, backend, devices, device)

    def _check_and_adjust_attn_implementation(self, attn_implementation: str | None, *args, **kwargs) -> str:
        _check_attention(attn_implementation)
        return super()._check_and_adjust_attn_implementation(attn_implementation, *args, **kwargs)

    def get_input_embeddings(self) -> nn.Module:
        """Of the upper body; there are two. peft asks for it, to let gradients into a frozen model."""
        return self.base_model.upper_embedding

    def set_input_embeddings(self, value: nn.Module):
        raise ValueError("there are two input embeddings: set model.upper_embedding and model.lower_embedding")

    def resize_token_embeddings(self, *args, **kwargs):
        raise ValueError("the motion tokenizer determines the codes, codebook_size: train a model for another one")

    def _cache_for(
        self, genre_ids: torch.Tensor | Sequence[int] | None, cache: MegaDanceCache | None, use_cache: bool | None
    ) -> MegaDanceCache | None:
        """The cache of this call: the given one, a new one where it is asked for, or None."""
        checkpointing = self.training and any(layer.gradient_checkpointing for layer in self.base_model.layers)
        if checkpointing and (cache is not None or use_cache):
            if cache is not None:
                raise ValueError("cache can't go together with gradient checkpointing: leave it out in training")
            logger.warning_once("`use_cache=True` can't go together with gradient checkpointing: no cache is made.")
            return None
        if cache is not None or genre_ids is None or use_cache is False:
            return cache
        known = known_numbers(genre_ids)
        genres: Any = genre_ids if known is None else torch.tensor(known)  # a cache routes them on the host
        if use_cache:
            return self.make_cache(genres)
        by_config = self.config.use_cache and not self.training
        return self.make_cache(genres, "torch") if by_config else None

    def _asked(self, name: str, value: bool | None) -> bool:
        """An argument of `forward`, or where it is None the configuration's."""
        return bool(getattr(self.config, name) if value is None else value)

    def genre_id(self, genre: str) -> int:
        """Id of a genre name, for `genre_ids`, spelled as `match_genre` allows.

        Raises:
            GenreError: no such genre; the message lists the genres and the nearest spelling.
            ValueError: the genre is not among those this model was built with.
        """
        index = self.config.label2id[match_genre(genre, self.config.genres)]
        check_genre_id(index, self.config)
        return index

    def num_active_parameters(self) -> int:
        """Parameters that one dance uses: all but the experts of the other genres."""
        experts = [list(layer.genre_experts.values()) for layer in self.base_model.layers if layer.genre_experts]
        unused = [parameter for others in experts for expert in others[1:] for parameter in expert.parameters()]
        return sum(parameter.numel() for parameter in self.parameters()) - sum(map(torch.numel, unused))


def _check_attention(name: Any) -> None:
    """Refuse attention functions of transformers, and kernels of the Hub, that know masks of text only."""
    if isinstance(name, str) and (name.startswith(("paged|", "flash_", "flex_")) or "/" in name):
        raise ValueError(
            f"attn_implementation={name!r} has no sliding window over three streams: use 'sdpa', 'eager', or a function of your "
            "own that is registered with transformers.AttentionInterface"
        )


def _one_cache(cache: MegaDanceCache | None, past_key_values: MegaDanceCache | None) -> MegaDanceCache | None:
    if cache is not None and past_key_values is not None:
        raise ValueError("cache and past_key_values are two names of the same argument; give one of them")
    return past_key_values if cache is None else cache


class MegaDanceModel(MegaDancePreTrainedModel):
    """Embeddings and layers: codes and music in, one vector per stream and code step out."""

    _keys_to_ignore_on_load_unexpected = [
        *MegaDancePreTrainedModel._keys_to_ignore_on_load_unexpected,
        r"^(output_mlp|hearing)\.",
    ]

    def __init__(self, config: MegaDanceConfig):
        config.validate()  # from_pretrained sets fields after the configuration checked itself
        super().__init__(config)
        keys = [genre_key(genre) for genre in config.genres]
        if len(set(keys)) < len(keys):
            raise ValueError(f"id2label={config.genres!r}: genres must differ in letters, digits or underscores")
        hidden = config.hidden_size
        self.upper_embedding = code_embedding(config)
        self.lower_embedding = code_embedding(config)
        self.rhythm_encoder = RhythmEncoder(config) if config.rhythm_size else None
        self.music_mlp = FeedForward(config.music_step_size, config.music_hidden_size, hidden, config.mlp_activation)
        self.genre_embedding = nn.Embedding(len(keys), hidden) if config.genre_embedding else None
        self.attribute_embedding = AttributeEmbedding(len(config.attributes), hidden) if config.attributes else None
        self.layers = nn.ModuleList(MegaDanceLayer(config, index) for index in range(config.num_hidden_layers))
        # persistent, because buffers that are not are lost in from_pretrained
        self.register_buffer("music_mean", torch.zeros(config.music_feature_size))
        self.register_buffer("music_std", torch.ones(config.music_feature_size))
        self.post_init()

    def generate(self, *args, **kwargs):
        raise ValueError(
            "MegaDanceModel has no head to generate with: load MegaDanceForMotionGeneration or AutoModelForCausalLM"
        )

    @property
    def embedding_dtype(self) -> torch.dtype:
        """The type that hidden states begin with."""
        return next(self.upper_embedding.parameters()).dtype

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
        features = input_features.to(self.music_mean.device, torch.float32)
        return (features - self.music_mean.float()) / self.music_std.float()

    def encode_rhythm(
        self, input_features: torch.Tensor, attention_mask: torch.Tensor | None = None
    ) -> torch.Tensor | None:
        """Beat and bar of raw features: [batch, frames, music_feature_size] -> [batch, frames, 4].

        Cosine and sine of the beat's phase, then of the bar's; shorter vectors where they are uncertain. The longer the
        piece of music the better. `attention_mask` [batch, frames] is 1 for music and 0 for padding. None for a model
        without rhythm encoder.
        """
        rhythm = self.read_rhythm(input_features, attention_mask)
        if rhythm is None or self.config.rhythm_tempo == "free":
            return rhythm
        return steady_rhythm(rhythm, attention_mask)

    def read_rhythm(
        self, input_features: torch.Tensor, attention_mask: torch.Tensor | None = None
    ) -> torch.Tensor | None:
        """`encode_rhythm` as the encoder reads it from a frame's neighbourhood, whatever `rhythm_tempo`: what it is trained on."""
        if self.rhythm_encoder is None:
            return None
        features = self._normalize_music(input_features)
        mask = None if attention_mask is None else attention_mask.to(features.device)
        return self.rhythm_encoder(features.to(self.embedding_dtype), mask).to(features.device)

    def encode_music(self, input_features: torch.Tensor, rhythm: torch.Tensor | None = None) -> torch.Tensor:
        """The music as each position gets it: raw [batch, frames, music_feature_size] -> [batch, whole code steps, hidden].

        `music_embeds` of `forward` are pieces of it, so that a song need not be read anew for each code. `rhythm` as there.
        """
        steps = input_features.shape[1] // self.config.frames_per_code
        return self.music_mlp(self._music_steps(input_features, steps, rhythm))

    def encode_attributes(self, attributes: torch.Tensor, steps: int) -> torch.Tensor:
        """What is added to the music of each position where attributes are asked of its code: [batch, steps or one more, attributes]
        -> [batch, steps, hidden]. Position i gets those of code i + 1, which it predicts; where none is left, the last ones again."""
        assert self.attribute_embedding is not None
        following = torch.cat((attributes[:, 1:], attributes[:, -1:]), dim=1)[:, :steps]
        return self.attribute_embedding(following.to(self.device))

    def encode_no_music(self) -> torch.Tensor:
        """What stands for music where there is none, [hidden]: features at their mean and no rhythm, as training's dropout of music."""
        frames = self.config.frames_per_code
        features = self.music_mean.float().expand(1, frames, -1)
        rhythm = features.new_zeros(1, frames, RHYTHM_SIZE) if self.config.rhythm_size else None
        return self.encode_music(features, rhythm)[0, 0]

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
                f"codes; give {config.frames_per_code} frames per code"
            )
        frames = available * config.frames_per_code
        features = self._normalize_music(input_features[:, :frames])
        if config.music_columns is not None:
            features = features[..., config.music_columns]
        if config.rhythm_size:
            if rhythm is None:
                rhythm = self.encode_rhythm(input_features)
            assert rhythm is not None
            features = torch.cat((features, rhythm[:, :frames].to(features)), dim=-1)
        # [batch, steps, frames per code, features]
        features = features.unflatten(1, (available, config.frames_per_code))
        if config.music_reduction == "stride":
            music = features[:, :, 0]
        elif config.music_reduction == "mean":
            music = features.mean(2)
        else:
            music = features.flatten(2)
        if config.music_lookahead:
            if available == steps:
                music = torch.cat((music, music[:, -1:]), dim=1)
            music = music[:, 1:]  # position i, which predicts code i + 1, gets step i + 1
        return music.to(self.embedding_dtype)

    def forward(
        self,
        input_features: torch.Tensor | None = None,
        upper_codes: torch.Tensor | None = None,
        lower_codes: torch.Tensor | None = None,
        genre_ids: torch.Tensor | Sequence[int] | None = None,
        cache: MegaDanceCache | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        rhythm: torch.Tensor | None = None,
        positions_to_keep: int = 0,
        music_embeds: torch.Tensor | None = None,
        past_key_values: MegaDanceCache | None = None,
        attention_mask: torch.Tensor | None = None,
        num_frames: Sequence[int] | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        attributes: torch.Tensor | None = None,
    ) -> MegaDanceModelOutput | tuple:
        """Args: see [`MegaDanceForMotionGeneration.forward`]. `last_hidden_state` has only the last `positions_to_keep`
        positions when that is not 0, and nothing is computed for the others that these do not need."""
        cache = self._cache_for(genre_ids, _one_cache(cache, past_key_values), use_cache)
        output_hidden_states = self._asked("output_hidden_states", output_hidden_states)
        attentions: list[torch.Tensor] | None = [] if self._asked("output_attentions", output_attentions) else None
        if attentions is not None and cache is not None and cache.position > 0:
            raise ValueError(
                "output_attentions=True: a cache has no attention of the positions before; give all codes without one"
            )
        hidden, routing = self.embed(
            input_features,
            upper_codes,
            lower_codes,
            genre_ids,
            cache=cache,
            rhythm=rhythm,
            music_embeds=music_embeds,
            attention_mask=attention_mask,
            num_frames=num_frames,
            attributes=attributes,
        )
        steps, past = hidden.shape[2], 0 if cache is None else cache.position
        context, cached = self.config.context_codes, cache is not None
        mask = mask_of_new_positions(steps, past, context, len(STREAMS), hidden.device, cached)
        all_hidden = [routing.restore(hidden)] if output_hidden_states else []
        for layer in self.layers:
            # attention weights of a layer are of all its queries, whichever expert made them
            keep = positions_to_keep if layer is self.layers[-1] and attentions is None else 0
            hidden = layer(hidden, routing, mask, cache, keep, attentions=attentions)
            if output_hidden_states:
                all_hidden.append(routing.restore(hidden))
        if cache is not None:
            cache.position += steps
        output = MegaDanceModelOutput(
            routing.restore(hidden[:, :, -positions_to_keep:]),  # -0: all
            cache,
            tuple(all_hidden) if output_hidden_states else None,
            None if attentions is None else tuple(routing.restore(weights) for weights in attentions),
        )
        return output if self._asked("return_dict", return_dict) else output.to_tuple()

    def embed(
        self,
        input_features: torch.Tensor | None = None,
        upper_codes: torch.Tensor | None = None,
        lower_codes: torch.Tensor | None = None,
        genre_ids: torch.Tensor | Sequence[int] | None = None,
        cache: MegaDanceCache | None = None,
        rhythm: torch.Tensor | None = None,
        music_embeds: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        num_frames: Sequence[int] | None = None,
        attributes: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, Routing]:
        """What enters the first layer, [batch sorted by genre, 3, time, hidden], and how it is sorted. Arguments as in `forward`."""
        known_genres = known_numbers(genre_ids)
        if known_genres is not None and upper_codes is not None:
            genre_ids = integers_on(upper_codes.device, known_genres)
        need_tensors(_MISSING, upper_codes=upper_codes, lower_codes=lower_codes, genre_ids=genre_ids)
        assert upper_codes is not None and lower_codes is not None and genre_ids is not None
        need_codes(upper_codes=upper_codes, lower_codes=lower_codes, genre_ids=genre_ids)
        assert isinstance(genre_ids, torch.Tensor)
        if upper_codes.dim() != 2:
            raise ValueError(f"upper_codes has shape {tuple(upper_codes.shape)}; expected (batch, codes)")
        batch, steps = upper_codes.shape
        if lower_codes.shape != upper_codes.shape:
            raise ValueError(
                f"lower_codes has shape {tuple(lower_codes.shape)}, but upper_codes {tuple(upper_codes.shape)}"
            )
        if (input_features is None) == (music_embeds is None):
            raise ValueError("give either input_features or music_embeds, not both of them or neither")
        music = input_features if music_embeds is None else music_embeds
        assert music is not None
        if steps == 0 or genre_ids.shape != (batch,) or music.shape[0] != batch:
            raise ValueError(
                f"a batch of {batch} needs upper_codes (batch, 1 or more), genre_ids ({batch},) and input_features "
                f"({batch}, frames, features), not {tuple(upper_codes.shape)}, {tuple(genre_ids.shape)} and "
                f"{tuple(music.shape)}"
            )
        need_counts(num_frames, batch)
        if attention_mask is not None and (music_embeds is not None or attention_mask.shape != music.shape[:2]):
            raise ValueError(
                f"attention_mask has shape {tuple(attention_mask.shape)}; it is for input_features, {tuple(music.shape[:2])}"
            )
        if music_embeds is not None and music_embeds.shape != (batch, steps, self.config.hidden_size):
            raise ValueError(
                f"music_embeds has shape {tuple(music_embeds.shape)}; these codes need "
                f"{(batch, steps, self.config.hidden_size)}"
            )
        checks = not torch.compiler.is_compiling()
        if checks and cache is None and upper_codes.device.type == "cpu":  # on other devices looking would be waiting
            for name, codes in (("upper_codes", upper_codes), ("lower_codes", lower_codes)):
                if not 0 <= int(codes.min()) <= int(codes.max()) < self.config.codebook_size:
                    raise ValueError(f"{name} has codes outside 0 to {self.config.codebook_size - 1}")
        # the cache's own need no look, for which a device would be waited for
        is_own = cache is not None and genre_ids is cache.genre_ids
        if checks and not is_own and cache is not None:
            own = cache.genre_ids
            if not torch.equal(own, genre_ids.to(own.device)):
                raise ValueError("genre_ids differ from those of the cache; make a new cache, or reset() it with them")

        if input_features is not None:
            if rhythm is None and attention_mask is not None:
                rhythm = self.encode_rhythm(input_features, attention_mask)
            music = self.music_mlp(self._music_steps(input_features, steps, rhythm))
        if attributes is not None:  # not in the paper
            if music_embeds is not None:
                raise ValueError(
                    "attributes are part of music_embeds (encode_attributes): give input_features with them"
                )
            asked = check_attributes(attributes, batch, (steps, steps + 1), self.config.attributes)
            music = music + self.encode_attributes(asked, steps).to(music.device)
        hidden = self.join_streams(upper_codes, lower_codes, music, genre_ids)
        routing = route(genre_ids, self.config, known_genres) if cache is None else cache.routing
        return routing.sort(hidden), routing

    def join_streams(
        self, upper_codes: torch.Tensor, lower_codes: torch.Tensor, music: torch.Tensor, genre_ids: torch.Tensor
    ) -> torch.Tensor:
        """Codes [batch, time] and music as `encode_music` gives it, [batch, time, hidden] -> what enters the first layer, [batch, 3, time,
        hidden]."""
        upper, lower = (
            embedding(codes).to(music.device)  # a device_map may have spread these, too
            for embedding, codes in ((self.upper_embedding, upper_codes), (self.lower_embedding, lower_codes))
        )
        if torch.compiler.is_compiling() and upper_codes.shape[1] == 1:  # one kernel, not one for each part
            stream = torch.arange(len(STREAMS), device=music.device).view(-1, 1, 1)
            codes = torch.where(stream == 0, upper[:, None], lower[:, None])
            codes = codes + music[:, None] if self.config.music_to_codes else codes
            hidden = torch.where(stream == STREAMS.index("music"), music[:, None], codes)
        else:
            codes = torch.stack((upper, lower), dim=1)
            if self.config.music_to_codes:
                codes = codes + music[:, None]
            hidden = torch.cat((codes, music[:, None]), dim=1)
        if self.genre_embedding is not None:
            hidden = hidden + self.genre_embedding(genre_ids).to(hidden.device)[:, None, None]
        return hidden


def _labels_in_one(forward: Callable) -> Callable:
    """Show only `labels` in the signature: `Trainer` evaluates batches that have every argument with "label" in its name."""
    signature = inspect.signature(forward)
    shown = [one for name, one in signature.parameters.items() if not name.endswith("_labels")]
    forward.__signature__ = signature.replace(parameters=shown)  # type: ignore[attr-defined]
    return forward


class MegaDanceForMotionGeneration(MegaDancePreTrainedModel, MegaDanceGenerationMixin):
    """The generator with its output layers: next upper-body and lower-body codes from the codes so far and the music."""

    accepts_loss_kwargs = True  # Trainer gives num_items_in_batch

    def __init__(self, config: MegaDanceConfig):
        super().__init__(config)
        self.loss_type = "ForCausalLM"  # Trainer counts no first labels then, which are not compared with anything
        self.model = MegaDanceModel(config)
        self.output_mlp = code_head(config)  # one for both streams
        self.hearing = GenreHearing(config) if config.hears_genres else None
        # the one that transformers derives from the configuration would not keep fields of its own when loaded
        self.generation_config = GenerationConfig(mode="paper", start_codes={})
        self.post_init()

    def set_music_statistics(self, mean, std) -> None:
        """See [`MegaDanceModel.set_music_statistics`]."""
        self.model.set_music_statistics(mean, std)

    @torch.no_grad()
    def hear_genre(
        self, input_features: torch.Tensor, attention_mask: torch.Tensor | None = None
    ) -> torch.Tensor | None:
        """Which of its genres a song is for: raw features [batch, frames, music_feature_size] -> probabilities [batch, genres].

        They are about equal for a song that is for none of them. `attention_mask` [batch, frames] is 1 for music and 0 for padding. None for
        a model that cannot hear (`config.hears_genres`).
        """
        if self.hearing is None:
            return None
        rhythm = self.model.read_rhythm(input_features, attention_mask)
        assert rhythm is not None
        return self.hearing(input_features.to(rhythm.device), rhythm, attention_mask)

    @_labels_in_one
    def forward(
        self,
        input_features: torch.Tensor | None = None,
        upper_codes: torch.Tensor | None = None,
        lower_codes: torch.Tensor | None = None,
        genre_ids: torch.Tensor | Sequence[int] | None = None,
        upper_labels: torch.Tensor | None = None,
        lower_labels: torch.Tensor | None = None,
        cache: MegaDanceCache | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        output_hidden_states: bool | None = None,
        rhythm: torch.Tensor | None = None,
        rhythm_labels: torch.Tensor | None = None,
        music_embeds: torch.Tensor | None = None,
        past_key_values: MegaDanceCache | None = None,
        attention_mask: torch.Tensor | None = None,
        num_frames: Sequence[int] | None = None,
        labels: torch.Tensor | None = None,
        output_attentions: bool | None = None,
        output_code_scores: bool = False,
        num_items_in_batch: int | torch.Tensor | None = None,
        return_dict: bool | None = None,
        attributes: torch.Tensor | None = None,
    ) -> MegaDanceMotionGenerationOutput | tuple:
        """Score the next codes.

        Args:
            input_features: [batch, frames, music_feature_size], raw features at `config.fps`; `frames_per_code` frames
                per code. Position i gets music step i, or i + 1 with `music_lookahead=1`; where no step is left for the last
                position (its prediction lies beyond the music), it gets the last one again. One more step may be given then.
            upper_codes, lower_codes: [batch, time], 0 to codebook_size - 1. With a cache, only the new ones. `labels`, which
                are the same, when None.
            genre_ids: [batch], see [`~MegaDancePreTrainedModel.genre_id`]. A list spares a GPU the question which they are.
            upper_labels, lower_labels: [batch, time]: the codes themselves; they are shifted here, so that position i
                is compared with label i + 1. -100 is left out.
            cache: of the positions before these, see `make_cache`; overwritten in place.
            use_cache: make a cache when none is given; when None, outside of training as `config.use_cache` says. No gradient
                flows into positions of earlier calls.
            logits_to_keep: only the last so many positions' logits; 0 for all.
            output_hidden_states, output_attentions, return_dict: as in transformers; the configuration's when None. Attention
                weights are computed eagerly.
            rhythm: [batch, frames, 4], what `model.encode_rhythm` reads from the whole song, or known phases as
                `phase_vectors` writes them; read from these `input_features` when None. Without meaning for a model
                without rhythm encoder.
            rhythm_labels: [batch, frames, 4], known phases that the rhythm encoder learns; NaN where unknown. With them,
                and without codes and genres, nothing else is computed.
            music_embeds: [batch, time, hidden_size], these positions of what `model.encode_music` makes of a song, instead of
                `input_features` and `rhythm`.
            past_key_values: the name that `cache` has in transformers before 5.24.
            attention_mask: [batch, frames], 1 for music and 0 for padding, which the rhythm encoder must not use. Nothing
                else needs it: what follows a code never changes it.
            num_frames: [batch], as the processor counts the songs' frames; only its length is looked at, so that
                `model(**processor(...), upper_codes=..., lower_codes=...)` works.
            labels: [batch, 2, time], `upper_labels` and `lower_labels` in one tensor, as `Trainer` wants them (for other labels name
                them in its `label_names`).
            output_code_scores: also score whole codes (`upper_scores`, `lower_scores`) where a factorised head scores levels.
            attributes: [batch, attributes] or [batch, time, attributes], what is asked of each code with `input_features`, quantiles from 0
                to 1 in the order of `config.attributes`; NaN, or None, asks for nothing. One more step may be given, as of music.
            num_items_in_batch: labels of all the batches that make one step, of both streams; the loss is their sum, divided by
                half of it, instead of the mean. `Trainer` gives it when it accumulates gradients.

        Raises:
            ValueError: codes or genres are missing, shapes that do not fit, a genre that is unknown or not built.
        """
        if labels is not None:
            upper_labels, lower_labels = self._labels(labels, upper_labels, lower_labels)
            if upper_codes is None and lower_codes is None:
                if not torch.compiler.is_compiling() and (labels == IGNORED).any():
                    raise ValueError(
                        f"labels have {IGNORED}, so that codes are missing: give upper_codes and lower_codes too"
                    )
                upper_codes, lower_codes = labels.unbind(1)
        for name, given in (("upper_labels", upper_labels), ("lower_labels", lower_labels)):
            if given is not None and upper_codes is not None and given.shape != upper_codes.shape:
                raise ValueError(f"{name} has shape {tuple(given.shape)}, but upper_codes {tuple(upper_codes.shape)}")
        if (upper_labels is not None or lower_labels is not None) and logits_to_keep:
            raise ValueError(f"logits_to_keep={logits_to_keep} can't go together with labels; leave one of them out")
        as_dict = self._asked("return_dict", return_dict)
        rhythm_loss = None
        if rhythm_labels is not None:
            need_tensors("give the music whose rhythm is known", input_features=input_features)
            assert input_features is not None
            rhythm_loss = self._rhythm_loss(input_features, rhythm_labels, attention_mask)
            if upper_codes is None:
                output = MegaDanceMotionGenerationOutput(rhythm_loss, rhythm_loss=rhythm_loss)
                return output if as_dict else output.to_tuple()
        cache = self._cache_for(genre_ids, _one_cache(cache, past_key_values), use_cache)
        inputs: dict[str, Any] = {
            "input_features": input_features,
            "upper_codes": upper_codes,
            "lower_codes": lower_codes,
            "genre_ids": genre_ids,
            "cache": cache,
            "rhythm": rhythm,
            "music_embeds": music_embeds,
            "attention_mask": attention_mask,
            "num_frames": num_frames,
            "attributes": attributes,
        }
        output_hidden_states = self._asked("output_hidden_states", output_hidden_states)
        output_attentions = self._asked("output_attentions", output_attentions)
        states, head, outputs = self._code_states(inputs, logits_to_keep, output_hidden_states, output_attentions)
        next_codes = None
        if self.config.level_decoding == "sequential":
            next_codes = self._next_codes(upper_codes, lower_codes, upper_labels, lower_labels, states.shape[2])
        logits = head(states, next_codes)
        upper_logits, lower_logits = logits.unbind(1)
        losses = [
            self._code_loss(logits[:, :-1], labels[:, 1:], num_items_in_batch)
            for logits, labels in ((upper_logits, upper_labels), (lower_logits, lower_labels))
            if labels is not None
        ]
        if rhythm_loss is not None:
            losses.append(rhythm_loss.to(losses[0].device) if losses else rhythm_loss)
        output = MegaDanceMotionGenerationOutput(
            sum(losses) if losses else None,
            upper_logits,
            lower_logits,
            cache,
            outputs.hidden_states,
            outputs.attentions,
            rhythm_loss,
        )
        if output_code_scores:
            scores = logits if self.config.code_head == "joint" else head.over_codes(states)
            output.upper_scores, output.lower_scores = scores.unbind(1)
            output.code_states = states
        return output if as_dict else output.to_tuple()

    def _code_states(
        self, inputs: dict[str, Any], keep: int, output_hidden_states: bool = False, output_attentions: bool = False
    ) -> tuple[torch.Tensor, Any, MegaDanceModelOutput]:
        """What the head scores, [batch, 2, time or `keep`, hidden], the head, and inner values where they are asked for; `inputs` are
        arguments of `MegaDanceModel.forward`."""
        cache = inputs["cache"]
        # A backend, where one serves, computes the layers and the head: without gradients, dropout and inner values, and not in a graph.
        inference = not (self.training or output_hidden_states or output_attentions or torch.is_grad_enabled())
        inference = inference and not (torch.compiler.is_compiling() or torch.is_autocast_enabled(self.device.type))
        stepper = cache.stepper(self) if cache is not None and inference else None
        if cache is None or stepper is None:
            outputs = self.model(
                **inputs,
                use_cache=False,
                output_hidden_states=output_hidden_states,
                output_attentions=output_attentions,
                positions_to_keep=keep,
                return_dict=True,
            )
            states = outputs.last_hidden_state[:, :2, -keep:]  # -0: all
            if is_spread(self):
                states = states.to(computing_device(self.output_mlp))
            return states, self.output_mlp, outputs
        hidden, routing = self.model.embed(**inputs)
        states = routing.restore(stepper(hidden, keep))
        cache.position += hidden.shape[2]
        return states, stepper.head, MegaDanceModelOutput()

    def get_output_embeddings(self) -> nn.Module:
        """The last layer of the head."""
        return self.output_mlp.fc2

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        self.output_mlp.fc2 = new_embeddings

    @staticmethod
    def _labels(
        labels: torch.Tensor, upper_labels: torch.Tensor | None, lower_labels: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if upper_labels is not None or lower_labels is not None:
            raise ValueError("labels holds both streams; leave upper_labels and lower_labels out")
        need_codes(labels=labels)
        if labels.dim() != 3 or labels.shape[1] != 2:
            raise ValueError(
                f"labels has shape {tuple(labels.shape)}; expected (batch, 2, codes), the upper body first"
            )
        upper, lower = labels.unbind(1)
        return upper, lower

    @staticmethod
    def _next_codes(
        upper_codes: torch.Tensor | None,
        lower_codes: torch.Tensor | None,
        upper_labels: torch.Tensor | None,
        lower_labels: torch.Tensor | None,
        steps: int,
    ) -> torch.Tensor:
        """The code that each of the last `steps` positions scores, [batch, 2, steps]: the label, where there is none the code
        that follows, and -1 for the last position."""
        streams = []
        for codes, labels in ((upper_codes, upper_labels), (lower_codes, lower_labels)):
            assert codes is not None
            following = codes if labels is None else torch.where(labels == IGNORED, codes, labels)
            streams.append(nn.functional.pad(following[:, 1:], (0, 1), value=-1)[:, -steps:])
        return torch.stack(streams, dim=1)

    def _code_loss(
        self, logits: torch.Tensor, labels: torch.Tensor, num_items_in_batch: int | torch.Tensor | None
    ) -> torch.Tensor:
        """Mean cross-entropy of the codes of one stream, whose logits and labels are already next to each other."""
        labels = labels.to(logits.device)
        total = self.output_mlp.cross_entropy(logits, labels).sum()
        if num_items_in_batch is None:
            return total / (labels != IGNORED).sum()
        count = (
            num_items_in_batch.to(total.device) if isinstance(num_items_in_batch, torch.Tensor) else num_items_in_batch
        )
        return 2 * total / count  # there are two streams, and the loss is the sum of their means

    def _rhythm_loss(
        self, input_features: torch.Tensor, labels: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        if self.config.rhythm_size == 0:
            raise ValueError("rhythm_labels: this model has no rhythm encoder; leave them out, or set rhythm_size")
        rhythm = self.model.read_rhythm(input_features, mask)
        assert rhythm is not None
        labels = labels.to(rhythm.device)
        known = ~labels.isnan()
        error = rhythm.float() - labels.nan_to_num()
        return (error.square() * known).sum() / known.sum().clamp(min=1)
