"""Pushing a prepared data set: what goes to the Hub and what stays here. The Hub is a stand-in that speaks HTTP."""

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
from hub_server import GUEST

from megadance_hf.data.card import Card
from megadance_hf.data.clip import Clip
from megadance_hf.data.prepared import DataError, MissingDataError, read_info, read_prepared, write_prepared
from megadance_hf.hub.datasets import push_dataset, push_prepared

FILES = ["README.md", "info.json", "test.parquet", "train.parquet"]


def clips():
    features = np.random.default_rng(0).random((20, 35)).astype(np.float32)
    empty = np.zeros((20, 72), np.float32)
    with_music = Clip("a", empty, empty[:, :3], input_features=features, audio=b"OggS", split="train")
    return [with_music, Clip("b", empty, empty[:, :3], split="train"), Clip("c", empty, empty[:, :3], split="test")]


@pytest.fixture
def pushed(hub, tmp_path):
    """Pushes clips and gives (what the repository holds, as a folder; the folder that was pushed)."""

    def push(share_audio, clips=clips):
        folder, store = tmp_path / "set", tmp_path / "store"
        write_prepared(folder, clips(), card=Card("T", "D", "L", "cc0-1.0", share_audio=share_audio), genres=())
        (folder / "notes.txt").write_text("my own")
        before = {file.name: file.read_bytes() for file in folder.iterdir()}
        assert push_prepared(folder, "dances") == f"{hub.url}/datasets/anna/dances"
        assert {file.name: file.read_bytes() for file in folder.iterdir()} == before, "the folder is left as it was"
        repository = hub.repositories["dataset", "anna/dances"]
        assert repository.private and repository.messages == ["initial commit", "Prepared with megadance"]
        store.mkdir()
        for name, content in repository.files().items():
            (store / name).write_bytes(content)
        assert sorted(os.listdir(store)) == [".gitattributes", *FILES]
        return store, folder

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
    for name in FILES:
        here = (folder / name).read_bytes()
        assert (store / name).read_bytes() == here.replace(b'load_dataset("PATH"', b'load_dataset("anna/dances"')


def test_refusals_are_one_line(hub, tmp_path, monkeypatch):
    with pytest.raises(MissingDataError, match="not a prepared data set"):
        push_prepared(tmp_path, "dances")
    write_prepared(tmp_path / "set", clips(), card=Card("T", "D", "L", "cc0-1.0"), genres=())
    with pytest.raises(DataError, match=r"^repo='a\.\.b': the Hub did not take it \(Cannot have [^\n]*\)$"):
        push_prepared(tmp_path / "set", "a..b")
    monkeypatch.setenv("HF_TOKEN", GUEST)
    with pytest.raises(
        DataError, match=r"^repo='anna/dances': the Hub did not take it \([^\n]*\); log in with `hf auth login`$"
    ):
        push_prepared(tmp_path / "set", "anna/dances")
    assert sorted(os.listdir(tmp_path / "set")) == FILES


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
