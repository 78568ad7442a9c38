"""The processor of `modeling/`, with a `Motion` in place of arrays.

processor = MegaDanceProcessor.from_pretrained()                    # the bundled model's; or a folder's, or a Hub id's
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
        """As in transformers; also by the name of a bundled model. Without a name the default model's."""
        source = os.fspath(pretrained_model_name_or_path)
        if not kwargs.get("subfolder"):
            source = find_model(source)
        return super().from_pretrained(source, **kwargs)

    def _dance(self, dance: dict[str, Any]) -> Motion:
        return Motion(**dance)
