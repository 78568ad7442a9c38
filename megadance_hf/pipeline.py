"""From a song to a dance in one call.

    pipe = MusicToDancePipeline.from_pretrained()                # the bundled ballroom model
    dance = pipe("song.mp3", genre="waltz", seed=0)              # a Motion
    dance.save("dance.mp4", music="song.mp3")

The same as a task of transformers, once this module is imported: `pipeline("music-to-dance", model=...)`.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.pipelines import PIPELINE_REGISTRY

from . import auto  # noqa: F401  (registers the model type, which transformers.pipeline asks for)
from .export.notebook import remember
from .modeling.arguments_megadance import LENGTH_OPTIONS, random_seed, seed_number
from .modeling.checkpoints_megadance import TOKENIZER_FOLDER
from .modeling.configuration_megadance import MegaDanceTokenizerConfig
from .modeling.errors_megadance import ModelError, one_line
from .modeling.feature_extraction_megadance import MegaDanceFeatureExtractor
from .modeling.folders_megadance import check_config, check_weights
from .modeling.hearing_megadance import is_auto
from .modeling.loading_megadance import find_device, load_weights
from .modeling.modeling_megadance import MegaDanceForMotionGeneration
from .modeling.modeling_megadance_tokenizer import MegaDanceTokenizer
from .modeling.pipeline_megadance import DancePipeline
from .modeling.remote_code_megadance import TASK
from .modeling.streaming_megadance import GUESS_CODES, DanceChunk, DanceStream
from .modeling.wishes_megadance import code_attributes
from .models import DEFAULT_MODEL, describe_arrangement, find_model, load_config
from .motion.motion import Motion, MotionError
from .processor import MegaDanceProcessor

# Keywords of from_pretrained that say where files come from; all others are the generator's.
_HUB_KEYWORDS = ("revision", "token", "cache_dir", "local_files_only", "force_download")


# --- models --------------------------------------------------------------------------------------------------------


def describe_model(model: str | os.PathLike = DEFAULT_MODEL, **hub: Any) -> dict[str, str]:
    """A model described for people: names and short texts, from its configurations alone."""
    config, source = load_config(model, **hub), find_model(model)
    with one_line(model):
        if os.path.isdir(source):
            codec = check_config(MegaDanceTokenizerConfig, Path(source, TOKENIZER_FOLDER))
            # before a billion layers are built and described: are their weights there?
            check_weights(MegaDanceForMotionGeneration, config, source)
        else:
            codec = MegaDanceTokenizerConfig.from_pretrained(source, subfolder=TOKENIZER_FOLDER, **hub)
    with torch.device("meta"):  # shapes without memory
        generator, tokenizer = MegaDanceForMotionGeneration(config), MegaDanceTokenizer(codec)
    experts = [
        name
        for name, used in (("universal", config.use_universal_experts), ("genre", config.use_genre_experts))
        if used
    ]
    return {
        "model": source,
        "genres": ", ".join(config.built_genres),
        "attributes": ", ".join(config.attributes) or "none",
        "generator": f"{generator.num_parameters():,} parameters, {generator.num_active_parameters():,} of them for one genre",
        **describe_arrangement(config),
        "layers": f"{config.num_hidden_layers} of width {config.hidden_size}, {' and '.join(experts)} experts, "
        f"{config.expert_composition}",
        "music": f"{config.music_feature_size} features at {config.fps} frames/s, reduced by {config.music_reduction!r}, "
        f"lookahead {config.music_lookahead}",
        "codes": f"{codec.codebook_size} for the upper and as many for the lower body, {config.frames_per_code} frames each, "
        f"context of {config.context_codes}",
        "tokenizer": f"{tokenizer.num_parameters():,} parameters, {codec.quantizer.upper()}, "
        f"{codec.codec} convolutions, {codec.upsampling} upsampling",
    }


# Options that need the whole song, and what to do instead in a stream.
_WHOLE_SONG_OPTIONS = {
    **dict.fromkeys(("num", "num_return_sequences"), "it is one dance; start several streams with other seeds"),
    **dict.fromkeys(("start", "duration"), "give the blocks that are to be danced to"),
    **dict.fromkeys(("plan", "changes", "prompt"), "give one genre, and attributes"),
    "candidates": "its frames are final at once; leave it out",
    **dict.fromkeys((*LENGTH_OPTIONS, "stopping_criteria"), "it ends when its blocks do; leave it out"),
    **dict.fromkeys(("start_motion", "hold", "loop", "logits_processor", "streamer", "progress"), "leave it out"),
    **dict.fromkeys(("batch_size", "num_workers", "generation_config", "use_cache"), "leave it out"),
    "mode": "it never slides its window, which is mode='stream'; leave it out",
    "generator": "give a seed",
}


def _check_loading(options: dict[str, Any]) -> None:
    """Refuse `device_map` and dtypes that transformers would reject in many lines, or from deep inside."""
    device_map = options.get("device_map")
    if not (device_map is None or device_map in ("auto", "balanced", "balanced_low_0", "sequential")):
        for device in device_map.values() if isinstance(device_map, dict) else [device_map]:
            if isinstance(device, int) and not torch.accelerator.is_available():
                raise ValueError(f"device_map={device_map!r}: there is no accelerator here; give device_map='cpu'")
            if device != "disk":
                find_device(device, "device_map")
    for name in ("dtype", "torch_dtype"):
        value = options.get(name)
        dtype = getattr(torch, value, None) if isinstance(value, str) else value
        if not (value is None or value == "auto" or (isinstance(dtype, torch.dtype) and dtype.is_floating_point)):
            raise ValueError(f"{name}={value!r}: give 'float32', 'bfloat16', 'float16' or 'auto'")


# --- the pipeline --------------------------------------------------------------------------------------------------


class MusicToDancePipeline(DancePipeline):
    """Songs in, `Motion`s out: `DancePipeline` with a `Motion` in place of arrays, also as `start_motion`, at any frame rate.

    Usually made by `from_pretrained`. The parts can be passed in as well: a `MegaDanceForMotionGeneration`, a
    `MegaDanceTokenizer`, a `MegaDanceProcessor`; missing ones are loaded from where the model came from.

    Attributes:
        model, tokenizer, processor: the parts.
        genres: names of the genres.
    """

    _processor_class = MegaDanceProcessor

    @classmethod
    def from_pretrained(
        cls, model: str | os.PathLike = DEFAULT_MODEL, *, device: Any = None, **kwargs: Any
    ) -> "MusicToDancePipeline":
        """Load a model with everything it needs.

        Args:
            model: folder or Hub id with the generator, its tokenizer in the subfolder `tokenizer` and
                `preprocessor_config.json`; or the name of a bundled model.
            device: "cpu", "cuda:1", 0, ...; the first accelerator when None, else the CPU.
            kwargs: `revision`, `token`, `cache_dir`, `local_files_only`, `force_download` go to every part; everything
                else to the generator, such as `dtype=torch.bfloat16` or `active_genres=["waltz"]`.

        Raises:
            ModelError: not found, another kind of model, broken or missing files.
            ValueError: there is no such device.
        """
        if device is not None and kwargs.get("device_map") is not None:
            raise ValueError(
                f"device={device!r} and device_map={kwargs['device_map']!r} are both given; use one of them"
            )
        device = find_device(device)
        _check_loading(kwargs)
        hub = {key: kwargs.pop(key) for key in _HUB_KEYWORDS if key in kwargs}
        load_config(model, **hub)
        source = find_model(model)
        if Path(source).is_dir() and not Path(source, TOKENIZER_FOLDER, "config.json").is_file():
            raise ModelError(
                f"model={os.fspath(model)!r} has no {TOKENIZER_FOLDER}/config.json: save the motion tokenizer into its "
                f"subfolder {TOKENIZER_FOLDER!r}, as MusicToDancePipeline.save_pretrained does"
            )
        with one_line(model):
            try:
                generator = load_weights(MegaDanceForMotionGeneration, source, **hub, **kwargs)
            except TypeError as error:  # a keyword that neither transformers nor the configuration knows
                raise ModelError(f"model={os.fspath(model)!r}: {error}; leave it out") from None
            tokenizer = load_weights(MegaDanceTokenizer, source, subfolder=TOKENIZER_FOLDER, **hub)
            extractor = MegaDanceFeatureExtractor.from_pretrained(source, **hub)
        processor = MegaDanceProcessor(extractor, generator.config.genres, generator.config.frames_per_code)
        return cls(generator, tokenizer, processor, device=device)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(model={self.model.name_or_path!r}, genres={self.genres}, device={self.device})"

    def _encode(self, start_motion: Mapping[str, np.ndarray], frames: int) -> dict[str, Any]:
        try:
            return super()._encode(start_motion, frames)
        except ValueError as error:
            raise MotionError(str(error)) from None

    def redo(self, dance: Any, *args: Any, **kwargs: Any) -> Any:
        """As `DancePipeline.redo`; `dance` may also be a `Motion` or the path of one."""
        return super().redo(Motion.load(dance) if isinstance(dance, str | os.PathLike) else dance, *args, **kwargs)

    def _check_start_motion(self, motion: Any, name: str = "start_motion") -> Mapping[str, np.ndarray]:
        """A `Motion`, the path of one, or its arrays; at any frame rate."""
        fps = self.model.config.fps
        if isinstance(motion, str | os.PathLike):
            motion = Motion.load(motion)
        elif isinstance(motion, Mapping) and {"poses", "translation"} <= motion.keys():
            motion = Motion(motion["poses"], motion["translation"], motion.get("fps", fps))
        if isinstance(motion, Motion) and motion.fps != fps:
            motion = motion.resampled(fps)
        return super()._check_start_motion(motion, name)

    def stream(
        self,
        blocks: Iterable[np.ndarray],
        sampling_rate: int,
        genre: str | None = None,
        *,
        seed: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        wait_codes: int = 0,
        guess_codes: int = GUESS_CODES,
        floor: bool = True,
        clean: bool = True,
        **generate_kwargs: Any,
    ) -> Iterator[Motion]:
        """Dance to music while it is still coming in.

            for chunk in pipe.stream(blocks, sampling_rate=44100, genre="waltz", seed=0):
                show(chunk.poses, chunk.translation)

        Chunks are final and consecutive; together they are as long as the music, to the frame. Most have 8 frames, for 0.267 s of
        music.

        The delay from the music of an instant to its pose is at most 0.267 s, in which a chunk's music comes in, plus the time
        to compute a chunk (`benchmarks/streaming.py`), plus `wait_codes` times 0.267 s.

        Args:
            blocks: sound as it comes in, blocks of any length, as `MegaDanceFeatureExtractor` takes it: (samples,) or
                (samples, channels). The next block is fetched when the ones before are used up.
            sampling_rate: of the blocks, in Hz.
            clean: clean each frame up, by the frames before it; see `CleanUpStream`. It takes no further delay.
            genre, seed, temperature, top_k, floor: as in `__call__`. The same music and seed give the same dance, however the
                music is cut into blocks, but not the dance of `__call__`, which knows the whole song.
            wait_codes: number of further codes to wait for before frames are final. 0 is the shortest delay; with 1 or 2 the
                motion is closer to what the model makes of a whole song (see `streaming_megadance.py`).
            guess_codes: number of codes to predict ahead, so that frames can be decoded before those codes are there; each
                costs a step of the generator. 4 is enough; 2 for a large model that would not keep up; 0 is visibly rough.
            generate_kwargs: other fields of the generation configuration, `backend` as in `generate`, and `attributes` as in `__call__`, of
                the whole stream.

        Yields:
            `Motion`s whose `metadata` has seed, genre, model, `first_frame` (index in the dance), `heard` (seconds of music
            that had come in), and `compute_seconds`, from the block that completed the chunk's music to the chunk.

        Raises:
            AudioError, GenreError, ValueError: an argument (at once) or a block (when it comes) that cannot be used.
        """
        given = {"genre": genre, "seed": seed, "temperature": temperature, "top_k": top_k}
        given |= {"floor": floor, "clean": clean}
        given = {name: value for name, value in given.items() if value is not None}
        options = self._without_nested({**given, **generate_kwargs})
        for name in options:
            if name in _WHOLE_SONG_OPTIONS:
                raise ValueError(f"{name} is no option of a stream: {_WHOLE_SONG_OPTIONS[name]}")
        options = {name: value for name, value in options.items() if value is not None}
        if is_auto(options.get("genre"), self.genres):
            raise ValueError(
                f"genre='auto': a stream begins before its song is heard; give one of {', '.join(self.genres)}"
            )
        first, options, last = self._sanitize_parameters(**options)
        genre = first.get("genre") or self.genres[0]
        if not isinstance(genre, str):
            raise ValueError(f"genre={genre!r}: a stream has one genre; give its name")
        asked = first.get("attributes") or {}
        if any(len(pairs) > 1 or pairs[0][0] for pairs in asked.values()):
            raise ValueError("attributes of a stream hold for all of it: give one number for each")
        if asked:
            step = self.model.config.frames_per_code / self.model.config.fps
            options["attributes"] = code_attributes(asked, 1, step, self.model.config.attributes)[0]
        seed = seed_number(options.pop("seed")) if "seed" in options else random_seed()
        if self.model.generation_config.do_sample is None:
            options.setdefault("do_sample", True)
        stream = DanceStream(
            self.model,
            self.tokenizer,
            self.processor.feature_extractor,
            self.model.genre_id(genre),
            sampling_rate,
            seed,
            wait_codes,
            guess_codes,
            **last,
            **options,
        )
        model = str(self.model.name_or_path)
        notes = {"genre": genre, "seed": seed, "model": Path(model).name if Path(model).is_dir() else model}
        return self._chunks(stream, blocks, notes)

    def _chunks(self, stream: DanceStream, blocks: Iterable[np.ndarray], notes: dict[str, Any]) -> Iterator[Motion]:
        stream.warm_up()
        for block in blocks:
            for chunk in stream.push(block):
                yield self._motion(chunk, notes)
        for chunk in stream.finish():
            yield self._motion(chunk, notes)

    def _motion(self, chunk: DanceChunk, notes: dict[str, Any]) -> Motion:
        notes = notes | {name: getattr(chunk, name) for name in ("first_frame", "heard", "compute_seconds")}
        return Motion(chunk.poses, chunk.translation, self.tokenizer.config.fps, notes["genre"], notes)

    def _dance(self, dance: dict[str, Any], song: Any) -> Motion:
        motion = Motion(**dance)
        remember(motion, song, motion.metadata["start"])
        return motion


# For transformers' `pipeline("music-to-dance", ...)`. Not in the package's __init__: importing transformers' pipelines takes seconds.
if TASK not in PIPELINE_REGISTRY.supported_tasks:
    PIPELINE_REGISTRY.register_pipeline(
        TASK,
        pipeline_class=MusicToDancePipeline,
        pt_model=MegaDanceForMotionGeneration,
        default={"model": (DEFAULT_MODEL, None)},
        type="audio",
    )
