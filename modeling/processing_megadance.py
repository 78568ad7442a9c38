"""Audio and a genre name -> what the generator takes; codes -> poses and a root path in metres.

    processor = MegaDanceProcessor(MegaDanceFeatureExtractor(), genres=model.config.genres)
    inputs = processor("song.mp3", genre="waltz")
    num_frames = inputs.pop("num_frames")
    codes = model.generate(**inputs, seed=0)
    dance = processor.post_process_motion(codes, tokenizer, num_frames)[0]   # {"poses": (T, 24, 3), "translation": (T, 3)}

Pure bookkeeping: nothing here is learned. The motion tokenizer is a model with weights, so it is handed in where it is
needed instead of being a part of the processor.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.feature_extraction_utils import BatchFeature
from transformers.processing_utils import ProcessorMixin

from .audio_megadance import as_songs
from .configuration_megadance import FRAMES_PER_CODE, match_genre
from .feature_extraction_megadance import MegaDanceFeatureExtractor
from .kinematics_megadance import (
    axis_angle_to_matrix,
    forward_kinematics,
    ground_translation,
    motion_to_poses,
)
from .music_features_megadance import BEAT, PEAK
from .remote_code_megadance import NamesCode


class MegaDanceProcessor(NamesCode, ProcessorMixin):
    """Turns songs and genre names into model inputs, and generated codes into poses.

    Args:
        feature_extractor: makes the 35 music features.
        genres: names in the order of the model's genre ids (`model.config.genres`); saved in `processor_config.json`.
        frames_per_code: music is filled up to whole codes of so many frames.
    """

    _auto_classes = {"AutoProcessor": "processing_megadance.MegaDanceProcessor"}

    def __init__(
        self,
        feature_extractor: MegaDanceFeatureExtractor,
        genres: Sequence[str] | None = None,
        frames_per_code: int = FRAMES_PER_CODE,
    ) -> None:
        super().__init__(feature_extractor)
        self.genres = list(genres or [])
        self.frames_per_code = frames_per_code

    @classmethod
    def _get_arguments_from_pretrained(cls, pretrained_model_name_or_path, processor_dict=None, **kwargs):
        # The base class would ask AutoFeatureExtractor, which knows this class only where somebody has registered it.
        return [MegaDanceFeatureExtractor.from_pretrained(pretrained_model_name_or_path, **kwargs)]

    @property
    def model_input_names(self) -> list[str]:
        return [*self.feature_extractor.model_input_names, "genre_ids"]

    def genre_id(self, genre: str) -> int:
        """Id of a genre name, spelled as `match_genre` allows."""
        return self.genres.index(match_genre(genre, self.genres))

    def __call__(
        self,
        audio: Any = None,
        genre: str | Sequence[str] | None = None,
        sampling_rate: int | None = None,
        return_tensors: str | None = "pt",
    ) -> BatchFeature:
        """Inputs for `MegaDanceForMotionGeneration`.

        Args:
            audio: a song or a list of songs: each a file, a waveform (then with `sampling_rate`), or what else `open_sound`
                takes; or {"input_features": [frames, 35]}, raw features that are there already.
            genre: one name for all songs, or a list with one for each. None leaves `genre_ids` out.
            sampling_rate: of waveforms, in Hz. Files bring their own.
            return_tensors: "pt", "np" or None.

        Returns:
            `input_features` [batch, frames, 35], frames a multiple of `frames_per_code`: a song that ends inside a code is
            continued to the end of that code by its last row, without beats. `attention_mask` [batch, frames], 1 on every
            code that has music. `genre_ids` [batch]. And for `post_process_motion`, not for the model: `num_frames`, a
            list of the songs' own lengths.

        Raises:
            AudioError: the sound cannot be used. GenreError: unknown genre. ValueError: a list of another length.
        """
        songs, _ = as_songs(audio)
        genre_ids = self._genre_ids(genre, len(songs))  # before the slow part
        if isinstance(songs[0], Mapping) and "input_features" in songs[0]:
            inputs = self._pad([song["input_features"] for song in songs])
        else:
            inputs = self.feature_extractor(
                songs, sampling_rate=sampling_rate, pad_to_multiple_of=self.frames_per_code, return_tensors="np"
            )
        num_frames = [int(mask.sum()) for mask in inputs["attention_mask"]]
        for features, mask, frames in zip(inputs["input_features"], inputs["attention_mask"], num_frames, strict=True):
            # Zeros are no music (raw features: zero is far from silence), so the code that the song's end falls into would
            # be danced to something never heard.
            end = -(-frames // self.frames_per_code) * self.frames_per_code
            features[frames:end] = features[frames - 1]
            features[frames:end, [BEAT, PEAK]] = 0
            mask[frames:end] = 1
        if genre_ids is not None:
            inputs["genre_ids"] = np.array(genre_ids, dtype=np.int64)
        batch = BatchFeature(dict(inputs), tensor_type=return_tensors)
        batch["num_frames"] = num_frames
        return batch

    def _pad(self, rows: list[Any]) -> BatchFeature:
        """Features of songs, filled up to the longest and to whole codes."""
        size = self.feature_extractor.feature_size
        arrays = [np.array(array, dtype=np.float32) for array in rows]  # copies: ends are written below
        for array in arrays:
            if array.ndim != 2 or array.shape[1] != size or len(array) < self.frames_per_code:
                raise ValueError(
                    f"input_features has shape {array.shape}: give (frames, {size}) with at least {self.frames_per_code} frames"
                )
        return self.feature_extractor.pad(
            BatchFeature({"input_features": arrays}), pad_to_multiple_of=self.frames_per_code, return_tensors="np"
        )

    def _genre_ids(self, genre: str | Sequence[str] | None, count: int) -> list[int] | None:
        if genre is None:
            return None
        names = [genre] * count if isinstance(genre, str) else list(genre)
        if len(names) != count:
            raise ValueError(f"genre has {len(names)} names for {count} songs: give one name, or one for each song")
        return [self.genre_id(name) for name in names]

    @torch.no_grad()
    def post_process_motion(
        self,
        outputs: Any,
        tokenizer: Any,
        num_frames: int | Sequence[int] | None = None,
        floor: bool = True,
        start: Sequence[float] | None = None,
    ) -> list[dict[str, np.ndarray]]:
        """Codes to poses and the root path.

        Args:
            outputs: has `upper_codes` and `lower_codes`, each [batch, steps] (what `generate()` gives).
            tokenizer: a `MegaDanceTokenizer`.
            num_frames: how many frames to keep, one number or a list with one for each song; all of them when None. With
                several dances a song (`num_return_sequences`) each number is used for all dances of its song.
            floor: keep the lowest joint on the floor, y = 0 (see `ground_translation`). Deviation: the paper and the
                released code only sum up the decoded velocities, whose small errors let the dancer slowly sink or rise.
            start: (x, y, z) of the pelvis in the first frame, metres; x = z = 0 and the lowest joint at y = 0 when None.

        Returns:
            for each dance `poses` (T, 24, 3), axis-angle, and `translation` (T, 3), metres, Y up; float32.
        """
        steps = outputs.upper_codes.shape[1] * self.frames_per_code
        counts = list(num_frames) if isinstance(num_frames, Sequence) else [num_frames or steps]
        counts = np.repeat(counts, len(outputs.upper_codes) // len(counts)).tolist()
        dances = []
        for upper, lower, count in zip(outputs.upper_codes, outputs.lower_codes, counts, strict=True):
            # Each by itself: what fills up a shorter dance of the batch must not reach into its end through the decoder.
            codes = -(-count // self.frames_per_code)
            motion = tokenizer.decode(upper[None, :codes], lower[None, :codes])[0, :count].float().cpu()
            poses, translation = self._place(motion, tokenizer.config.fps, floor, start)
            dances.append({"poses": poses.numpy(), "translation": translation.numpy()})
        return dances

    @staticmethod
    def _place(motion: Tensor, fps: float, floor: bool, start: Sequence[float] | None) -> tuple[Tensor, Tensor]:
        poses, translation = motion_to_poses(motion)
        if start is None:
            first = forward_kinematics(axis_angle_to_matrix(poses[0]), torch.zeros(3))
            start = (0.0, -float(first[:, 1].min()), 0.0)
        translation = translation + torch.tensor(start, dtype=translation.dtype)
        return poses, ground_translation(poses, translation, fps) if floor else translation
