"""What a generator dances while it is trained."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from megadance_hf.data.clip import Clip
from megadance_hf.modeling.feature_extraction_megadance import MegaDanceFeatureExtractor
from megadance_hf.modeling.processing_megadance import MegaDanceProcessor
from megadance_hf.motion.motion import Motion
from megadance_hf.pipeline import MusicToDancePipeline

SAMPLE_SECONDS = 8


def dance_sampler(tokenizer: Any, clips: Sequence[Clip], folder: Path) -> Callable[[nn.Module, int], None]:
    """For `train(..., sample=...)`: a dance to the first clip with music, saved to `folder` as a picture and as .npz."""
    songs = [clip for clip in clips if clip.paired]

    def sample(model: Any, epoch: int) -> None:
        from megadance_hf.render.video import filmstrip

        if not songs:
            return
        clip, config = songs[0], model.config
        frames = min(len(clip), SAMPLE_SECONDS * config.fps) // config.frames_per_code * config.frames_per_code
        features = torch.from_numpy(clip.input_features[None, :frames])
        codes = model.generate(features, torch.tensor([model.genre_id(clip.genre)]), seed=0, do_sample=True)
        codes.upper_codes = codes.upper_codes.to(tokenizer.device)
        codes.lower_codes = codes.lower_codes.to(tokenizer.device)
        processor = MegaDanceProcessor(MegaDanceFeatureExtractor(), config.genres, config.frames_per_code)
        (dance,) = processor.post_process_motion(codes, tokenizer, frames, clean=False)
        motion = Motion(**dance, fps=config.fps, genre=clip.genre)
        folder.mkdir(parents=True, exist_ok=True)
        motion.save(folder / f"epoch-{epoch:04d}.npz")
        filmstrip(motion, folder / f"epoch-{epoch:04d}.png", size=(200, 300))

    return sample


def make_pipeline(
    model: Any, tokenizer: Any, extractor: MegaDanceFeatureExtractor | None = None
) -> MusicToDancePipeline:
    """A generator with the parts that dance with it: all that its repository holds."""
    extractor = extractor or MegaDanceFeatureExtractor()
    processor = MegaDanceProcessor(extractor, model.config.genres, model.config.frames_per_code)
    return MusicToDancePipeline(model, tokenizer, processor, device=model.device)
