"""Models that `from_pretrained(device_map=...)` has spread over several devices."""

import copy
import os
import pickle
import subprocess
from pathlib import Path

import pytest
import torch
from helpers import save_tiny_model, tiny_generator

from megadance_hf import MegaDanceTokenizer, MusicToDancePipeline
from megadance_hf.modeling.devices_megadance import computing_device, is_spread, layer_devices
from megadance_hf.modeling.modeling_megadance import MegaDanceForMotionGeneration

GENRES = torch.tensor([2, 0, 2, 1])


def test_two_devices_compute_what_one_does(forked_python):
    """Generation in all modes, forward, scores, cache, pipeline and stream; every operation is checked for tensors of two devices."""
    pytest.importorskip("accelerate")
    registration = pytest.importorskip("torch.utils.backend_registration")
    if not hasattr(registration, "_setup_privateuseone_for_python_backend"):
        pytest.skip("this torch has no devices that are written in Python")
    folder = Path(__file__).parent
    paths = os.pathsep.join([str(folder), str(folder.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [forked_python, str(folder / "device_map_checks.py")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths}, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert len(done.stdout.splitlines()) == 2 * 3 + 2


@pytest.mark.parametrize("placement", ["experts", "layers"])
def test_states_of_a_layer_are_on_its_device(placement):
    """What lies on the meta device can't be computed, but is there or not."""
    model = tiny_generator(num_hidden_layers=3, mamba_placement=placement)
    whole = model.make_cache(GENRES)
    assert isinstance(whole.conv, torch.Tensor) and whole.conv.shape[0] == 3
    model.model.layers[1:].to("meta")
    cache = model.make_cache(GENRES)
    assert model.device == cache.genre_ids.device == torch.device("cpu")

    def check(cache, batch=4):
        for name, dimension in (("conv", -3), ("ssm", -3), ("keys", -5), ("values", -5)):
            states = getattr(cache, name)
            assert [state.device.type for state in states] == ["cpu", "meta", "meta"]
            expected = list(getattr(whole, name).shape[1:])
            expected[dimension] = batch
            assert [list(state.shape) for state in states] == [expected] * 3
        for layer, device in enumerate(("cpu", "meta", "meta")):
            expert = cache.expert(layer, 0, slice(None))
            for state in (expert.conv, expert.ssm, expert.keys, expert.values, *expert.mamba(2)):
                assert state.device.type == device

    check(cache)
    for again in (copy.deepcopy(cache), pickle.loads(pickle.dumps(cache))):
        check(again)
        again.conv[0].fill_(1)
        assert (cache.conv[0] == 0).all() and (again.expert(0, 0, slice(None)).conv == 1).all()
        again.reset()
        assert (again.conv[0] == 0).all()
    cache.batch_repeat_interleave(2)
    check(cache, batch=8)
    cache.batch_select_indices(torch.tensor([5, 1, 0]))
    check(cache, batch=3)
    assert cache.genre_ids.tolist() == [2, 2, 2]


@pytest.mark.filterwarnings("ignore:The following device_map keys do not match any submodules")
def test_embeddings_may_stay_on_the_disk(tmp_path):
    """`model.device`, where inputs go, is that of the first weights, which then are nowhere between calls."""
    pytest.importorskip("accelerate")
    model = tiny_generator(num_hidden_layers=2, genre_embedding=True)
    model.save_pretrained(tmp_path / "model")
    parts = [f"model.{name}" for name, _ in model.model.named_children() if name != "layers"]
    layers = [f"model.layers.{index}" for index in range(2)]
    device_map = dict.fromkeys([*parts, *layers, "model.music_mean", "model.music_std", "output_mlp"], "cpu")
    device_map["model.upper_embedding"] = device_map["model.layers.0"] = "disk"
    loaded = MegaDanceForMotionGeneration.from_pretrained(
        tmp_path / "model", device_map=device_map, offload_folder=tmp_path / "off"
    )
    first = next(loaded.parameters())
    assert first.is_meta and loaded.device == torch.device("cpu") and is_spread(loaded)
    assert layer_devices(loaded.model.layers) == [torch.device("cpu")] * 2
    assert computing_device(loaded.model.layers[0].universal_expert) == torch.device("cpu")
    music = torch.randn(4, 40, 35)
    dances = [one.generate(music, GENRES, do_sample=True, seed=0).upper_codes for one in (model, loaded)]
    assert torch.equal(*dances)


@pytest.mark.filterwarnings("ignore:The following device_map keys do not match any submodules")
def test_the_pipeline_of_a_model_whose_first_part_is_on_the_disk(tmp_path):
    pytest.importorskip("accelerate")
    folder = save_tiny_model(tmp_path / "model")
    model = MegaDanceForMotionGeneration.from_pretrained(folder)
    parts = [f"model.{name}" for name, _ in model.model.named_children()]
    device_map = dict.fromkeys([*parts, "model.music_mean", "model.music_std", "output_mlp"], "cpu")
    device_map[parts[0]] = "disk"
    spread = MegaDanceForMotionGeneration.from_pretrained(
        folder, device_map=device_map, offload_folder=tmp_path / "off"
    )
    pipes = [
        MusicToDancePipeline(one, MegaDanceTokenizer.from_pretrained(folder / "tokenizer")) for one in (model, spread)
    ]
    assert pipes[1].device == torch.device("cpu")
    song = {"input_features": torch.rand(40, 35).numpy()}
    poses = [pipe(song, pipe.genres[0], seed=0).poses for pipe in pipes]
    assert (poses[0] == poses[1]).all()


def test_a_model_without_hooks_is_where_its_weights_are():
    model = tiny_generator()
    assert not is_spread(model) and computing_device(model) == model.device == torch.device("cpu")
    with pytest.raises(ValueError, match="Identity has no weights"):
        computing_device(torch.nn.Identity())
