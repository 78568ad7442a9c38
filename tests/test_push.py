"""Pushing a prepared data set: what goes to the Hub and what stays here. The Hub is a stand-in."""

import io
import json
import os
import subprocess
import sys

import av
import numpy as np
import pytest
from card_rules import card_errors
from helpers import save_tiny_data
from huggingface_hub import RepoUrl
from huggingface_hub.errors import HFValidationError

from megadance_hf.data.schema import Card, Clip, MissingDataError, read_info, read_prepared, write_prepared
from megadance_hf.hub.datasets import push_prepared
from megadance_hf.hub.push import push_dataset


class FakeApi:
    """Takes what an HfApi would be given and copies the folder's files, as the Hub does."""

    def __init__(self, store):
        self.store, self.repo, self.uploads = store, None, 0

    def create_repo(self, repo_id, *, repo_type, private, exist_ok):
        if ".." in repo_id:
            raise HFValidationError("Cannot have .. in repo_id")
        self.repo = {"type": repo_type, "private": private, "exist_ok": exist_ok}
        return RepoUrl(f"https://huggingface.co/datasets/me/{repo_id}")

    def upload_folder(self, *, repo_id, repo_type, folder_path, allow_patterns, commit_message):
        from pathlib import Path

        assert repo_type == "dataset" and repo_id.startswith("me/") and commit_message
        self.uploads += 1
        for name in allow_patterns:
            (self.store / name).write_bytes((Path(folder_path) / name).read_bytes())


def clips():
    features = np.random.default_rng(0).random((20, 35)).astype(np.float32)
    empty = np.zeros((20, 72), np.float32)
    with_music = Clip("a", empty, empty[:, :3], input_features=features, audio=b"OggS", split="train")
    return [with_music, Clip("b", empty, empty[:, :3], split="train"), Clip("c", empty, empty[:, :3], split="test")]


@pytest.fixture
def pushed(tmp_path):
    def push(share_audio, what=clips):
        card = Card("T", "D", "L", share_audio=share_audio)
        write_prepared(tmp_path / "set", what(), card=card, genres=())
        (tmp_path / "set" / "notes.txt").write_text("my own")
        (tmp_path / "store").mkdir()
        api = FakeApi(tmp_path / "store")
        before = {file.name: file.read_bytes() for file in (tmp_path / "set").iterdir()}
        address = push_prepared(tmp_path / "set", "dances", api)
        assert address == "https://huggingface.co/datasets/me/dances" and api.uploads == 1
        assert api.repo == {"type": "dataset", "private": True, "exist_ok": True}
        assert {file.name: file.read_bytes() for file in (tmp_path / "set").iterdir()} == before, "the folder stays"
        names = {"README.md", "info.json", "train.parquet", "test.parquet"}
        assert {file.name for file in (tmp_path / "store").iterdir()} == names
        return tmp_path / "store", tmp_path / "set"

    return push


def test_music_that_may_not_be_shared_stays_here(pushed):
    store, folder = pushed(share_audio=False)
    assert b"OggS" not in (store / "train.parquet").read_bytes()
    assert "The `audio` column is empty" in (store / "README.md").read_text()
    for there, here in zip(read_prepared(store, audio=True), read_prepared(folder, audio=True), strict=True):
        assert there.audio is None and (there.id, there.split) == (here.id, here.split)
        np.testing.assert_array_equal(there.poses, here.poses)
        if here.paired:
            np.testing.assert_array_equal(there.input_features, here.input_features)
    assert read_info(store) == read_info(folder)


def test_it_is_still_a_data_set_for_load_dataset(pushed):
    from datasets import load_dataset

    store, _ = pushed(share_audio=False)
    rows = load_dataset(str(store), split="train")
    assert rows["id"] == ["a", "b"] and rows["audio"] == [None, None]


@pytest.mark.parametrize(("share_audio", "kept"), [(True, "abc"), (False, "bc")], ids=["shared", "no music"])
def test_what_may_be_shared_goes_as_it_is(pushed, share_audio, kept):
    store, folder = pushed(share_audio, lambda: [clip for clip in clips() if clip.id in kept])
    for file in store.iterdir():
        here = (folder / file.name).read_bytes()
        assert file.read_bytes() == here.replace(b'load_dataset("PATH"', b'load_dataset("me/dances"')


def test_refusals_are_one_line(tmp_path):
    with pytest.raises(MissingDataError, match="not a prepared data set"):
        push_prepared(tmp_path, "dances", FakeApi(tmp_path))
    write_prepared(tmp_path / "set", clips(), card=Card("T", "D", "L"), genres=())
    with pytest.raises(ValueError, match=r"repo='a\.\.b': the Hub did not take it \(Cannot have .* log in with"):
        push_prepared(tmp_path / "set", "a..b", FakeApi(tmp_path))
    assert sorted(file.name for file in (tmp_path / "set").iterdir()) == [
        "README.md",
        "info.json",
        "test.parquet",
        "train.parquet",
    ]


def test_the_cards_of_sets_whose_music_belongs_to_others_say_so():
    from megadance_hf.datasets_scripts import aistpp, ballroom, finedance, mocap

    for module in (aistpp, ballroom, finedance, mocap):
        assert module.CARD.share_audio is False


# through HTTP

LOAD_DATA = """
import json
from datasets import load_dataset

rows = load_dataset("anna/dances", split="train")
streamed = list(load_dataset("anna/dances", split="train", streaming=True))
assert [row["id"] for row in streamed] == list(rows["id"])
columns = [list(rows[name]) for name in ("id", "genre", "audio")]
print(json.dumps([*columns, streamed[0]["poses"], streamed[0]["audio"]]))
"""


@pytest.mark.slow
def test_a_data_set_is_pushed_loaded_and_streamed(hub, tmp_path):
    folder = save_tiny_data(tmp_path / "set")
    assert push_dataset(folder, "dances") == f"{hub.url}/datasets/anna/dances"
    repository = hub.repositories["dataset", "anna/dances"]
    assert repository.private and set(repository.files()) >= {"README.md", "info.json", "train.parquet", "test.parquet"}
    card = repository.files()["README.md"].decode()
    assert card_errors(card, "dataset") == [] and 'load_dataset("anna/dances"' in card
    assert f'src="{hub.url}/datasets/anna/dances/resolve/main/sample.mp4"' in card and "](sample.png)" in card
    assert repository.files()["sample.png"].startswith(b"\x89PNG")
    with av.open(io.BytesIO(repository.files()["sample.mp4"])) as video:
        assert [stream.type for stream in video.streams] == ["video"], "no sound: the music may not be passed on"
    environment = os.environ | hub.environment(tmp_path / "home")
    command = [sys.executable, "-c", LOAD_DATA]
    hub.requests.clear()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    ids, genres, audio, poses, streamed_audio = json.loads(done.stdout.splitlines()[-1])
    assert ids == ["clip1", "clip2", "clip3"] and genres == ["rumba", "waltz", "chacha"]
    assert audio == [None] * 3 and streamed_audio is None, "the music may not be passed on"
    np.testing.assert_array_equal(np.array(poses, np.float32), read_prepared(folder, "train")[0].poses)
