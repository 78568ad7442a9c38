"""The processor of this package: what `modeling/` gives as arrays is a `Motion` here.

processor = MegaDanceProcessor.from_pretrained()                    # of the bundled model; or of a folder, or a Hub id
output = model.generate(**processor("song.mp3", genre="waltz"), seed=0)
processor.decode(output).save("dance.mp4", music="song.mp3")
"""

import os
from typing import Any

from .modeling.processing_megadance import MegaDanceProcessor as ArraysProcessor
from .models import DEFAULT_MODEL, find_model
from .motion.motion import Motion


class MegaDanceProcessor(ArraysProcessor):
    __doc__ = ArraysProcessor.__doc__

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike = DEFAULT_MODEL, **kwargs: Any):
        """Also by the name of a bundled model, which is what there is when nothing is named."""
        source = os.fspath(pretrained_model_name_or_path)
        if not kwargs.get("subfolder"):
            source = find_model(source)
        return super().from_pretrained(source, **kwargs)

    def _dance(self, dance: dict[str, Any]) -> Motion:
        return Motion(**dance)
