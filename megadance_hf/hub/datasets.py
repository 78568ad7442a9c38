"""Prepared data sets go to the Hub, without what their licences do not allow to be shared."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi

from megadance_hf.data.card import PLACE
from megadance_hf.data.clip import SPLITS
from megadance_hf.data.prepared import INFO_FILE, PARQUET, DataError, iter_prepared, open_parquet, read_info
from megadance_hf.modeling.files_megadance import scratch
from megadance_hf.modeling.kinematics_megadance import NUM_JOINTS
from megadance_hf.motion.motion import Motion

from .connection import check_hub, one_line_refusals
from .repository import SAMPLE_SECONDS, SAMPLE_SIZE, listing

WITHOUT_AUDIO = "**No sound.** The `audio` column is empty: the music may not be redistributed. `input_features` are its 35 features."


def push_dataset(folder: str | Path, repo: str, dry_run: bool = False) -> str:
    """Upload a prepared data set with a video and pictures of its first clip; see `push_prepared`.

    Args:
        folder: the prepared data set.
        repo: "NAME" or "OWNER/NAME".
        dry_run: upload nothing.

    Returns:
        the repository's address; of a dry run, the files that would be uploaded.

    Raises:
        HubError: the Hub cannot be reached. DataError: it refused, or this is no prepared data set.
    """
    from megadance_hf.render.video import filmstrip

    info = read_info(folder)
    if not dry_run:
        check_hub(repo)
    clip = next(iter_prepared(folder, audio=True))
    frames = round(SAMPLE_SECONDS * clip.fps)
    dance = Motion(clip.poses[:frames].reshape(-1, NUM_JOINTS, 3), clip.translation[:frames], clip.fps, clip.genre)
    with scratch() as temporary:
        video, pictures = temporary / "sample.mp4", temporary / "sample.png"
        dance.save(video, music=clip.audio if info.get("share_audio") else None)
        filmstrip(dance, pictures, size=SAMPLE_SIZE)
        if dry_run:
            copy = temporary / "repository"
            copy.mkdir()
            copy_for_hub(folder, copy, repo, [video, pictures])
            return listing(copy, repo, "data set", private=True)
        return push_prepared(folder, repo, [video, pictures])


def push_prepared(folder: str | Path, repo: str, samples: Sequence[Path] = ()) -> str:
    """Upload a prepared folder to a private data set repository, created if it does not exist; its address.

    The repository is private, so that whoever uploads decides what the licence allows to be seen. Music is uploaded only where the
    data set's card says that it may be (`Card.share_audio`); otherwise its column is uploaded empty, and the card says so.

    Args:
        folder: as `megadance prepare` writes it.
        repo: "NAME" or "OWNER/NAME".
        samples: pictures (.png) and videos (.mp4), which are uploaded and shown on the repository's page.

    Raises:
        MissingDataError: the folder is not a prepared data set.
        DataError: the Hub refused; the message has its reason.
    """
    api, names = HfApi(), _files(read_info(folder))
    with scratch(folder) as temporary, one_line_refusals(repo, DataError):
        address = api.create_repo(repo, repo_type="dataset", private=True, exist_ok=True)
        copy_for_hub(folder, temporary, address.repo_id, samples, str(address))
        api.upload_folder(
            repo_id=address.repo_id,
            repo_type="dataset",
            folder_path=temporary,
            allow_patterns=[*names, *(sample.name for sample in samples)],
            commit_message="Prepared with megadance",
        )
    return str(address)


def copy_for_hub(
    folder: str | Path, target: str | Path, repo: str, samples: Sequence[Path] = (), address: str = ""
) -> None:
    """Put what is uploaded of a prepared folder into `target`, an empty one. Large files are links.

    The card names the repository and shows the samples; there is no audio unless it may be shared.
    """
    folder, target, info = Path(folder), Path(target), read_info(folder)
    keep_audio = info.get("share_audio", False) or not any(n["paired_clips"] for n in info["splits"].values())
    added = [] if keep_audio else [WITHOUT_AUDIO]
    for sample in samples:
        (target / sample.name).symlink_to(sample.resolve())
        video = f'<video controls src="{address}/resolve/main/{sample.name}"></video>'
        added.append(video if sample.suffix == ".mp4" else f"![Moments of a dance]({sample.name})")
    for name in _files(info):
        if name == "README.md":
            text = (folder / name).read_text(encoding="utf-8").replace(PLACE, json.dumps(repo))
            text = "\n".join([text, *(f"{line}\n" for line in added)])
            (target / name).write_text(text, encoding="utf-8")
        elif keep_audio or not name.endswith(".parquet"):
            (target / name).symlink_to((folder / name).resolve())
        else:
            _copy_without_audio(folder / name, target / name)


def _files(info: dict[str, Any]) -> list[str]:
    return ["README.md", INFO_FILE, *(f"{split}.parquet" for split in SPLITS if split in info["splits"])]


def _copy_without_audio(source: Path, target: Path) -> None:
    """Copy a Parquet file with its audio column empty, one row group at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with open_parquet(source) as file, pq.ParquetWriter(target, file.schema_arrow, **PARQUET) as writer:
        column = file.schema_arrow.get_field_index("audio")
        field = file.schema_arrow.field(column)
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            writer.write_table(table.set_column(column, field, pa.nulls(table.num_rows, field.type)))
