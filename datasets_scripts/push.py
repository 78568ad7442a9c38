"""A prepared data set -> the Hub, without what its licence keeps from being passed on."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from megadance_hf.datasets_scripts.schema import INFO_FILE, SPLITS, DataError, read_info

WITHOUT_AUDIO = "**No sound.** The `audio` column is empty: the music may not be redistributed. `input_features` are its 35 features."


def push_prepared(folder: str | Path, repo: str, api: Any = None) -> str:
    """Uploads a prepared folder as a private data set repository, made when missing, and returns its address.

    The repository is private, so that whoever uploads decides what the licence allows to be seen. Music goes along only where the
    data set's card says that it may (`Card.share_audio`); otherwise its column is uploaded empty, and the card says so.

    Args:
        folder: written by one of the scripts here.
        repo: "NAME" or "OWNER/NAME".
        api: a `huggingface_hub.HfApi`; made when None.

    Raises:
        MissingDataError: the folder is not a prepared data set.
        DataError: the Hub refused; the message has its reason.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    folder = Path(folder)
    info = read_info(folder)
    api = HfApi() if api is None else api
    names = ["README.md", INFO_FILE, *(f"{split}.parquet" for split in SPLITS if split in info["splits"])]
    with tempfile.TemporaryDirectory(prefix=".megadance-", dir=folder) as temporary:
        source = folder
        if not info.get("share_audio", False) and any(n["paired_clips"] for n in info["splits"].values()):
            source = Path(temporary)
            _copy_without_audio(folder, source, names)
        try:
            repo_id = api.create_repo(repo, repo_type="dataset", private=True, exist_ok=True).repo_id
            api.upload_folder(
                repo_id=repo_id,
                repo_type="dataset",
                folder_path=str(source),
                allow_patterns=names,
                commit_message="Prepared with megadance",
            )
        except (HfHubHTTPError, HFValidationError, OSError) as error:
            reason = " ".join(str(error).split())
            raise DataError(
                f"repo={repo!r}: the Hub did not take it ({reason}); log in with `hf auth login`"
            ) from error
    return f"https://huggingface.co/datasets/{repo_id}"


def _copy_without_audio(folder: Path, target: Path, names: list[str]) -> None:
    """The files `names` of a prepared folder, the audio column empty, one row group at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name in names:
        if name.endswith(".parquet"):
            with (
                pq.ParquetFile(folder / name) as file,
                pq.ParquetWriter(target / name, file.schema_arrow, compression="zstd") as writer,
            ):
                column = file.schema_arrow.get_field_index("audio")
                for group in range(file.num_row_groups):
                    table = file.read_row_group(group)
                    empty = pa.nulls(table.num_rows, table.schema.field(column).type)
                    writer.write_table(table.set_column(column, table.schema.field(column), empty))
        elif name == "README.md":
            text = (folder / name).read_text(encoding="utf-8")
            (target / name).write_text(f"{text}\n{WITHOUT_AUDIO}\n", encoding="utf-8")
        else:
            shutil.copy(folder / name, target / name)
