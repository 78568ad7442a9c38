"""The processor: audio and a genre name to model inputs, generated codes to poses and a root path in metres.

    processor = MegaDanceProcessor.from_pretrained("OWNER/NAME")
    output = model.generate(**processor("song.mp3", genre="waltz"), seed=0)
    dance = processor.decode(output)      # {"poses": (T, 24, 3), "translation": (T, 3), "fps": 30, "genre": "waltz"}

The processor has no weights. The motion tokenizer, which decodes codes to motion, is a model: it can be passed in, or is loaded at
first use from where the processor came from.
"""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from transformers.configuration_utils import PreTrainedConfig
from transformers.feature_extraction_utils import BatchFeature
from transformers.processing_utils import ProcessorMixin

from .arguments_megadance import names_of, need_counts, unknown_option, whole_number
from .audio_megadance import as_songs
from .checkpoints_megadance import HUB_ARGUMENTS, TOKENIZER_FOLDER
from .clean_up_megadance import clean_motion
from .configuration_megadance import (
    FRAMES_PER_CODE,
    MegaDanceClassifierConfig,
    MegaDanceConfig,
    MegaDanceTokenizerConfig,
)
from .errors_megadance import EXTRACTOR_FILES, ModelError, one_line, read_json, short
from .feature_extraction_megadance import MegaDanceFeatureExtractor
from .genres_megadance import match_genre
from .joining_megadance import close_loop, meet_poses
from .kinematics_megadance import (
    axis_angle_to_matrix,
    forward_kinematics,
    ground_translation,
    motion_to_poses,
)
from .modeling_megadance_tokenizer import MegaDanceTokenizer
from .music_features_megadance import EVENTS
from .remote_code_megadance import NamesCode, carry_code
from .threads_megadance import own_threads, use_one_thread

# Names of the audio in other processors of transformers.
_AUDIO_NAMES = ("raw_speech", "raw_audio", "audios")
# Inputs of other processors, which users may try.
_NO_INPUTS = {
    "text": "the processor takes music; the dance is named with genre=, such as genre='waltz'",
    "images": "the processor takes music, as audio=",
    "videos": "the processor takes music, as audio=; the sound of a video file is one too",
}
_PADDING: dict[Any, str] = {
    **{True: "longest", False: "do_not_pad", None: "do_not_pad"},
    **{name: name for name in ("longest", "max_length", "do_not_pad")},
}

# The motion tokenizer of a processor, and where to load it from; not attributes, which would be saved as JSON.
_tokenizers: WeakKeyDictionary[Any, MegaDanceTokenizer] = WeakKeyDictionary()
_sources: WeakKeyDictionary[Any, tuple[str, dict[str, Any]]] = WeakKeyDictionary()


class MegaDanceInputs(BatchFeature):
    """The processor's output. `to` moves it to a device, but keeps float32: MFCC reach -500, and bfloat16 would distort the music.
    Models of every dtype accept it."""

    def to(self, *args: Any, **kwargs: Any) -> "MegaDanceInputs":
        args = tuple(value for value in args if not isinstance(value, torch.dtype))
        kwargs.pop("dtype", None)
        return super().to(*args, **kwargs) if args or kwargs else self


class MegaDanceProcessor(NamesCode, ProcessorMixin):
    """Turns songs and genre names into model inputs, and generated codes into poses.

    Args:
        feature_extractor: computes the 35 music features.
        genres: names in the order of the model's genre ids (`model.config.genres`); saved in `processor_config.json`.
        frames_per_code: music is padded to whole codes of this many frames.

    Raises:
        ValueError: `genres` or `frames_per_code` is not possible.
    """

    feature_extractor: MegaDanceFeatureExtractor

    _auto_classes = {"AutoProcessor": "processing_megadance.MegaDanceProcessor"}

    def __init__(
        self,
        feature_extractor: MegaDanceFeatureExtractor,
        genres: Sequence[str] | None = None,
        frames_per_code: int = FRAMES_PER_CODE,
    ) -> None:
        genres = list(genres or [])
        if not all(isinstance(genre, str) and genre for genre in genres):
            raise ValueError(f"genres={short(genres)} is not possible: give names")
        if type(frames_per_code) is not int or not 1 <= frames_per_code <= 4096:  # not True either
            raise ValueError(f"frames_per_code={frames_per_code!r} is not possible: use a whole number from 1 to 4096")
        super().__init__(feature_extractor)
        self.genres = genres
        self.frames_per_code = frames_per_code

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any) -> "MegaDanceProcessor":
        """As in transformers, from the folder or repository of a generator, which has the genres and the motion tokenizer for
        `decode`.

        Raises:
            ModelError: there is no such folder, or it holds another kind of model.
        """
        source = os.fspath(pretrained_model_name_or_path)
        hub = {name: value for name, value in kwargs.items() if name in HUB_ARGUMENTS and value is not None}
        with one_line(source):
            content, _ = PreTrainedConfig.get_config_dict(source, _raise_exceptions_for_missing_entries=False, **hub)
            kind = content.get("model_type")
            for other in (MegaDanceTokenizerConfig, MegaDanceClassifierConfig):
                if kind == other.model_type:
                    raise ModelError(
                        f"model={source!r} is of type {kind!r}, which takes motion, not music: a processor comes from the "
                        f"folder of a {MegaDanceConfig.model_type!r} generator"
                    )
            for name in EXTRACTOR_FILES:
                if os.path.exists(path := os.path.join(source, name)):
                    read_json(path)
            processor = super().from_pretrained(source, **kwargs)
            if kind == MegaDanceConfig.model_type:
                config = MegaDanceConfig.from_dict(content)
                if not processor.genres:  # only a feature extractor was saved
                    processor.genres, processor.frames_per_code = list(config.genres), config.frames_per_code
                elif (processor.genres, processor.frames_per_code) != (config.genres, config.frames_per_code):
                    raise ModelError(
                        f"model={source!r}: processor_config.json has the genres {', '.join(processor.genres)[:200]} and "
                        f"{processor.frames_per_code} frames per code, config.json {', '.join(config.genres)[:200]} and "
                        f"{config.frames_per_code}: save the processor again"
                    )
        _sources[processor] = (source, hub)
        return processor

    @classmethod
    def _get_arguments_from_pretrained(cls, pretrained_model_name_or_path, processor_dict=None, **kwargs):
        # The base class would ask AutoFeatureExtractor, which knows this class only after it was registered.
        return [MegaDanceFeatureExtractor.from_pretrained(pretrained_model_name_or_path, **kwargs)]

    def save_pretrained(self, save_directory: str | os.PathLike, push_to_hub: bool = False, **kwargs: Any) -> Any:
        """As in transformers. The motion tokenizer, if there is one, is saved in its subfolder, so that with the generator's
        `save_pretrained` to the same folder the model is complete."""
        os.makedirs(save_directory, exist_ok=True)
        tokenizer = self._find_tokenizer()
        if tokenizer is not None:
            tokenizer.save_pretrained(os.path.join(save_directory, TOKENIZER_FOLDER))
        self.feature_extractor.save_pretrained(save_directory)
        carry_code(save_directory)
        return super().save_pretrained(os.fspath(save_directory), push_to_hub=push_to_hub, **kwargs)

    @property
    def motion_tokenizer(self) -> MegaDanceTokenizer:
        """The model that decodes codes to motion: the one that was set, or that of the folder or repository of the processor.

        Raises:
            ModelError: none was set and the processor was not loaded, or the tokenizer cannot be loaded.
        """
        tokenizer = self._find_tokenizer()
        if tokenizer is None:
            raise ModelError(
                "tokenizer is missing, which turns codes into motion: give tokenizer=MegaDanceTokenizer.from_pretrained(DIR), or "
                "load the processor with MegaDanceProcessor.from_pretrained(DIR)"
            )
        return tokenizer

    @motion_tokenizer.setter
    def motion_tokenizer(self, tokenizer: MegaDanceTokenizer) -> None:
        _tokenizers[self] = tokenizer

    def _find_tokenizer(self) -> MegaDanceTokenizer | None:
        if self not in _tokenizers and self in _sources:
            source, hub = _sources[self]
            with one_line(source):
                _tokenizers[self] = MegaDanceTokenizer.from_pretrained(source, **hub).eval()
        return _tokenizers.get(self)

    @property
    def model_input_names(self) -> list[str]:
        return [*self.feature_extractor.model_input_names, "genre_ids", "num_frames"]

    def genre_id(self, genre: str) -> int:
        """Id of a genre name in any spelling that `match_genre` accepts. Raises GenreError if it is unknown."""
        return self.genres.index(match_genre(genre, self.genres))

    def __call__(
        self,
        audio: Any = None,
        genre: str | Sequence[str] | None = None,
        sampling_rate: int | None = None,
        return_tensors: str | None = "pt",
        *,
        padding: bool | str = True,
        truncation: bool = False,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        return_attention_mask: bool | None = None,
        **others: Any,
    ) -> MegaDanceInputs:
        """Inputs for `MegaDanceForMotionGeneration`.

        Args:
            audio: a song or a list of songs: each a file, a waveform (then with `sampling_rate`), or anything else that
                `open_sound` takes; or {"input_features": [frames, 35]}, raw features. `raw_speech` is another name for it.
            genre: one name for all songs, or a list with one per song. None leaves `genre_ids` out.
            sampling_rate: of waveforms, in Hz. Files have their own.
            return_tensors: "pt", "np" or None (lists of arrays).
            padding: True or "longest" pads to the longest song, "max_length" to `max_length`, False only to whole codes.
            truncation: cut songs to `max_length`.
            max_length: frames (30 per second), for `truncation` and `padding="max_length"`.
            pad_to_multiple_of: pad to a multiple of this many frames.
            return_attention_mask: False leaves it out.

        Returns:
            `input_features` [batch, frames, 35], frames a multiple of `frames_per_code`: a song that ends inside a code is
            continued to the end of that code by its last row, without beats. `attention_mask` [batch, frames], 1 on every code
            with music. `genre_ids` [batch]. `num_frames`, a list of the songs' lengths, to which `batch_decode` cuts the dances.
            All of it goes to `model.generate(**inputs)`.

        Raises:
            AudioError: the sound cannot be used. GenreError: unknown genre. ValueError: a list has another length, or an option
                is unknown or has no effect.
        """
        for name in _AUDIO_NAMES:
            if name in others:
                if audio is not None:
                    raise ValueError(f"audio and {name} are both given: they are the same, give audio alone")
                audio = others.pop(name)
        for name, value in others.items():
            if name in _NO_INPUTS:
                if value is not None:
                    raise ValueError(f"{name}: {_NO_INPUTS[name]}")
            else:
                unknown_option(name, names_of(MegaDanceProcessor.__call__), "the processor")
        if audio is None:
            raise ValueError("audio is missing: give a song, or a list of songs")
        if return_tensors not in ("pt", "np", None):
            raise ValueError(f"return_tensors={return_tensors!r}: give 'pt', 'np' or None")
        padding = self._padding(padding, truncation, max_length)
        if isinstance(audio, list | tuple) and not audio:
            raise ValueError("audio is an empty list: give at least one song")
        songs, _ = as_songs(audio)
        genre_ids = self._genre_ids(genre, len(songs))  # before the slow part
        if isinstance(songs[0], Mapping) and "input_features" in songs[0]:
            rows = self._given_features([song["input_features"] for song in songs])
        else:
            rows = self.feature_extractor(songs, sampling_rate, padding=False)["input_features"]
        if truncation:
            rows = [row[:max_length] for row in rows]
        longest = max(len(row) for row in rows)
        if padding == "max_length" and max_length is not None and longest > max_length:
            raise ValueError(f"max_length={max_length}: a song has {longest} frames; add truncation=True")
        completed = [self._complete_codes(row) for row in rows]
        if padding == "do_not_pad" and return_tensors and len({len(row) for row in completed}) > 1:
            raise ValueError(
                f"padding=False: the songs have {', '.join(str(len(row)) for row in rows)} frames, which is no tensor; give "
                "padding=True, or return_tensors=None"
            )
        inputs = self.feature_extractor.pad(
            BatchFeature({"input_features": completed}),
            padding=padding,
            max_length=max_length if padding == "max_length" else None,
            pad_to_multiple_of=math.lcm(
                self.frames_per_code,
                1 if pad_to_multiple_of is None else whole_number("pad_to_multiple_of", pad_to_multiple_of, 1),
            ),
            return_attention_mask=return_attention_mask,
            return_tensors="np" if return_tensors else None,
        )
        if genre_ids is not None:
            inputs["genre_ids"] = np.array(genre_ids, dtype=np.int64)
        batch = MegaDanceInputs(dict(inputs), tensor_type=return_tensors)
        batch["num_frames"] = [len(row) for row in rows]
        return batch

    def _padding(self, padding: Any, truncation: bool, max_length: int | None) -> str:
        """`padding` in the words of `pad`. Raises ValueError for options that contradict each other."""
        padding = getattr(padding, "value", padding)  # transformers' PaddingStrategy
        if padding not in _PADDING:
            raise ValueError(f"padding={padding!r}: give True, False, 'longest' or 'max_length'")
        padding = _PADDING[padding]
        if not isinstance(truncation, bool):
            raise ValueError(f"truncation={truncation!r}: give True or False")
        if max_length is None:
            if truncation or padding == "max_length":
                what = "truncation=True" if truncation else "padding='max_length'"
                raise ValueError(f"max_length is missing: {what} needs it, in frames (30 per second)")
        elif not truncation and padding != "max_length":
            raise ValueError(
                f"max_length={max_length!r} does nothing alone: add truncation=True or padding='max_length', or leave it out"
            )
        else:
            whole_number("max_length", max_length, self.frames_per_code)
        return padding

    def _given_features(self, rows: list[Any]) -> list[np.ndarray]:
        size = self.feature_extractor.feature_size
        arrays = [np.asarray(array, dtype=np.float32) for array in rows]
        for array in arrays:
            if array.ndim != 2 or array.shape[1] != size or len(array) < self.frames_per_code:
                raise ValueError(
                    f"input_features has shape {array.shape}: give (frames, {size}) with at least {self.frames_per_code} frames"
                )
        return arrays

    def _complete_codes(self, rows: np.ndarray) -> np.ndarray:
        """A song's features, continued to the end of its last code by its last row.

        Zeros would be far from any music: silence has a first MFCC of about -500.
        """
        rest = np.repeat(rows[-1:], -len(rows) % self.frames_per_code, axis=0)
        rest[:, EVENTS] = 0
        return np.concatenate((rows, rest))

    def _genre_ids(self, genre: str | Sequence[str] | None, count: int) -> list[int] | None:
        if genre is None:
            return None
        names: list[Any] = list(genre) if isinstance(genre, list | tuple | np.ndarray) else [genre] * count
        if len(names) != count:
            raise ValueError(f"genre has {len(names)} names for {count} songs: give one name, or one for each song")
        return [self.genre_id(name) for name in names]

    def batch_decode(
        self,
        outputs: Any,
        tokenizer: Any = None,
        num_frames: int | Sequence[int] | None = None,
        floor: bool = True,
        start: Sequence[float] | None = None,
        clean: bool = True,
        begins: bool = True,
        ends: bool = True,
        heading: float | None = None,
    ) -> list[Any]:
        """Decode the output of `generate()` to dances, each as long as its music.

        Args: as in `post_process_motion`.

        Returns:
            for each dance {"poses": (T, 24, 3), "translation": (T, 3), "fps", "genre" (None if it is not known),
            "metadata"}. With megadance-hf each is a `Motion`.

        Raises:
            ValueError, ModelError: as `post_process_motion`.
        """
        fps = self._tokenizer_for(tokenizer).config.fps
        dances = self.post_process_motion(outputs, tokenizer, num_frames, floor, start, clean, begins, ends, heading)
        ids = _part(outputs, "genre_ids")
        names = dict(enumerate(self.genres))
        genres = [None] * len(dances) if ids is None else [names.get(index) for index in ids.tolist()]
        return [self._dance({**dance, "fps": fps, "genre": genre}) for dance, genre in zip(dances, genres, strict=True)]

    def decode(self, outputs: Any, tokenizer: Any = None, **options: Any) -> Any:
        """Decode the output of `generate()` that has one dance; see `batch_decode`.

        Raises:
            ValueError: there are several dances, or as `batch_decode`.
        """
        dances = self.batch_decode(outputs, tokenizer, **options)
        if len(dances) != 1:
            raise ValueError(f"outputs has {len(dances)} dances: use batch_decode, which gives a list")
        return dances[0]

    def _tokenizer_for(self, tokenizer: Any) -> Any:
        if tokenizer is None:
            return self.motion_tokenizer
        if not (hasattr(tokenizer, "decode") and hasattr(tokenizer, "config")):
            raise ValueError(
                f"tokenizer of type {type(tokenizer).__name__}: give a MegaDanceTokenizer, or leave it out"
            )
        return tokenizer

    def _dance(self, dance: dict[str, Any]) -> Any:
        """The form in which a dance is returned. Subclasses override it."""
        return dance

    @torch.no_grad()
    @own_threads()
    def post_process_motion(
        self,
        outputs: Any,
        tokenizer: Any = None,
        num_frames: int | Sequence[int] | None = None,
        floor: bool = True,
        start: Sequence[float] | None = None,
        clean: bool = True,
        begins: bool = True,
        ends: bool = True,
        heading: float | None = None,
        held: Sequence[tuple[int, torch.Tensor]] = (),
        loop: bool = False,
    ) -> list[dict[str, Any]]:
        """Codes to poses and the root path, as arrays.

        Args:
            outputs: the output of `generate()`, with `upper_codes` and `lower_codes`, each [batch, steps]; or a tuple of these.
            tokenizer: a `MegaDanceTokenizer`; `motion_tokenizer` when None.
            num_frames: number of frames to keep, one number or a list with one per song. When None, the songs' lengths in `outputs`,
                or all frames. With several dances per song (`num_return_sequences`) a number applies to all dances of its song.
            floor: keep the lowest joint on the floor, y = 0 (see `ground_translation`). Deviation: the paper and the
                released code only sum up the decoded velocities, whose small errors let the dancer slowly sink or rise.
            start: (x, y, z) of the pelvis in the first frame, metres; x = z = 0 and the lowest joint at y = 0 when None.
            clean: bridge glitches, plant the feet, keep the toes above the floor (`clean_motion`). Deviation: the paper does not.
                The contacts of the feet are those that the tokenizer decodes, if it does (`config.contacts`).
            begins, ends: part of the clean-up: the dances leave a standing position, and come to one. Say False for an excerpt that
                begins, or ends, within its song.
            heading: where the body faces in the first frame, radians from +Z towards +X; +Z when None. Only of interest where the
                tokenizer codes turns (`config.heading="turn"`); otherwise the codes say it.
            held: poses that the dances have, float32, axis-angle [F, 24, 3], each with the frame of the first one (`meet_poses`). The clean-up,
                which comes later, moves feet that stand by some centimetres.
            loop: the last frame is the first one again (`close_loop`).

        Returns:
            for each dance `poses` (T, 24, 3), axis-angle, and `translation` (T, 3), metres, Y up; float32. `metadata` holds
            `clean_up`, the numbers of a `CleanUpReport`, if it was cleaned.

        Raises:
            ValueError: `outputs` has no codes, or fewer than `num_frames` need. ModelError: there is no tokenizer.
        """
        streams = [_part(outputs, name) for name in ("upper_codes", "lower_codes")]
        if any(stream is None for stream in streams):
            raise ValueError(
                f"outputs of type {type(outputs).__name__} has no upper_codes and lower_codes: give what generate() returned"
            )
        tokenizer = self._tokenizer_for(tokenizer)
        use_one_thread(tokenizer, 1)  # one after the other
        streams = [torch.as_tensor(stream).to(tokenizer.device) for stream in streams]
        facing = None if heading is None else torch.tensor([heading], device=tokenizer.device)
        counts = self._frame_counts(outputs, num_frames, *streams[0].shape)
        dances = []
        for upper, lower, count in zip(*streams, counts, strict=True):
            # One by one: through the decoder, the padding of a shorter dance would change its last frames.
            codes = -(-count // self.frames_per_code)
            decoded = tokenizer.decode(upper[None, :codes], lower[None, :codes], facing, output_contacts=True)
            poses, translation = motion_to_poses(decoded.motion[0, :count].float().cpu())
            if held:
                poses = meet_poses(poses, held, tokenizer.config.fps)
            if loop:
                poses, translation = close_loop(poses, translation, tokenizer.config.fps)
            first = start
            if first is None:
                joints = forward_kinematics(axis_angle_to_matrix(poses[0]), torch.zeros(3))
                first = (0.0, -float(joints[:, 1].min()), 0.0)
            translation = translation + torch.tensor(first, dtype=translation.dtype)
            metadata = {}
            if clean:
                contacts = None if decoded.contacts is None else decoded.contacts[0, :count].float().cpu()
                poses, translation, report = clean_motion(
                    poses, translation, tokenizer.config.fps, floor, contacts, begins, ends
                )
                metadata["clean_up"] = report.to_dict()
            elif floor:
                translation = ground_translation(poses, translation, tokenizer.config.fps)
            if loop:
                poses, translation = close_loop(poses, translation, tokenizer.config.fps)
            dances.append({"poses": poses.numpy(), "translation": translation.numpy(), "metadata": metadata})
        return dances

    def _frame_counts(self, outputs: Any, num_frames: Any, batch: int, steps: int) -> list[int]:
        """Frames of each dance."""
        if num_frames is None:
            num_frames = _part(outputs, "num_frames")
        if num_frames is None:
            lengths = _part(outputs, "lengths")
            num_frames = steps * self.frames_per_code if lengths is None else lengths * self.frames_per_code
        if not isinstance(num_frames, list | tuple) and np.ndim(num_frames) == 0:
            num_frames = [num_frames]
        counts = need_counts(num_frames, len(num_frames)) or []
        if not counts or batch % len(counts):
            raise ValueError(f"num_frames has {len(counts)} numbers for {batch} dances: give one, or one for each song")
        if max(counts) > steps * self.frames_per_code:
            raise ValueError(
                f"num_frames={max(counts)}: {steps} codes are {steps * self.frames_per_code} frames; give no more"
            )
        return np.repeat(counts, batch // len(counts)).tolist()


def _part(outputs: Any, name: str) -> Any:
    if isinstance(outputs, tuple) and len(outputs) == 2:
        return dict(zip(("upper_codes", "lower_codes"), outputs, strict=True)).get(name)
    return outputs.get(name) if isinstance(outputs, Mapping) else getattr(outputs, name, None)
