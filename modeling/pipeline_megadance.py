"""The pipeline "music-to-dance" as it travels with a model: songs in, arrays out.

    pipe = pipeline("music-to-dance", model="OWNER/NAME", trust_remote_code=True)
    dance = pipe("song.mp3", genre="waltz", seed=0)    # {"poses": (T, 24, 3), "translation": (T, 3), "fps": 30, ...}

Where megadance-hf is installed, its `MusicToDancePipeline` gives the same dance as a `Motion`, which saves itself as a video.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers.pipelines.base import Pipeline

from .audio_megadance import opened
from .checkpoints_megadance import TOKENIZER_FOLDER, source_of
from .configuration_megadance import match_genre
from .errors_megadance import ModelError, one_line
from .feature_extraction_megadance import MegaDanceFeatureExtractor
from .folders_megadance import check_parts
from .generation_megadance import MODES
from .kinematics_megadance import poses_to_motion
from .modeling_megadance import MegaDanceForMotionGeneration
from .modeling_megadance_tokenizer import MegaDanceTokenizer
from .processing_megadance import MegaDanceProcessor
from .remote_code_megadance import PushesCode


def load_weights(cls: type, source: str, **kwargs: Any) -> Any:
    """`cls.from_pretrained`, but weights that the files lack are an error: transformers would only warn and invent them."""
    # a folder is looked at before it is loaded; of a repository the sizes are told afterwards, all of them
    kwargs = kwargs if os.path.isdir(source) else {**kwargs, "ignore_mismatched_sizes": True}
    model, info = cls.from_pretrained(source, output_loading_info=True, **kwargs)
    for kind, keys in (
        ("lacks", info["missing_keys"]),
        ("has other sizes than its config.json for", info["mismatched_keys"]),
    ):
        if keys:
            names = sorted(key if isinstance(key, str) else key[0] for key in keys)
            raise ModelError(
                f"model={source!r} {kind} {len(names)} weights of {cls.__name__} ({names[0]}, ...): save it again"
            )
    return model.eval()


def _listen(
    song: Any, extractor: MegaDanceFeatureExtractor, start: float, duration: float | None
) -> tuple[dict[str, Any], str | None]:
    """Any kind of song -> {"input_features": raw features of the wanted stretch}, its name."""
    if isinstance(song, Mapping) and "input_features" in song:
        if start or duration is not None:
            raise ValueError(
                f"start={start}, duration={duration}: input_features are danced to as they are; cut them first"
            )
        return dict(song), song.get("name")
    with opened(song, argument="song") as sound:
        return {"input_features": extractor.listen(sound, start, duration)}, sound.title


@dataclass
class _Codes:
    upper_codes: torch.Tensor
    lower_codes: torch.Tensor


@contextmanager
def _progress_bar(codes: int, seconds_a_code: float) -> Iterator[Callable[[int, int], None]]:
    """A function for `generate(progress=...)` that shows seconds of dance; the bar is closed whatever happens."""
    layout = "{desc} {percentage:3.0f}% |{bar}| {n:.1f}/{total:.1f} s [{elapsed}<{remaining}]"
    with tqdm(desc="dancing", total=codes * seconds_a_code, bar_format=layout) as bar:
        yield lambda done, total: bar.update(done * seconds_a_code - bar.n)


class DancePipeline(PushesCode, Pipeline):
    """Songs in, dances out, as arrays.

    The parts can be handed in: a `MegaDanceForMotionGeneration`, a `MegaDanceTokenizer`, a `MegaDanceProcessor`; what is
    missing is loaded from where the model came from.

    Attributes:
        model, tokenizer, processor: the parts.
        genres: names that `genre` can be.
    """

    # transformers must not look for text tokenizers and image processors
    _load_tokenizer = _load_feature_extractor = _load_processor = False
    _load_image_processor = _load_video_processor = False

    def __init__(
        self,
        model: MegaDanceForMotionGeneration,
        tokenizer: MegaDanceTokenizer | None = None,
        processor: MegaDanceProcessor | None = None,
        **kwargs: Any,
    ) -> None:
        source, hub = source_of(model)
        with one_line(source):
            if tokenizer is None:
                tokenizer = load_weights(MegaDanceTokenizer, source, subfolder=TOKENIZER_FOLDER, **hub)
            if processor is None:
                extractor = MegaDanceFeatureExtractor.from_pretrained(source, **hub)
                processor = MegaDanceProcessor(extractor, model.config.genres, model.config.frames_per_code)
        check_parts(source, model.config, tokenizer.config, processor.feature_extractor)
        super().__init__(model=model, processor=processor, **kwargs)
        # After the base class, which takes a tokenizer for one of text. Always float32: rounding makes joints tremble.
        self.tokenizer = tokenizer.to(self.device)

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """Write a folder that holds all parts: generator, `tokenizer/`, processor."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.tokenizer.save_pretrained(Path(save_directory) / TOKENIZER_FOLDER, **kwargs)
        self.processor.feature_extractor.save_pretrained(save_directory)
        self.processor.save_pretrained(save_directory)

    def prepare_for_hub(self, folder: str | os.PathLike) -> None:
        self.model.prepare_for_hub(folder)

    @property
    def genres(self) -> list[str]:
        """Names of the genres that the model was loaded with."""
        return self.model.config.built_genres

    def __call__(
        self,
        song: Any,
        genre: str | None = None,
        *,
        seed: int | None = None,
        duration: float | None = None,
        start: float = 0.0,
        mode: str | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        num: int = 1,
        start_motion: Any = None,
        floor: bool = True,
        progress: bool | Callable[[int, int], None] = False,
        **generate_kwargs: Any,
    ) -> Any:
        """Make a dance to a song; it is as long as the song, to the frame.

        Args:
            song: any file that plays (path, http(s) address, bytes, open file or pipe); (waveform, sampling rate); a row of an
                Audio column, and whatever else `open_sound` takes; or {"input_features": (frames, 35)}, raw features made
                before. A list of songs gives a list of dances.
            genre: one of `genres`, capitals and hyphens do not matter; the first of them when None.
            seed: the same seed gives the same dance; a random one when None (kept in `metadata["seed"]`).
            duration: seconds of the song to dance to; to its end when None.
            start: second of the song to begin at. What surrounds the excerpt (90 s) is heard, too: it has the song's tempo.
            mode: "released", "paper" or "stream", how the music and the past are windowed (see `generate`); the model's
                own default when None.
            temperature: above 0; below 1 more likely steps, above 1 more surprising ones.
            top_k: choose among the so many likeliest codes.
            num: how many dances to this song; more than one gives a list.
            start_motion: a dance to begin with, {"poses", "translation"} at the model's frame rate: its first whole codes (8
                frames each) are played at the beginning of the song, then the model goes on. It must be shorter than the
                song.
            floor: see `MegaDanceProcessor.post_process_motion`.
            progress: show a progress bar; or a function called with (codes done, codes in all), which may raise to stop.
            generate_kwargs: go to `model.generate()`.

        Returns:
            {"poses": (T, 24, 3) axis-angle of the SMPL joints, "translation": (T, 3) of the pelvis, metres, Y up, "fps": 30,
            "genre", "metadata"}; `metadata` has seed, index, genre, mode, model, song, start, and `compute_seconds`, the time
            it took (shared by all `num` dances).

        Raises:
            AudioError, GenreError, ValueError: see the message.
        """
        options = {"start": start, "num": num, "floor": floor, "progress": progress, **generate_kwargs}
        optional = {"genre": genre, "seed": seed, "duration": duration, "mode": mode, "temperature": temperature}
        optional |= {"top_k": top_k, "start_motion": start_motion}
        return super().__call__(
            song, **options, **{name: value for name, value in optional.items() if value is not None}
        )

    def _sanitize_parameters(self, **options: Any) -> tuple[dict, dict, dict]:
        """Sort the options of `__call__` (or of the constructor) by the step that takes them, checking what is cheap to
        check, so that nothing is computed for an option that cannot be used."""
        if (mode := options.get("mode")) is not None and mode not in MODES:
            raise ValueError(f"mode={mode!r} is unknown: give one of {', '.join(MODES)}")
        for name, lowest in (("num", 1), ("top_k", 1), ("seed", 0)):
            value = options.get(name)
            if value is not None and (isinstance(value, bool) or int(value) != value or value < lowest):
                raise ValueError(f"{name}={value!r}: give a whole number of {lowest} or more")
        if (temperature := options.get("temperature")) is not None and not 0 < temperature < float("inf"):
            raise ValueError(f"temperature={temperature!r}: give a number above 0")
        if (genre := options.get("genre")) is not None:
            options["genre"] = match_genre(genre, self.genres)
        first = {key: options.pop(key) for key in ("genre", "start", "duration", "start_motion") if key in options}
        last = {key: options.pop(key) for key in ("floor",) if key in options}
        return first, options, last

    def preprocess(
        self,
        song: Any,
        genre: str | None = None,
        start: float = 0.0,
        duration: float | None = None,
        start_motion: Mapping[str, np.ndarray] | None = None,
    ) -> dict[str, Any]:
        began = time.perf_counter()
        genre = genre or self.genres[0]
        features, name = _listen(song, self.processor.feature_extractor, start, duration)
        inputs = dict(self.processor(features, genre))
        frames = inputs.pop("num_frames")[0]
        placed = None
        if start_motion is not None:
            inputs |= self._encode(start_motion, frames)
            placed = np.asarray(start_motion["translation"])[0].tolist()
        model = str(self.model.name_or_path)
        notes = {
            "genre": genre,
            "model": Path(model).name if Path(model).is_dir() else model,
            "song": name,
            "start": start,
        }
        return {"inputs": inputs, "frames": frames, "placed": placed, "notes": notes, "began": began}

    @torch.no_grad()
    def _encode(self, start_motion: Mapping[str, np.ndarray], frames: int) -> dict[str, torch.Tensor]:
        """A dance to begin with, as codes [1, steps]."""
        fps, step = self.tokenizer.config.fps, self.tokenizer.config.frames_per_code
        poses, translation = (
            torch.as_tensor(start_motion[name], dtype=torch.float32) for name in ("poses", "translation")
        )
        steps = len(poses) // step
        if not 0 < steps * step < frames:
            raise ValueError(
                f"start_motion has {len(poses)} frames: give at least {step} and fewer than the song's {frames} (at {fps} "
                "frames a second)"
            )
        vectors = poses_to_motion(poses, translation)[None, : steps * step]
        codes = self.tokenizer.encode(vectors.to(self.tokenizer.device))
        return {"upper_codes": codes.upper_codes, "lower_codes": codes.lower_codes}

    def _forward(
        self,
        prepared: dict[str, Any],
        seed: int | None = None,
        num: int = 1,
        progress: bool | Callable[[int, int], None] = False,
        **generate_kwargs: Any,
    ) -> dict[str, Any]:
        # Drawn from the system, so that torch.manual_seed in the user's code and this do not disturb each other.
        seed = int.from_bytes(os.urandom(4), "little") if seed is None else int(seed)
        config, defaults = self.model.config, self.model.generation_config
        if defaults.do_sample is None:
            # The likeliest codes alone soon repeat themselves: the dancer freezes. A model's own setting stands.
            generate_kwargs.setdefault("do_sample", True)
        codes = prepared["inputs"]["input_features"].shape[1] // config.frames_per_code
        bar = progress is True
        with _progress_bar(codes, config.frames_per_code / config.fps) if bar else nullcontext(progress) as show:
            outputs = self.model.generate(
                **prepared["inputs"], seed=seed, num_return_sequences=num, progress=show or False, **generate_kwargs
            )
        mode = generate_kwargs.get("mode") or getattr(defaults, "mode", None) or "paper"
        notes = {**prepared["notes"], "seed": seed, "mode": mode}
        return {**prepared, "notes": notes, "codes": (outputs.upper_codes, outputs.lower_codes)}

    def postprocess(self, results: dict[str, Any], floor: bool = True) -> Any:
        codes = _Codes(*(codes.to(self.device) for codes in results["codes"]))
        dances = self.processor.post_process_motion(codes, self.tokenizer, results["frames"], floor, results["placed"])
        notes = {**results["notes"], "compute_seconds": round(time.perf_counter() - results["began"], 3)}
        found = [
            {**dance, "fps": self.tokenizer.config.fps, "genre": notes["genre"], "metadata": {**notes, "index": index}}
            for index, dance in enumerate(dances)
        ]
        return found if len(found) > 1 else found[0]


__all__ = ["DancePipeline", "load_weights"]
