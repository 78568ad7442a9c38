"""A prepared data set -> the Hub, without what its licence keeps from being passed on."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from megadance_hf.data.card import PLACE
from megadance_hf.data.schema import INFO_FILE, PARQUET, SPLITS, DataError, open_parquet, read_info
from megadance_hf.modeling.files_megadance import scratch

WITHOUT_AUDIO = "**No sound.** The `audio` column is empty: the music may not be redistributed. `input_features` are its 35 features."


def push_prepared(folder: str | Path, repo: str, api: Any = None, samples: Sequence[Path] = ()) -> str:
    """Uploads a prepared folder as a private data set repository, made when missing, and returns its address.

    The repository is private, so that whoever uploads decides what the licence allows to be seen. Music goes along only where the
    data set's card says that it may (`Card.share_audio`); otherwise its column is uploaded empty, and the card says so.

    Args:
        folder: written by one of the scripts here.
        repo: "NAME" or "OWNER/NAME".
        api: a `huggingface_hub.HfApi`; made when None.
        samples: pictures (.png) and videos (.mp4) of what is in it, which are uploaded and shown on its page.

    Raises:
        MissingDataError: the folder is not a prepared data set.
        DataError: the Hub refused; the message has its reason.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError

    folder = Path(folder)
    info = read_info(folder)
    api = HfApi() if api is None else api
    names = _names(info)
    with scratch(folder) as temporary:
        try:
            address = api.create_repo(repo, repo_type="dataset", private=True, exist_ok=True)
            copy_for_hub(folder, temporary, address.repo_id, samples, str(address))
            api.upload_folder(
                repo_id=address.repo_id,
                repo_type="dataset",
                folder_path=temporary,
                allow_patterns=[*names, *(sample.name for sample in samples)],
                commit_message="Prepared with megadance",
            )
        except (
            HfHubHTTPError,
            HTTPError,
            HFValidationError,
            OSError,
            RuntimeError,
            ValueError,
        ) as error:  # ValueError: the card's metadata
            reason = " ".join(str(error).split())
            raise DataError(
                f"repo={repo!r}: the Hub did not take it ({reason}); log in with `hf auth login`"
            ) from error
    return str(address)


def _show(sample: Path, address: str) -> str:
    if sample.suffix == ".mp4":
        return f'<video controls src="{address}/resolve/main/{sample.name}"></video>'
    return f"![Moments of a dance]({sample.name})"


def _names(info: dict[str, Any]) -> list[str]:
    return ["README.md", INFO_FILE, *(f"{split}.parquet" for split in SPLITS if split in info["splits"])]


def copy_for_hub(
    folder: str | Path, target: str | Path, repo: str, samples: Sequence[Path] = (), address: str = ""
) -> None:
    """What is uploaded of a prepared folder, in an empty one: its files, the repository's name and samples in its page, no audio
    unless it may be passed on. Large files are links."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder, target, info = Path(folder), Path(target), read_info(folder)
    names = _names(info)
    keep_audio = info.get("share_audio", False) or not any(n["paired_clips"] for n in info["splits"].values())
    for sample in samples:
        (target / sample.name).symlink_to(sample.resolve())
    for name in names:
        if name == "README.md":
            text = (folder / name).read_text(encoding="utf-8").replace(PLACE, json.dumps(repo))
            added = [*([] if keep_audio else [WITHOUT_AUDIO]), *(_show(sample, address) for sample in samples)]
            (target / name).write_text(
                "\n".join([text, *(f"{line}\n" for line in added)]) if added else text, encoding="utf-8"
            )
        elif keep_audio or not name.endswith(".parquet"):
            (target / name).symlink_to((folder / name).resolve())
        else:  # one row group at a time
            with (
                open_parquet(folder / name) as file,
                pq.ParquetWriter(target / name, file.schema_arrow, **PARQUET) as writer,
            ):
                column = file.schema_arrow.get_field_index("audio")
                for group in range(file.num_row_groups):
                    table = file.read_row_group(group)
                    empty = pa.nulls(table.num_rows, table.schema.field(column).type)
                    writer.write_table(table.set_column(column, table.schema.field(column), empty))
