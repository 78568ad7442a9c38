"""How a saved model finds its code where no package is installed (`trust_remote_code=True`).

Every configuration that is saved names its classes and the files they are in (`auto_map`; a generator's also its pipeline,
`custom_pipelines`), and whatever is pushed to the Hub takes these files along. A folder that was only saved holds no code, and
needs none where the package is installed: transformers prefers a registered class to one from the Hub.
"""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

from transformers.utils import PushToHubMixin

TASK = "music-to-dance"
PIPELINES = {TASK: {"impl": "pipeline_megadance.DancePipeline", "pt": ["AutoModelForCausalLM"], "type": "audio"}}


def task_is_registered() -> bool:
    """Whether transformers knows the task here, so that the pipeline of a repository is not needed."""
    # only if it is imported already: importing transformers' pipelines takes seconds
    registry = getattr(sys.modules.get("transformers.pipelines"), "PIPELINE_REGISTRY", None)
    return registry is not None and TASK in registry.supported_tasks


def copy_code(folder: str | os.PathLike) -> list[Path]:
    """Copy this file and those beside it into `folder`; returns the copies."""
    sources = sorted(Path(__file__).parent.glob("*_megadance*.py"))
    return [Path(shutil.copyfile(source, Path(folder) / source.name)) for source in sources]


def carry_code(folder: str | os.PathLike) -> None:
    """Copy the code into `folder` if this code itself came with a model: no package is installed then, so a saved model needs it."""
    if __name__.startswith("transformers_modules."):
        copy_code(folder)


class PushesCode(PushToHubMixin):
    """Mixin: `push_to_hub` and `save_pretrained(push_to_hub=True)` upload the code as well."""

    def prepare_for_hub(self, folder: str | os.PathLike) -> None:
        """Add what only the Hub needs to a folder that this was saved in."""
        copy_code(folder)

    def _upload_modified_files(self, working_dir: str | os.PathLike, *args: Any, **kwargs: Any) -> Any:
        self.prepare_for_hub(working_dir)
        return super()._upload_modified_files(working_dir, *args, **kwargs)


class NamesCode(PushesCode):
    """Mixin of what is saved as JSON with an `auto_map`."""

    _auto_classes: dict[str, str] = {}

    def to_dict(self) -> dict[str, Any]:
        # Flat strings: for a class with "Tokenizer" in its name transformers would write a list, which AutoModel cannot read.
        return {**super().to_dict(), "auto_map": dict(self._auto_classes)}
