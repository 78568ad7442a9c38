"""Models without the package: by id, with only transformers and its dependencies, from the files of `modeling/` alone."""

import base64
import copy
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import save_tiny_model, write_song

from megadance_hf import Motion, MusicToDancePipeline
from megadance_hf.hub.push import push_to_hub
from megadance_hf.modeling.configuration_megadance import MegaDanceConfig
from megadance_hf.modeling.feature_extraction_megadance import MegaDanceFeatureExtractor
from megadance_hf.modeling.remote_code_megadance import copy_code, task_is_registered

REPO = "anna/dance"


@pytest.fixture(scope="module")
def song(tmp_path_factory):
    return write_song(tmp_path_factory.mktemp("song") / "song.wav", seconds=1.5)


# Neither the package nor anything that only it needs.
LEFT_OUT = (
    "megadance",
    "__editable__",
    "av",
    "cv2",
    "opencv",
    "scipy",
    "datasets",
    "accelerate",
    "librosa",
    "smplx",
    "_pytest",
)


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """`bare(code, folder, **environment)` runs Python where nothing but transformers and what it needs is installed; what it printed."""
    packages = tmp_path_factory.mktemp("bare")
    for place in map(Path, sys.path):
        if place.name in ("site-packages", "dist-packages"):
            for entry in place.iterdir():
                if (
                    not entry.name.startswith(LEFT_OUT)
                    and entry.suffix != ".pth"
                    and not (packages / entry.name).exists()
                ):
                    (packages / entry.name).symlink_to(entry)

    def run(code: str, home: Path, **environment: str) -> str:
        start = f"import sys; sys.path.append({str(packages)!r})\n"
        known = {
            name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "OMP_NUM_THREADS") if name in os.environ
        }
        settings = {**known, **environment}
        command = [sys.executable, "-I", "-S", "-c", start + code]
        done = subprocess.run(command, cwd=home, env=settings, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


WITHOUT_THE_PACKAGE = """
for name in ("megadance_hf", "av", "cv2", "scipy"):
    try:
        __import__(name)
    except ImportError:
        continue
    raise SystemExit(f"{name} is here")

import importlib.util
import json
import torch
from huggingface_hub import ModelCard, snapshot_download
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForCausalLM, AutoProcessor, pipeline

REPO, SONG = "anna/dance", "song.wav"
trust = {"trust_remote_code": True}
torch.manual_seed(0)
features, genre = torch.rand(1, 64, 35), torch.tensor([1])
config = AutoConfig.from_pretrained(REPO, **trust)
model = AutoModelForCausalLM.from_pretrained(REPO, **trust).eval()
body = AutoModel.from_pretrained(REPO, **trust).eval()
first = next(iter(body.layers[0].state_dict()))
codes = model.generate(features, genre, seed=7, do_sample=True)
extractor = AutoFeatureExtractor.from_pretrained(REPO, **trust)
processor = AutoProcessor.from_pretrained(REPO, **trust)
tokenizer = AutoModel.from_pretrained(REPO, subfolder="tokenizer", **trust).eval()
(by_hand,) = processor.post_process_motion(codes, tokenizer)
typed = processor.batch_decode(model.generate(**processor([SONG, SONG], genre=["rumba", "waltz"]), seed=[7, 8], do_sample=True))
pipe = pipeline("music-to-dance", model=REPO, **trust)
dance = pipe(SONG, genre="rumba", seed=7)
again = pipe(SONG, genre="rumba", seed=7, start_motion={name: dance[name][:16] for name in ("poses", "translation")})
several = pipe([SONG, SONG], ["rumba", "waltz"], batch_size=2, num_return_sequences=2, seed=7)
by_generator = pipe(inputs=SONG, genre="rumba", generator=torch.Generator().manual_seed(7), top_k=0)
said = []
for call in (lambda: pipe(SONG, num_beams=5), lambda: model(**processor(SONG, "rumba")), lambda: pipe.to("cuda:77")):
    try:
        call()
    except ValueError as error:
        said.append(str(error))
processor.save_pretrained("whole")
model.save_pretrained("whole")
pipe.save_pretrained("all")
whole = [pipeline("music-to-dance", model=place, **trust)(SONG, genre="rumba", seed=7) for place in ("whole", "all")]
card = ModelCard.load(REPO).text
exec(card.split("```python\\n")[1].split("```")[0], shown := {})
endpoint = importlib.util.spec_from_file_location("handler", snapshot_download(REPO) + "/handler.py")
endpoint.loader.exec_module(handler := importlib.util.module_from_spec(endpoint))
answers = handler.EndpointHandler(snapshot_download(REPO))
request = {"inputs": open(SONG, "rb").read(), "parameters": {"genre": "rumba", "seed": 7}}
answer = answers(request)
try:
    answers({**request, "parameters": {"format": "glb"}})
except ValueError as error:
    refusal = str(error)
model.save_pretrained("saved")
tokenizer.save_pretrained("saved_tokenizer")
saved = AutoModelForCausalLM.from_pretrained("saved", **trust).eval().generate(features, genre, seed=7, do_sample=True)
pipe.push_to_hub("anna/copy")
print(json.dumps({
    "modules": sorted({type(x).__module__.split(".")[0] for x in (config, model, extractor, processor, tokenizer, pipe)}),
    "pipeline": type(pipe).__name__,
    "body": [type(body).__name__, torch.equal(body.layers[0].state_dict()[first], model.model.layers[0].state_dict()[first])],
    "genres": config.genres,
    "upper": codes.upper_codes.tolist(),
    "lower": codes.lower_codes.tolist(),
    "saved": saved.upper_codes.tolist(),
    "auto_maps": [json.load(open(f"{name}/config.json"))["auto_map"]["AutoModel"] for name in ("saved", "saved_tokenizer")],
    "typed": [typed[0]["poses"].tolist(), typed[0]["genre"], typed[1]["genre"], len(typed[1]["poses"])],
    "several": [[one["poses"].shape[0] for one in dances] + [dances[0]["genre"]] for dances in several],
    "by_generator": len(by_generator["poses"]),
    "said": said,
    "whole": [one["poses"].tolist() for one in whole],
    "by_hand": float(abs(by_hand["poses"]).sum()),
    "poses": dance["poses"].tolist(),
    "translation": dance["translation"].tolist(),
    "notes": [dance["fps"], dance["genre"], dance["metadata"]["seed"], dance["metadata"]["model"]],
    "began": again["poses"].shape,
    "answer": answer["data"],
    "refusal": refusal,
    "shown": [shown["dance"]["poses"].shape, shown["dance"]["genre"]],
}))
"""


@pytest.mark.versions
@pytest.mark.slow
def test_a_trained_and_pushed_model_works_without_the_package(hub, bare, tmp_path, song):
    """Train, push, load elsewhere by id with remote code and without the package: the same codes, the same dance."""
    from runs import GENRES as genres
    from runs import generator_run, tokenizer_run

    tokenizer_run(tmp_path / "run" / "tokenizer", epochs=1)
    rhythm = {"rhythm_size": 8, "rhythm_layers": 2, "rhythm_tempo": "steady"}
    model = generator_run(tmp_path / "run", epochs=1, batch_size=4, model=rhythm)[1].eval()
    MegaDanceFeatureExtractor().save_pretrained(tmp_path / "run")
    steps = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    assert steps >= 2
    push_to_hub(tmp_path / "run", REPO)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "song.wav").write_bytes(song.read_bytes())
    write_song(tmp_path / "elsewhere" / "song.mp3", seconds=1.0)
    found = json.loads(
        bare(WITHOUT_THE_PACKAGE, tmp_path / "elsewhere", **hub.environment(tmp_path / "home")).splitlines()[-1]
    )

    torch.manual_seed(0)
    features, genre = torch.rand(1, 64, 35), torch.tensor([1])
    codes = model.generate(features, genre, seed=7, do_sample=True)
    assert found["upper"] == codes.upper_codes.tolist() and found["lower"] == codes.lower_codes.tolist()
    assert found["saved"] == found["upper"] and found["genres"] == list(genres)
    assert found["body"] == ["MegaDanceModel", True]
    assert found["modules"] == ["transformers_modules"] and found["pipeline"] == "DancePipeline"
    assert all(isinstance(place, str) for place in found["auto_maps"]), "flat"
    dance = MusicToDancePipeline.from_pretrained(tmp_path / "run")(song, genre="rumba", seed=7)
    np.testing.assert_array_equal(np.array(found["poses"], np.float32), dance.poses)
    np.testing.assert_array_equal(np.array(found["translation"], np.float32), dance.translation)
    np.testing.assert_array_equal(np.array(found["typed"][0], np.float32), dance.poses)
    assert found["typed"][1:] == ["rumba", "waltz", 45] and found["by_generator"] == 45
    assert found["several"] == [[45, 45, "rumba"], [45, 45, "waltz"]]
    for poses in found["whole"]:
        np.testing.assert_array_equal(np.array(poses, np.float32), dance.poses)
    for line, start in zip(
        found["said"],
        ("num_beams=5: ", "upper_codes and lower_codes are missing: ", "device='cuda:77'"),
        strict=True,
    ):
        assert line.startswith(start) and "\n" not in line
    assert found["notes"] == [30, "rumba", 7, REPO] and found["began"] == [45, 24, 3]
    assert found["shown"] == [[30, 24, 3], "waltz"], "the card's own lines"
    assert Motion(np.array(found["poses"]), np.array(found["translation"])).seconds == 1.5
    with np.load(io.BytesIO(base64.b64decode(found["answer"]))) as answer:
        np.testing.assert_array_equal(answer["poses"].reshape(-1, 24, 3), dance.poses)
    assert "needs megadance-hf" in found["refusal"]
    # what was pushed from there is a whole model again
    pushed = hub.repositories["model", "anna/copy"].files()
    code = {name: content.decode() for name, content in pushed.items() if name.endswith(".py")}
    needed = {f"{module}.py" for text in code.values() for module in re.findall(r"^from \.(\w+) import", text, re.M)}
    assert {"pipeline_megadance.py", "processing_megadance.py"} | needed <= set(
        code
    ) and "tokenizer/config.json" in pushed
    copied = MusicToDancePipeline.from_pretrained("anna/copy")
    np.testing.assert_array_equal(copied(song, genre="rumba", seed=7).poses, dance.poses)


OFFLINE = """
import json
from transformers import pipeline
pipe = pipeline("music-to-dance", model="anna/dance", trust_remote_code=True, model_kwargs={"active_genres": ["waltz"]})
print(json.dumps([pipe.genres, pipe("song.wav", seed=0)["poses"].tolist()]))
"""


@pytest.mark.slow
def test_one_genre_is_downloaded_once_and_works_offline(hub, bare, tmp_path, song):
    push_to_hub(save_tiny_model(tmp_path / "model"), REPO)
    hub.requests.clear()
    (tmp_path / "song.wav").write_bytes(song.read_bytes())
    first = bare(OFFLINE, tmp_path, **hub.environment(tmp_path / "home")).splitlines()[-1]
    assert hub.shards() == {"model-shared.safetensors", "model-genre_waltz.safetensors", "tokenizer/model.safetensors"}
    hub.requests.clear()
    again = bare(OFFLINE, tmp_path, **(hub.environment(tmp_path / "home") | {"HF_HUB_OFFLINE": "1"})).splitlines()[-1]
    genres, poses = json.loads(first)
    assert again == first and hub.requests == [] and genres == ["waltz"]
    expected = MusicToDancePipeline.from_pretrained(tmp_path / "model")(song, "waltz", seed=0)
    np.testing.assert_array_equal(np.array(poses, np.float32), expected.poses)


# --- the parts -------------------------------------------------------------------------------------------------------


def test_copied_code_is_all_of_modeling(repository, tmp_path):
    copied = copy_code(tmp_path)
    assert {path.name for path in copied} == {path.name for path in (repository / "modeling").glob("*.py")} - {
        "__init__.py"
    }
    assert all(path.read_bytes() == (repository / "modeling" / path.name).read_bytes() for path in copied)


def test_the_installed_pipeline_has_precedence(monkeypatch):
    import megadance_hf.pipeline  # noqa: F401  (registers)

    content = MegaDanceConfig().to_dict()
    assert content["custom_pipelines"] and task_is_registered()
    assert not hasattr(MegaDanceConfig(**content), "custom_pipelines")
    monkeypatch.delitem(sys.modules["transformers.pipelines"].PIPELINE_REGISTRY.supported_tasks, "music-to-dance")
    assert not task_is_registered() and MegaDanceConfig(**content).custom_pipelines == content["custom_pipelines"]
    earlier = copy.deepcopy(content)
    earlier["custom_pipelines"]["music-to-dance"]["pt"] = ["AutoModel"]
    assert MegaDanceConfig(**earlier).custom_pipelines == content["custom_pipelines"]


def test_auto_map_is_always_flat():
    config = MegaDanceConfig(auto_map={"AutoModel": ("somewhere.Else", None)})
    assert config.to_dict()["auto_map"]["AutoModel"] == "modeling_megadance.MegaDanceModel"
    assert (
        MegaDanceFeatureExtractor().to_dict()["auto_map"]["AutoProcessor"] == "processing_megadance.MegaDanceProcessor"
    )
