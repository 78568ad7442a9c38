"""Models go to the Hub: once, or regularly while they are trained.

    push_to_hub("runs/generator", "OWNER/NAME")

`megadance push` is the same at the command line.
"""

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from torch import nn

from megadance_hf.modeling.files_megadance import scratch

from .connection import HubError, check_hub, one_line_refusals
from .repository import CARD, Model, listing, model_type_of, open_model, save_for_hub

# Files of an earlier upload that would hide the new ones: transformers prefers model.safetensors to shards.
REPLACED = ["*.safetensors", "*.safetensors.index.json", "*_megadance*.py", "sample.*"]
# What else of a trained model's folder is uploaded.
KEPT = ("curves.png", "metrics.jsonl", "LICENSE")


def push_to_hub(
    model: Model | str | os.PathLike,
    repo: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    message: str = "Upload with megadance",
    dry_run: bool = False,
    **contents: Any,
) -> str:
    """Upload a model with all it needs, in one commit; its address.

    Whether the Hub can be reached is checked first, before the model is loaded and a sample is danced.

    Args:
        model: see `save_for_hub`; or its folder, whose README.md, report.json, curves and licence are uploaded as well.
        repo: "NAME" or "OWNER/NAME"; created if it does not exist.
        private: whether a repository that is created is private.
        revision: branch to push to, created if it does not exist; "main" when None.
        token: of the Hub; that of `hf auth login` when None.
        message: of the commit.
        dry_run: upload nothing; the files that would be uploaded are returned as text.
        contents: `report`, `song`, `licence`, `datasets`, `card` of `save_for_hub`.

    Raises:
        HubError: the Hub refused, or what `save_for_hub` raises.
    """
    folder = Path(model) if isinstance(model, str | os.PathLike) else None
    if folder is not None:
        model_type_of(folder)
    if not dry_run:
        check_hub(repo, token)
    if folder is not None:
        model = open_model(folder)
        for name, file in (("card", folder / CARD), ("report", folder / "report.json")):
            if contents.get(name) is None and file.is_file():
                contents[name] = file
    api, repo_id = HfApi(token=token), repo
    if not dry_run:
        with one_line_refusals(repo):
            address = api.create_repo(repo, private=private, exist_ok=True)
            repo_id = address.repo_id
    with scratch() as temporary:
        target = save_for_hub(model, temporary / "repository", repo=repo_id, **contents)
        for name in KEPT if folder is not None else ():
            if (folder / name).is_file():
                shutil.copyfile(folder / name, target / name)
        if dry_run:
            return listing(target, repo, "model", private)
        with one_line_refusals(repo):
            if revision is not None:
                api.create_branch(repo_id, branch=revision, exist_ok=True)
            api.upload_folder(
                repo_id=repo_id, folder_path=target, revision=revision, commit_message=message, delete_patterns=REPLACED
            )
    return str(address)


def push_while_training(
    repo: str, whole: Callable[[nn.Module], Model] | None = None, **hub: Any
) -> Callable[[nn.Module, int], None]:
    """A function for `train(..., sample=...)` that pushes the model as it is so far. A push that fails is logged and does not end
    the training.

    Args:
        repo: "OWNER/NAME".
        whole: makes of the model that is trained what `push_to_hub` takes; the model itself when None.
        hub: `private`, `revision`, `token`, ... of `push_to_hub`.
    """

    def push(model: nn.Module, epoch: int) -> None:
        try:
            push_to_hub(model if whole is None else whole(model), repo, message=f"Training, epoch {epoch}", **hub)
        except HubError as error:
            logging.getLogger(__name__).warning("epoch %d was not pushed: %s", epoch, error)

    return push
