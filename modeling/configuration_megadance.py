"""Configurations: every shape, switch, rate and loss weight of the models, typed and validated.

Where the paper's text and the authors' two releases differ, a switch offers all. The defaults are the paper's full size in the
arrangement of the 2025 release; `MegaDanceConfig.paper()`, `.released_2025()` and `.released_2026()` set every switch.
"""

import copy
import math
import os
from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict  # as transformers' own configurations do
from transformers.configuration_utils import PreTrainedConfig

from .attributes_megadance import ATTRIBUTES, QUANTILES
from .errors_megadance import one_line
from .genres_megadance import FINEDANCE_GENRES
from .kinematics_megadance import NUM_JOINTS
from .music_features_megadance import MUSIC_FEATURE_SIZE
from .quantizers_megadance import BUILT_IN, find_quantizer
from .remote_code_megadance import PIPELINES, TASK, NamesCode, task_is_registered

MOTION_FPS = 30
FRAMES_PER_CODE = 8
RHYTHM_SIZE = 4  # cosine and sine of the beat's phase, cosine and sine of the bar's


def _require(config: Any, name: str, fits: bool, remedy: str, *shown: Any) -> None:
    """Raises ValueError about a field, with its value or what is `shown` instead, unless it `fits`."""
    if not fits:
        value = shown[0] if shown else getattr(config, name)
        raise ValueError(f"{name}={value!r} is not possible: {remedy}")


# Larger sizes are mistakes, refused before anything of that size is built.
MAX_SIZES = {
    "codebook_size": 1_000_000,
    "hidden_size": 16_384,
    "num_hidden_layers": 256,
    "num_attention_heads": 1024,
    "intermediate_size": 131_072,
    "state_size": 4096,
    "conv_kernel": 256,
    "expand": 64,
    "time_step_rank": 65_536,
    "music_feature_size": 16_384,
    "music_hidden_size": 131_072,
    "output_hidden_size": 131_072,
    "context_codes": 100_000,
    "slide_codes": 100_000,
    "training_codes": 100_000,
    "frames_per_code": 4096,
    "fps": 1000,
    "rhythm_layers": 64,
    "num_outputs": 100_000,
    "code_size": 16_384,
    "num_downsamples": 12,
    "residual_depth": 64,
    "residual_dilation": 64,
}
MAX_GENRES, MAX_LETTERS = 10_000, 200


def _require_sizes(config: Any) -> None:
    for name, largest in MAX_SIZES.items():
        value = getattr(config, name) if name in config.__dataclass_fields__ else None
        _require(config, name, value is None or 1 <= value <= largest, f"use 1 to {largest}")


def _require_weights(config: Any, names: str, highest: float = 1e6) -> None:
    for name in names.split():
        _require(config, name, 0 <= getattr(config, name) <= highest, f"use 0 to {highest:g}")


def _require_heads(config: Any) -> None:
    heads = config.num_attention_heads
    _require(
        config, "hidden_size", config.hidden_size % heads == 0, f"it must be a multiple of num_attention_heads={heads}"
    )


def _require_labels(config: Any) -> list[str]:
    labels = list(config.id2label.values())
    _require(config, "id2label", len(labels) > 0, "name at least one genre")
    _require(config, "id2label", len(labels) <= MAX_GENRES, f"use {MAX_GENRES} at most", f"{len(labels)} genres")
    for label in labels:
        named = isinstance(label, str) and any(map(str.isalnum, label)) and len(label) <= MAX_LETTERS
        short = named and label.isprintable()
        _require(config, "id2label", short, "each genre is a short name", str(label)[:MAX_LETTERS])
    _require(config, "id2label", len(set(labels)) == len(labels), "name each genre once")
    in_order = sorted(map(str, config.id2label)) == sorted(map(str, range(len(labels))))
    _require(config, "id2label", in_order, f"the ids must be 0 to {len(labels) - 1}")
    return labels


class SavedConfig(NamesCode):
    """Mixin of configurations: `from_pretrained` of a folder raises a ModelError that names a file that cannot be used."""

    # Fields that a saved configuration may lack: they are only used in training, or the weights determine them.
    _optional: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def needed(cls) -> list[str]:
        """Fields that a saved configuration must have, since a default could make another model of it silently."""
        common = PreTrainedConfig.__dataclass_fields__
        return [name for name in cls.__dataclass_fields__ if name not in common and name not in cls._optional]

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, **kwargs):
        from .folders_megadance import CONFIG, check_config

        folder = os.path.join(pretrained_model_name_or_path, kwargs.get("subfolder") or "")
        if os.path.isfile(os.path.join(folder, CONFIG)):
            with one_line(pretrained_model_name_or_path):
                check_config(cls, folder)
        return super().from_pretrained(pretrained_model_name_or_path, **kwargs)


class NamesGenres(SavedConfig):
    """Mixin of configurations whose labels are genres: the given ones, or FineDance's."""

    @classmethod
    def needed(cls) -> list[str]:
        return [*super().needed(), "id2label"]

    def __post_init__(self, **kwargs):
        if self.id2label is None:
            names = FINEDANCE_GENRES if self.label2id is None else sorted(self.label2id, key=self.label2id.get)
            self.id2label = dict(enumerate(names))
        super().__post_init__(**kwargs)
        # derived, so that the two cannot contradict each other
        self.label2id = {label: index for index, label in self.id2label.items()}

    @property
    def genres(self) -> list[str]:
        """All genre names in the order of their ids."""
        return [self.id2label[index] for index in sorted(self.id2label)]


@strict
class MegaDanceTokenizerConfig(SavedConfig, PreTrainedConfig):
    r"""Configuration of [`MegaDanceTokenizer`], the motion codec of the first stage (paper, section 3.2).

    Args:
        fps (`int`): frames per second of the motion.
        quantizer (`str`): `"fsq"`, finite scalar quantization; `"vq"`, vector quantization (Table 4b of the paper); or a name
            that `register_quantizer` has given to one of your own.
        quantizer_options (`dict`, *optional*): settings of a quantizer of your own.
        levels (`list[int]`): levels of each scalar, odd numbers; their product is the codebook size of `"fsq"` and `"vq"`.
        bound (`"tanh"` or `"sigmoid"`): how a scalar is bounded before rounding: released code, or Eq. 1.
        normalize_scalars (`bool`): normalise each scalar to mean 0 and standard deviation 1 over the data before it is bounded
            (batch normalisation). Not in the paper; it keeps the whole codebook of a small model in use.
        codec (`"residual"` or `"plain"`): dilated residual blocks around each strided convolution (released code), or
            the paper's three-layer CNN with a two-layer MLP.
        upsampling (`"transposed"` or `"linear"`): transposed convolution (paper, released code), or linear
            interpolation followed by a convolution. A deviation, because the transposed convolutions of small models jitter.
        hidden_size (`int`): width of the convolutions.
        code_size (`int`): size of the vector before and after the quantizer.
        num_downsamples (`int`): strided layers; a code covers `2 ** num_downsamples` frames.
        residual_depth (`int`), residual_dilation (`int`): residual blocks per layer, and the growth of their dilation.
        vq_commitment (`float`), vq_decay (`float`): only for `quantizer="vq"`.
        smpl_loss_weight, joint_loss_weight (`float`): weights of the two terms of Eq. 2; 0 leaves a term out (Table 4b).
        velocity_weight, acceleration_weight (`float`): alpha 1 and alpha 2 of Eq. 3-4.
        joint_loss_root (`"none"`, `"velocity"` or `"integrated"`): where the joint loss puts the pelvis: at the origin,
            at the root *velocity* (released code), or on the integrated root path (the paper's text).
        root_path_weight (`float`): weight of an additional L1 loss on the integrated root path, metres. Not in the
            paper (0 there); it cures the slow drift and the flattened vertical bob of small models.
        root_height_weight (`float`): weight of a further L1 loss on the height of the root path, metres, where a rise of two
            centimetres is the difference between a dance and a walk. Not in the paper (0 there).
        heading (`"absolute"` or `"turn"`): the root's rotation and velocity are coded in the world (paper, section 3.1), or seen
            from the body, with the turn about the vertical from frame to frame, which is summed up in decoding
            (`to_body_motion`). Not in the paper: a step has the same codes in every direction, and no two codes make a body spin
            within a frame. With `joint_loss_root` "none" or "velocity" the joint loss then compares bodies that face the same way.
        contacts (`bool`): also decode, with the lower body, which ankles and feet stand on the floor, and move the root
            so that they do (`plant_root`). Not in the paper.
        contact_loss_weight (`float`): weight of their cross-entropy.
        foot_path_weight, foot_velocity_weight, foot_slide_weight (`float`): weights of three further L1 losses on ankles and feet along
            the integrated root path: on their positions (metres), their velocities (m/s), and the velocities of those that stand (m/s,
            0 is right). Not in the paper (0 there).
        rest_offsets (`list`, *optional*): (24, 3) skeleton of these losses, metres; the neutral SMPL rest pose when None.
    """

    model_type = "megadance_tokenizer"
    _optional = (
        *("quantizer_options", "rest_offsets", "vq_commitment", "vq_decay", "smpl_loss_weight", "joint_loss_weight"),
        *("velocity_weight", "acceleration_weight", "joint_loss_root", "root_path_weight", "root_height_weight"),
        *("contact_loss_weight", "foot_path_weight", "foot_velocity_weight", "foot_slide_weight"),
        *("heading", "contacts"),  # of models saved by earlier versions, which had no such choice
    )
    _auto_classes = {
        "AutoConfig": "configuration_megadance.MegaDanceTokenizerConfig",
        "AutoModel": "modeling_megadance_tokenizer.MegaDanceTokenizer",
    }

    fps: int = MOTION_FPS
    quantizer: str = "fsq"
    quantizer_options: dict[str, Any] | None = None
    levels: list[int] | tuple[int, ...] = (7, 5, 5, 5, 5)
    bound: Literal["tanh", "sigmoid"] = "tanh"
    normalize_scalars: bool = False
    codec: Literal["residual", "plain"] = "residual"
    upsampling: Literal["transposed", "linear"] = "transposed"
    hidden_size: int = 512
    code_size: int = 512
    num_downsamples: int = 3
    residual_depth: int = 2
    residual_dilation: int = 2
    vq_commitment: float = 0.25
    vq_decay: float = 0.99
    smpl_loss_weight: float = 1.0
    joint_loss_weight: float = 1.0
    velocity_weight: float = 0.5
    acceleration_weight: float = 0.25
    joint_loss_root: Literal["none", "velocity", "integrated"] = "velocity"
    root_path_weight: float = 0.0
    root_height_weight: float = 0.0
    heading: Literal["absolute", "turn"] = "absolute"
    contacts: bool = False
    contact_loss_weight: float = 1.0
    foot_path_weight: float = 0.0
    foot_velocity_weight: float = 0.0
    foot_slide_weight: float = 0.0
    rest_offsets: list | None = None

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        self.levels = list(self.levels)

    @classmethod
    def paper(cls, **overrides) -> "MegaDanceTokenizerConfig":
        """Every switch set to the paper's text."""
        return cls(**{"bound": "sigmoid", "codec": "plain", "joint_loss_root": "integrated", **overrides})

    @property
    def codebook_size(self) -> int:
        """Number of codes of each body part, which the quantizer determines."""
        return find_quantizer(self.quantizer).codebook_size(self)

    @property
    def frames_per_code(self) -> int:
        """Motion frames that one code covers."""
        return 2**self.num_downsamples

    def validate_levels(self):
        _require(self, "levels", len(self.levels) > 0, "name at least one")
        odd = all(level >= 3 and level % 2 == 1 for level in self.levels)
        _require(self, "levels", odd, "each must be an odd number of 3 or more, so that a digit lies at zero")
        largest = MAX_SIZES["codebook_size"]
        _require(self, "levels", math.prod(self.levels) <= largest, f"their product may be {largest} at most")

    def validate_quantizer(self):
        find_quantizer(self.quantizer).check_config(self)
        unused = self.quantizer_options is not None and self.quantizer in BUILT_IN
        _require(self, "quantizer_options", not unused, f"{self.quantizer!r} has none; leave it out")
        largest = MAX_SIZES["codebook_size"]
        _require(self, "codebook_size", 1 <= self.codebook_size <= largest, f"use 1 to {largest}")

    def validate_sizes(self):
        _require_sizes(self)
        small = self.residual_dilation**self.residual_depth <= 1_000_000
        _require(self, "residual_depth", small, "the last dilation would be more than a million")

    def validate_weights(self):
        names = "smpl_loss_weight joint_loss_weight velocity_weight acceleration_weight root_path_weight vq_commitment"
        _require_weights(
            self,
            f"{names} contact_loss_weight root_height_weight foot_path_weight foot_velocity_weight foot_slide_weight",
        )
        _require(self, "vq_decay", 0 <= self.vq_decay < 1, "use a number from 0 to below 1")

    def validate_skeleton(self):
        if self.rest_offsets is not None:
            shape_fits = len(self.rest_offsets) == NUM_JOINTS and all(
                isinstance(offset, (list, tuple))
                and len(offset) == 3
                and all(isinstance(number, (int, float)) and abs(number) < 100 for number in offset)
                for offset in self.rest_offsets
            )
            _require(self, "rest_offsets", shape_fits, f"give {NUM_JOINTS} rows of 3 numbers (metres)", "...")


PAPER_LEVELS = (7, 5, 5, 5, 5)  # A.1
# The switches in which the paper and the releases differ from each other, ...
_ARRANGEMENTS: dict[str, dict[str, Any]] = {
    "paper": {
        **{"code_head": "joint", "mamba_placement": "experts", "norm_per_stream": False, "genre_embedding": True},
        **{"expert_composition": "parallel", "music_lookahead": 1, "mlp_activation": "gelu"},
    },
    "released_2025": {
        **{"code_head": "joint", "mamba_placement": "experts", "norm_per_stream": False, "genre_embedding": False},
        **{"expert_composition": "sequential", "music_lookahead": 0, "mlp_activation": "none"},
    },
    "released_2026": {
        **{"code_head": "factorised", "mamba_placement": "layers", "norm_per_stream": True, "genre_embedding": False},
        **{"expert_composition": "sequential", "music_lookahead": 0, "mlp_activation": "none"},
    },
}
# ... and those that none of them has, with the value of all three.
_OWN_SWITCHES: dict[str, Any] = {
    **{"level_decoding": "independent", "music_reduction": "stride", "music_columns": None, "music_to_codes": False},
    **{"rhythm_size": 0, "rhythm_tempo": "free", "attributes": []},
    **{"use_universal_experts": True, "use_genre_experts": True, "use_mamba": True},
}


@strict
class MegaDanceConfig(NamesGenres, PreTrainedConfig):
    r"""Configuration of [`MegaDanceModel`] and [`MegaDanceForMotionGeneration`] (paper, section 3.3).

    Args:
        codebook_size (`int`): codes of each body part.
        code_head (`"joint"` or `"factorised"`): one embedding and one softmax over the codebook (paper; 2025 release), or one for
            each level of the quantizer (2026 release); see `code_head_megadance.py`.
        levels (`list[int]`, *optional*): of the tokenizer, for a factorised head; (7, 5, 5, 5, 5) for 4375 codes when None.
        level_decoding (`"independent"` or `"sequential"`): a factorised head's levels are independent given the past (2026
            release), or each sees the levels before it (ours).
        hidden_size, num_hidden_layers, num_attention_heads, intermediate_size (`int`): the transformer.
        state_size, conv_kernel, expand, time_step_rank (`int`): the Mambas; a rank of None is `hidden_size / 16`.
        music_feature_size (`int`): columns of `input_features`.
        music_hidden_size, output_hidden_size (`int`): the middle of the music and output MLPs.
        mlp_activation (`"none"` or `"gelu"`): inside those two MLPs; the released code has none.
        music_reduction (`"stride"`, `"mean"` or `"stack"`): how 8 music frames become one code step: the first of them
            (released code), their mean, or all of them concatenated.
        music_lookahead (`int`): 0 lets code i see music up to code step i-1 (released code), 1 up to step i (section
            3.3.1).
        music_columns (`list[int]`, *optional*): the columns of `input_features` that the model uses; all of them when None. Not
            in the paper: MFCC and chroma identify the songs of a small data set, so a model memorises their dances.
        music_to_codes (`bool`): also add the music vector of a step to the vectors of both code streams, which otherwise see it
            through attention alone. Not in the paper: without positions, attention is slow to learn which music belongs to a step.
        rhythm_size, rhythm_layers (`int`), rhythm_dropout (`float`): width, depth and dropout of the rhythm encoder
            (`rhythm_megadance.py`), whose beat and bar phase are added to the columns. Not in the paper; a size of 0 leaves
            it out.
        attributes (`list[str]`): names of `ATTRIBUTES` that a dance can be asked for (`attributes_megadance.py`). Not in the paper.
        attribute_quantiles (`dict`, *optional*): for each genre and attribute 21 quantiles of the training data, in its unit.
        rhythm_tempo (`"free"` or `"steady"`): beat and bar as the encoder reads them from the seconds around a frame, or fitted to a tempo
            that hardly changes, as dance songs have it (`steady_rhythm`): then the whole song tells where its beats are. Ours.
        hears_genres (`bool`): the model hears which of its genres a song is for (`hearing_megadance.py`). Ours; needs the rhythm encoder.
        expert_composition (`"sequential"` or `"parallel"`): the genre expert takes the universal expert's output
            (released code), or both take the same input and their outputs are averaged (the paper's text).
        use_universal_experts, use_genre_experts, use_mamba (`bool`): the ablations of Table 4a.
        mamba_placement (`"experts"` or `"layers"`): Mambas in every expert (paper; 2025 release), or one for each stream and layer,
            shared by all genres, before the experts, which are attention blocks then (2026 release).
        norm_per_stream (`bool`): each stream has its own norms before attention and feed-forward net (2026 release).
        genre_embedding (`bool`): also add a learned vector per genre to every position (appendix A.1).
        dropout (`float`): 0.25 in the paper, 0.4 in both releases.
        context_codes (`int`): span of attention, in codes; also the length of generation's sliding window.
        slide_codes (`int`): codes that generation adds before its window slides, in mode `paper`.
        training_codes (`int`): codes of a training segment.
        genres are given as `id2label` / `label2id`; FineDance's sixteen by default.
        active_genres (`list[str]`, *optional*): build only these genres' experts; all of them when None.
        use_cache (`bool`): whether `forward` gives a cache outside of training; `generate()` has a setting of its own.
        fps, frames_per_code (`int`): rates; a code step lasts `frames_per_code / fps` seconds.
    """

    model_type = "megadance"
    _optional = (
        *("time_step_rank", "dropout", "rhythm_dropout", "initializer_range", "training_codes", "active_genres"),
        "use_cache",
        # of models saved by earlier versions, which had no such choice
        *("code_head", "levels", "level_decoding", "mamba_placement", "norm_per_stream", "rhythm_tempo"),
        *("attributes", "attribute_quantiles", "hears_genres"),
    )
    _auto_classes = {
        "AutoConfig": "configuration_megadance.MegaDanceConfig",
        "AutoModel": "modeling_megadance.MegaDanceModel",
        "AutoModelForCausalLM": "modeling_megadance.MegaDanceForMotionGeneration",
        "AutoFeatureExtractor": "feature_extraction_megadance.MegaDanceFeatureExtractor",
        "AutoProcessor": "processing_megadance.MegaDanceProcessor",
    }
    keys_to_ignore_at_inference = ["cache", "past_key_values"]

    codebook_size: int = 4375
    code_head: Literal["joint", "factorised"] = "joint"
    levels: list[int] | tuple[int, ...] | None = None
    level_decoding: Literal["independent", "sequential"] = "independent"
    hidden_size: int = 512
    num_hidden_layers: int = 6
    num_attention_heads: int = 8
    intermediate_size: int = 2048
    state_size: int = 16
    conv_kernel: int = 4
    expand: int = 2
    time_step_rank: int | None = None
    music_feature_size: int = MUSIC_FEATURE_SIZE
    music_hidden_size: int = 128
    output_hidden_size: int = 768
    mlp_activation: Literal["none", "gelu"] = "none"
    music_reduction: Literal["stride", "mean", "stack"] = "stride"
    music_lookahead: int = 0
    music_columns: list[int] | tuple[int, ...] | None = None
    music_to_codes: bool = False
    rhythm_size: int = 0
    rhythm_layers: int = 7
    rhythm_dropout: float = 0.1
    rhythm_tempo: Literal["free", "steady"] = "free"
    attributes: list[str] | tuple[str, ...] = ()
    attribute_quantiles: dict[str, list] | None = None
    hears_genres: bool = False
    expert_composition: Literal["sequential", "parallel"] = "sequential"
    use_universal_experts: bool = True
    use_genre_experts: bool = True
    use_mamba: bool = True
    mamba_placement: Literal["experts", "layers"] = "experts"
    norm_per_stream: bool = False
    genre_embedding: bool = False
    dropout: float = 0.25
    layer_norm_eps: float = 1e-5
    initializer_range: float = 0.02
    context_codes: int = 22
    slide_codes: int = 8
    training_codes: int = 30
    fps: int = MOTION_FPS
    frames_per_code: int = FRAMES_PER_CODE
    active_genres: list[str] | tuple[str, ...] | None = None
    use_cache: bool = False

    def __post_init__(self, **kwargs):
        if task_is_registered():  # otherwise transformers would ask to trust a pipeline that is not needed
            kwargs.pop("custom_pipelines", None)
        if tasks := kwargs.get("custom_pipelines"):  # an earlier version wrote AutoModel, which had the head then
            kwargs["custom_pipelines"] = {name: {**task, "pt": PIPELINES[TASK]["pt"]} for name, task in tasks.items()}
        super().__post_init__(**kwargs)
        if self.time_step_rank is None:
            self.time_step_rank = math.ceil(self.hidden_size / 16)
        if self.code_head == "factorised" and self.levels is None and self.codebook_size == math.prod(PAPER_LEVELS):
            self.levels = PAPER_LEVELS
        if self.levels is not None:
            self.levels = list(self.levels)
        if self.active_genres is not None:
            self.active_genres = list(self.active_genres)
        if self.music_columns is not None:
            self.music_columns = list(self.music_columns)
        self.attributes = list(self.attributes)

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "custom_pipelines": copy.deepcopy(PIPELINES)}

    @classmethod
    def paper(cls, **overrides) -> "MegaDanceConfig":
        """Every switch and size set to the paper's text."""
        return cls(**{**_ARRANGEMENTS["paper"], "dropout": 0.25, **overrides})

    @classmethod
    def released_2025(cls, **overrides) -> "MegaDanceConfig":
        """Every switch and size set to the authors' release of November 2025."""
        return cls(**{**_ARRANGEMENTS["released_2025"], "dropout": 0.4, **overrides})

    released = released_2025  # its name when it was the only one

    @classmethod
    def released_2026(cls, **overrides) -> "MegaDanceConfig":
        """Every switch and size set to the authors' release of 2026."""
        return cls(**{**_ARRANGEMENTS["released_2026"], "num_hidden_layers": 8, "dropout": 0.4, **overrides})

    @property
    def arrangement(self) -> str:
        """ "paper", "released_2025" or "released_2026" where all switches are theirs, whatever the sizes; else "own"."""
        own = {name: getattr(self, name) for name in _OWN_SWITCHES}
        for name, switches in _ARRANGEMENTS.items():
            if own == _OWN_SWITCHES and all(getattr(self, switch) == value for switch, value in switches.items()):
                return name
        return "own"

    @property
    def built_genres(self) -> list[str]:
        """The genres that the model has experts for: `active_genres`, or all."""
        return self.genres if self.active_genres is None else list(self.active_genres)

    @property
    def num_parts(self) -> int:
        """Number of experts in all layers, which is less than the number of tensors."""
        genres = len(self.built_genres) if self.use_genre_experts else 0
        return self.num_hidden_layers * (genres + self.use_universal_experts)

    @property
    def inner_size(self) -> int:
        """Channels inside a Mamba."""
        return self.expand * self.hidden_size

    @property
    def music_step_size(self) -> int:
        """Size of a code step's music vector after `music_reduction`: the columns in use, and the rhythm."""
        columns = self.music_feature_size if self.music_columns is None else len(self.music_columns)
        columns += RHYTHM_SIZE if self.rhythm_size else 0
        return columns * (self.frames_per_code if self.music_reduction == "stack" else 1)

    def validate_sizes(self):
        _require_sizes(self)
        _require_heads(self)
        _require(self, "training_codes", self.training_codes >= 2, "use 2 or more")
        _require(self, "music_lookahead", self.music_lookahead in (0, 1), "use 0 or 1")
        largest = MAX_SIZES["hidden_size"]
        _require(self, "rhythm_size", 0 <= self.rhythm_size <= largest, f"use 0 (no rhythm encoder) to {largest}")
        hears = not self.hears_genres or self.rhythm_size > 0
        _require(self, "hears_genres", hears, "it needs the rhythm encoder; set rhythm_size")

    def validate_levels(self):
        fits = self.code_head == "factorised" or self.level_decoding == "independent"
        _require(self, "level_decoding", fits, 'it is for code_head="factorised"; leave it out')
        if self.levels is None:
            _require(self, "levels", self.code_head == "joint", "a factorised head needs the tokenizer's")
            return
        _require(self, "levels", self.code_head == "factorised", 'it is for code_head="factorised"; leave it out')
        remedy = f"numbers of 2 or more whose product is codebook_size={self.codebook_size}"
        _require(self, "levels", all(level >= 2 for level in self.levels), f"give {remedy}")
        _require(self, "levels", math.prod(self.levels) == self.codebook_size, f"give {remedy}")

    def validate_mamba_placement(self):
        fits = self.use_mamba or self.mamba_placement == "experts"
        _require(self, "mamba_placement", fits, "there is no Mamba with use_mamba=False; leave it out")

    def validate_music_columns(self):
        columns = self.music_columns
        if columns is not None:
            last = self.music_feature_size - 1
            _require(self, "music_columns", all(0 <= column <= last for column in columns), f"use 0 to {last}")
            _require(self, "music_columns", len(set(columns)) == len(columns), "name each column once")
            _require(self, "music_columns", self.music_step_size > 0, "name at least one, or set rhythm_size")

    def validate_attributes(self):
        names = self.attributes
        _require(self, "attributes", set(names) <= set(ATTRIBUTES), f"use {', '.join(ATTRIBUTES)}")
        _require(self, "attributes", len(set(names)) == len(names), "name each once")
        shape = (len(names), QUANTILES)
        for genre, table in (self.attribute_quantiles or {}).items():
            rows = [row for row in table if isinstance(row, list) and len(row) == QUANTILES]
            numbers = all(isinstance(number, int | float) for row in rows for number in row)
            fits = len(rows) == len(table) == len(names) and numbers
            _require(self, "attribute_quantiles", fits, f"{genre} needs {shape[0]} rows of {shape[1]} numbers", "...")

    def validate_rates(self):
        for name in ("dropout", "rhythm_dropout"):
            _require(self, name, 0 <= getattr(self, name) < 1, "use a number from 0 to below 1")
        _require(self, "layer_norm_eps", 0 < self.layer_norm_eps <= 1, "use a number above 0, such as 1e-5")
        _require_weights(self, "initializer_range", 100)

    def validate_experts(self):
        some = self.use_universal_experts or self.use_genre_experts
        remedy = "keep the universal or the genre experts; without both a layer is empty"
        _require(self, "use_universal_experts", some, remedy)

    def validate_genres(self):
        if self.id2label is None:  # validated again after the defaults are in place
            return
        labels = _require_labels(self)
        if self.active_genres is not None:
            _require(self, "active_genres", len(self.active_genres) > 0, "name at least one, or None for all")
            for genre in self.active_genres:
                known = f"the known genres are {', '.join(labels)}"
                _require(self, "active_genres", genre in labels, known, genre)


@strict
class MegaDanceClassifierConfig(NamesGenres, PreTrainedConfig):
    r"""Configuration of [`MegaDanceForGenreClassification`], the network behind FID_s, DIV_s, ACC and F1 (section 4.1).

    The defaults are the released classifier: 25,925,780 parameters with its unused ones, 25,625,748 without.

    Args:
        hidden_size, num_hidden_layers, num_attention_heads, intermediate_size (`int`): the transformer.
        output_hidden_size (`int`): between the two layers of the output.
        num_outputs (`int`): style features, the first of which score the genres; the released code has 20 for 16 genres.
        dropout (`float`): inside the transformer.
        fps (`int`): frames per second of the motion.
        genres are given as `id2label` / `label2id`; FineDance's sixteen by default.
    """

    model_type = "megadance_classifier"
    _optional = ("dropout",)
    _auto_classes = {
        "AutoConfig": "configuration_megadance.MegaDanceClassifierConfig",
        "AutoModel": "modeling_megadance_classifier.MegaDanceForGenreClassification",
    }

    hidden_size: int = 512
    num_hidden_layers: int = 8
    num_attention_heads: int = 8
    intermediate_size: int = 2048
    output_hidden_size: int = 128
    num_outputs: int = 20
    dropout: float = 0.25
    fps: int = MOTION_FPS

    def validate_sizes(self):
        _require_sizes(self)
        _require_heads(self)
        _require(self, "dropout", 0 <= self.dropout < 1, "use a number from 0 to below 1")

    def validate_genres(self):
        if self.id2label is not None:
            genres = len(_require_labels(self))
            _require(self, "num_outputs", self.num_outputs >= genres, f"{genres} genres need as many")
