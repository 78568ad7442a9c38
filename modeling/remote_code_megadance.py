"""How a saved model finds its code where no package is installed (`trust_remote_code=True`).

Every configuration that is saved names its classes and the files they are in (`auto_map`; a generator's also its pipeline,
`custom_pipelines`), and whatever goes to the Hub takes these files along. A folder that was only saved has no code in it and
needs none where the package is: a class that is there already wins over one from the Hub.
"""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

TASK = "music-to-dance"
PIPELINES = {TASK: {"impl": "pipeline_megadance.DancePipeline", "pt": ["AutoModel"], "type": "audio"}}


def task_is_registered() -> bool:
    """Whether transformers knows the task here, so that the pipeline of a repository is not needed."""
    # asked of what is imported already: importing transformers' pipelines takes seconds
    registry = getattr(sys.modules.get("transformers.pipelines"), "PIPELINE_REGISTRY", None)
    return registry is not None and TASK in registry.supported_tasks


def copy_code(folder: str | os.PathLike) -> list[Path]:
    """Copy this file and those beside it into `folder`; returns the copies."""
    sources = sorted(Path(__file__).parent.glob("*_megadance*.py"))
    return [Path(shutil.copyfile(source, Path(folder) / source.name)) for source in sources]


def carry_code(folder: str | os.PathLike) -> None:
    """Copy it where no package is installed, since it has come with a model: a model that is saved there needs it again."""
    if __name__.startswith("transformers_modules."):
        copy_code(folder)


class PushesCode:
    """For what can be pushed: `push_to_hub` and `save_pretrained(push_to_hub=True)` upload the code as well."""

    def prepare_for_hub(self, folder: str | os.PathLike) -> None:
        """Add to a folder that this was saved in what only the Hub needs."""
        copy_code(folder)

    def _upload_modified_files(self, working_dir: str | os.PathLike, *args: Any, **kwargs: Any) -> Any:
        self.prepare_for_hub(working_dir)
        return super()._upload_modified_files(working_dir, *args, **kwargs)


class NamesCode(PushesCode):
    """For what is saved as JSON with an `auto_map`."""

    _auto_classes: dict[str, str] = {}

    def to_dict(self) -> dict[str, Any]:
        # Flat, and always from here: transformers would write a list for any class with "Tokenizer" in its name, and
        # AutoModel stumbles over it.
        return {**super().to_dict(), "auto_map": dict(self._auto_classes)}


__all__ = ["PIPELINES", "TASK", "NamesCode", "PushesCode", "carry_code", "copy_code", "task_is_registered"]
