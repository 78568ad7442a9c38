"""What users of transformers expect of any model, in the spirit of its own model tests, in every arrangement.

Each test is about a convention; what the model computes is tested elsewhere (`test_modeling_megadance.py`, `test_parity.py`).
"""

import copy
import io
import pickle

import pytest
import torch
from helpers import GENRES, Streamer
from torch import nn
from transformers import AttentionInterface, LogitsProcessorList, MaxLengthCriteria, StoppingCriteriaList
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from megadance_hf.modeling.configuration_megadance import MegaDanceConfig
from megadance_hf.modeling.modeling_megadance import MegaDanceForMotionGeneration, MegaDanceModel

pytestmark = pytest.mark.versions

CODES, STEPS = 27, 9
SIZES = {
    **{"codebook_size": CODES, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "state_size": 4},
    **{"intermediate_size": 24, "music_hidden_size": 8, "output_hidden_size": 12, "initializer_range": 0.3},
    **{"context_codes": 5, "slide_codes": 3, "dropout": 0.0, "id2label": dict(enumerate(GENRES))},
}
LEVELS = {**SIZES, "levels": [3, 3, 3]}
ARRANGEMENTS = {
    "released_2025": lambda **sizes: MegaDanceConfig.released_2025(**{**SIZES, **sizes}),
    "released_2026": lambda **sizes: MegaDanceConfig.released_2026(**{**LEVELS, **sizes}),
    "paper": lambda **sizes: MegaDanceConfig.paper(**{**SIZES, **sizes}),
    "sequential levels": lambda **sizes: MegaDanceConfig.released_2026(
        **{**LEVELS, "level_decoding": "sequential", **sizes}
    ),
}
GENRE_IDS = torch.tensor([2, 0, 2])


@pytest.fixture(scope="module", params=ARRANGEMENTS)
def make_config(request):
    return ARRANGEMENTS[request.param]


@pytest.fixture
def model(make_config):
    torch.manual_seed(0)
    return MegaDanceForMotionGeneration(make_config()).eval()


@pytest.fixture
def saved(model, tmp_path):
    model.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def music(batch: int = 3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {"input_features": torch.randn(batch, 8 * STEPS, 35, generator=generator), "genre_ids": GENRE_IDS[:batch]}


def inputs(batch: int = 3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    names = ("upper_codes", "lower_codes")
    return {**music(batch), **{name: torch.randint(CODES, (batch, STEPS), generator=generator) for name in names}}


def labels() -> dict[str, torch.Tensor]:
    return {"labels": torch.stack((inputs()["upper_codes"], inputs()["lower_codes"]), dim=1)}


def logits(model, **options) -> torch.Tensor:
    with torch.no_grad():
        outputs = model(**{**inputs(), **options})
    return torch.stack((outputs.upper_logits, outputs.lower_logits), dim=1)


def same(one: torch.Tensor, other: torch.Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(one, other, atol=atol, rtol=0, check_dtype=False)


def dance(model, **options) -> torch.Tensor:
    outputs = model.generate(**music(), **{"do_sample": True, "seed": 5, **options})
    return torch.stack((outputs.upper_codes, outputs.lower_codes), dim=1)


# --- saving, loading, copying ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_save_and_load_in_every_dtype(model, tmp_path, dtype):
    model = model.to(dtype)
    model.save_pretrained(tmp_path)
    rounding = {torch.float64: 1e-9, torch.float32: 1e-5, torch.float16: 0.05, torch.bfloat16: 0.4}[dtype]
    for asked in ({"dtype": "auto"}, {"dtype": dtype}) if dtype == torch.bfloat16 else ({},):
        loaded = MegaDanceForMotionGeneration.from_pretrained(tmp_path, **asked)
        assert loaded.dtype == loaded.config.dtype == dtype and not loaded.training
        same(logits(loaded), logits(model), atol=rounding)
        for (name, one), (other_name, other) in zip(
            model.state_dict().items(), loaded.state_dict().items(), strict=True
        ):
            assert name == other_name and torch.equal(one, other), name
    other = MegaDanceForMotionGeneration.from_pretrained(tmp_path, dtype=torch.float32)
    assert other.dtype == torch.float32 and other.model.music_mean.dtype == torch.float32
    same(logits(other), logits(model).float(), atol=max(rounding, 1e-4))


def test_save_and_load_in_pieces_and_from_a_state_dict(model, tmp_path):
    model.save_pretrained(tmp_path, max_shard_size="30KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    in_pieces = MegaDanceForMotionGeneration.from_pretrained(tmp_path)
    given = MegaDanceForMotionGeneration.from_pretrained(None, config=model.config, state_dict=model.state_dict())
    for loaded in (in_pieces, given.eval()):
        assert torch.equal(logits(loaded), logits(model))


def test_the_model_without_head_and_the_one_with_it_open_each_other_s_files(model, saved, tmp_path):
    base, info = MegaDanceModel.from_pretrained(saved, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    with torch.no_grad():
        states = base(**inputs()).last_hidden_state
        assert torch.equal(states, model.model(**inputs()).last_hidden_state)
    assert states.shape == (3, 3, STEPS, 16)
    base.save_pretrained(tmp_path / "base")
    whole, info = MegaDanceForMotionGeneration.from_pretrained(tmp_path / "base", output_loading_info=True)
    assert info["missing_keys"] and all(name.startswith("output_mlp.") for name in info["missing_keys"])
    assert model.base_model is model.model and base.base_model is base


def test_initialisation_does_not_depend_on_where_it_happens(model, tmp_path):
    """What a checkpoint lacks is initialised as in a new model, not left as it happens to be in memory. (Experts of a genre that are
    missing are an error.)"""
    part = {name: weight for name, weight in model.state_dict().items() if ".genre_experts." in name}
    model = MegaDanceForMotionGeneration(copy.deepcopy(model.config))
    loaded = MegaDanceForMotionGeneration.from_pretrained(None, config=model.config, state_dict=part)
    assert not any(weight.is_meta for weight in loaded.requires_grad_(False).state_dict().values())
    kinds = {type(module).__name__: module for module in model.modules()}
    for name, module in loaded.named_modules():
        if ".genre_experts." in name:
            continue
        if isinstance(module, nn.LayerNorm):
            assert (module.weight == 1).all() and (module.bias == 0).all(), name
        elif ".mambas." not in name and isinstance(module, nn.Linear | nn.Embedding):
            assert 0.15 < float(module.weight.std()) < 0.45 and abs(float(module.weight.mean())) < 0.2, name
            assert getattr(module, "bias", None) is None or (module.bias == 0).all(), name
        elif type(module).__name__ == "Mamba":
            assert (module.D == 1).all() and torch.equal(module.A_log, kinds["Mamba"].A_log), name
            step = nn.functional.softplus(module.dt_proj.bias)
            assert 0.00099 < float(step.min()) and float(step.max()) < 0.101, name
            for weight in (module.in_proj.weight, module.x_proj.weight, module.out_proj.weight):
                bound = weight.shape[1] ** -0.5
                assert 0.9 * bound < float(weight.abs().max()) <= bound, name
            assert 0.4 < float(module.conv1d.weight.abs().max()) <= 0.5, name
    assert (loaded.model.music_mean == 0).all() and (loaded.model.music_std == 1).all()


def test_means_and_spreads_of_a_new_model(make_config):
    """At a size where they can be measured."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 256, "output_hidden_size": 64, "initializer_range": 0.02}
    model = MegaDanceForMotionGeneration(make_config(**sizes))
    weights = {name: weight.detach() for name, weight in model.named_parameters() if weight.numel() > 4000}
    normal = [weight for name, weight in weights.items() if ".mambas." not in name]
    assert len(normal) >= 10
    for weight in normal:
        assert abs(float(weight.mean())) < 0.002 and abs(float(weight.std()) / 0.02 - 1) < 0.1
    again = MegaDanceForMotionGeneration(make_config(**sizes))
    assert not torch.equal(next(model.parameters()), next(again.parameters()))


@pytest.mark.parametrize("device_map", ["cpu", "auto", {"": "cpu"}, {"model": "cpu", "output_mlp": "cpu"}])
def test_device_map(model, saved, device_map):
    pytest.importorskip("accelerate")
    loaded = MegaDanceForMotionGeneration.from_pretrained(saved, device_map=device_map)
    assert torch.equal(logits(loaded), logits(model)) and torch.equal(dance(loaded), dance(model))


@pytest.mark.filterwarnings(
    "ignore:The following device_map keys do not match any submodules"
)  # accelerate wants buffers, too
@pytest.mark.parametrize("on_disk", ["output_mlp", "model.layers.1", "model.music_mlp"])
def test_parts_can_stay_on_the_disk(model, saved, tmp_path, on_disk):
    pytest.importorskip("accelerate")
    layers = [f"model.layers.{index}" for index in range(2)]
    parts = [f"model.{name}" for name, _ in model.model.named_children() if name != "layers"]
    device_map = dict.fromkeys([*layers, *parts, "model.music_mean", "model.music_std", "output_mlp"], "cpu")
    device_map[on_disk] = "disk"
    loaded = MegaDanceForMotionGeneration.from_pretrained(saved, device_map=device_map, offload_folder=tmp_path / "off")
    assert loaded.hf_device_map[on_disk] == "disk"
    same(logits(loaded), logits(model))
    assert torch.equal(dance(loaded, max_new_tokens=2), dance(model, max_new_tokens=2))


def test_copies(model):
    expected, danced = logits(model), dance(model)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for copied in (
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        torch.load(file, weights_only=False),
    ):
        assert torch.equal(logits(copied), expected) and torch.equal(dance(copied), danced)
        with torch.no_grad():
            next(copied.parameters()).add_(1)
    assert torch.equal(logits(model), expected)
    with torch.no_grad():
        outputs = model(**inputs(), use_cache=True)
    assert torch.equal(pickle.loads(pickle.dumps(outputs)).upper_logits, outputs.upper_logits)


@pytest.mark.parametrize("cast", [lambda model: model.half(), lambda model: model.to(torch.bfloat16)])
def test_half_precision(model, cast):
    expected, spread = logits(model), float(logits(model).std())
    cast(model)
    assert logits(model).dtype == model.dtype != torch.float32
    assert float((logits(model) - expected).abs().mean()) < 0.05 * spread
    assert dance(model).shape == (3, 2, STEPS)
    with torch.autocast("cpu", torch.bfloat16):
        model.float()
        assert float((logits(model) - expected).abs().mean()) < 0.05 * spread


# --- forward ---------------------------------------------------------------------------------------------------------


def test_hidden_states_and_attentions_on_request_and_by_configuration(model):
    asked = model(**inputs(), output_hidden_states=True, output_attentions=True)
    plain = model(**inputs())
    assert plain.hidden_states is None and plain.attentions is None
    assert [states.shape for states in asked.hidden_states] == [(3, 3, STEPS, 16)] * 3
    assert [weights.shape for weights in asked.attentions] == [(3, 2, 2, 3 * STEPS, 3 * STEPS)] * 2
    same(asked.attentions[0].sum(-1), torch.ones(3, 2, 2, 3 * STEPS))
    step = torch.arange(3 * STEPS) % STEPS
    hidden = (step[:, None] < step) | (step[:, None] - step >= 5)
    assert (asked.attentions[1][..., hidden] == 0).all() and (asked.attentions[1][..., ~hidden] > 0).all()
    same(asked.upper_logits, plain.upper_logits)
    with torch.no_grad():
        last = model.output_mlp(asked.hidden_states[-1][:, 0], inputs()["upper_codes"].roll(-1, 1))
    same(last[:, :-1], plain.upper_logits[:, :-1])

    model.config.output_hidden_states = True
    assert model(**inputs()).hidden_states is not None
    assert model(**inputs(), output_hidden_states=False).hidden_states is None
    model.config.output_hidden_states = False
    model.set_attn_implementation("eager")  # what transformers asks for before the configuration says so
    model.config.output_attentions = True
    assert len(model(**inputs()).attentions) == 2
    assert model(**inputs(), output_attentions=False).attentions is None


def test_attentions_are_of_all_queries_also_where_few_logits_are_kept(model):
    whole, last = (model(**inputs(), output_attentions=True, logits_to_keep=keep) for keep in (0, 1))
    assert last.upper_logits.shape[1] == 1
    torch.testing.assert_close(last.upper_logits, whole.upper_logits[:, -1:], atol=1e-5, rtol=1e-5)
    for one, other in zip(last.attentions, whole.attentions, strict=True):
        assert torch.equal(one, other)


def test_outputs_can_be_tuples(model):
    named = model(**inputs(), **labels(), output_hidden_states=True)
    parts = model(**inputs(), **labels(), output_hidden_states=True, return_dict=False)
    assert isinstance(parts, tuple) and len(parts) == len(named)
    assert torch.equal(parts[0], named.loss) and torch.equal(parts[1], named[1]) and torch.equal(parts[1], named[:][1])
    model.config.return_dict = False
    assert isinstance(model(**inputs()), tuple) and isinstance(model.model(**inputs()), tuple)
    assert torch.equal(model(**inputs(), return_dict=True).upper_logits, named.upper_logits)
    assert torch.equal(dance(model), dance(model)), "generate() needs names"


def test_labels(model):
    named = {"upper_labels": inputs()["upper_codes"], "lower_labels": inputs()["lower_codes"]}
    expected = model(**inputs(), **named).loss
    assert torch.equal(model(**inputs(), **labels()).loss, expected)
    assert torch.equal(model(**music(), **labels()).loss, expected), "labels are codes, too"
    count = 2 * 3 * (STEPS - 1)
    for number in (count, torch.tensor(count)):
        same(model(**inputs(), **labels(), num_items_in_batch=number).loss, expected)
    same(model(**inputs(), **labels(), num_items_in_batch=2 * count).loss, expected / 2)
    left_out = {"labels": labels()["labels"].clone()}
    left_out["labels"][:, :, 4:] = -100
    shorter = {"labels": labels()["labels"][:, :, :4]}
    first = {**music(), "input_features": music()["input_features"][:, :32], **shorter}
    same(model(**inputs(), **left_out).loss, model(**first).loss)
    for wrong, message in (
        ({"labels": torch.zeros(3, STEPS).long()}, r"labels has shape \(3, 9\); expected \(batch, 2, codes\)"),
        ({"labels": torch.zeros(3, 2, STEPS)}, "labels has numbers of type torch.float32"),
        ({**labels(), **named}, "labels holds both streams"),
        ({"labels": torch.zeros(3, 2, STEPS - 1).long()}, "upper_labels has shape"),
    ):
        with pytest.raises(ValueError, match=message):
            model(**inputs(), **wrong)


def test_a_batch_is_its_items(model):
    together = logits(model)
    for row in range(3):
        alone = {name: value[row : row + 1] for name, value in inputs().items()}
        same(logits(model, **alone)[0], together[row])
    danced = dance(model, seed=[1, 2, 3])
    for row in range(3):
        alone = {name: value[row : row + 1] for name, value in music().items()}
        outputs = model.generate(**alone, do_sample=True, seed=row + 1)
        assert torch.equal(torch.stack((outputs.upper_codes, outputs.lower_codes), 1)[0], danced[row])


def test_music_embeds(model):
    embedded = model.model.encode_music(music()["input_features"])
    assert embedded.shape == (3, STEPS, 16)
    same(logits(model, input_features=None, music_embeds=embedded), logits(model))
    with torch.no_grad():
        embedded = embedded.detach().requires_grad_()
    codes = {name: value for name, value in inputs().items() if name != "input_features"}
    model(**codes, music_embeds=embedded).upper_logits.sum().backward()
    assert embedded.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="either input_features or music_embeds"):
        model(**inputs(), music_embeds=embedded)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpointing(model, use_reentrant):
    def gradients(**options) -> dict[str, torch.Tensor]:
        model.zero_grad()
        model(**inputs(), **labels(), **options).loss.backward()
        return {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}

    model.train()
    expected = gradients()
    unused = {name for name, _ in model.named_parameters()} - set(expected)
    assert unused and all("genre_rumba" in name for name in unused), "of no item in the batch"
    # transformers before 5.23 call it otherwise
    if hasattr(model, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable({"use_reentrant": use_reentrant})
        assert model.is_activation_checkpointing
    else:
        model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
    if use_reentrant:
        model.enable_input_require_grads()
    for options in ({}, {"use_cache": True}, {"use_cache": False}):
        found = gradients(**options)
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=1e-5, msg=name)
    with pytest.raises(ValueError, match="cache can't go together with gradient checkpointing"):
        model(**inputs(), cache=model.make_cache(GENRE_IDS))
    model.eval()
    assert dance(model).shape == (3, 2, STEPS)


def test_embeddings(model):
    assert model.get_input_embeddings() is model.model.upper_embedding is model.model.get_input_embeddings()
    assert model.get_output_embeddings() is model.output_mlp.fc2
    model.tie_weights()
    pointers = [weight.data_ptr() for weight in model.parameters()]
    assert len(set(pointers)) == len(pointers), "nothing is tied"
    for call in (
        lambda: model.resize_token_embeddings(30),
        lambda: model.model.resize_token_embeddings(30),
        lambda: model.set_input_embeddings(nn.Embedding(CODES, 16)),
    ):
        with pytest.raises(ValueError, match="codebook_size: train a model for another|there are two input embeddings"):
            call()


@pytest.mark.parametrize("name", ["input_ids", "inputs_embeds", "position_ids", "nonsense"])
def test_unknown_keywords_are_refused(model, name):
    for one in (model, model.model):
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
            one(**inputs(), **{name: torch.zeros(1)})
    with pytest.raises(ValueError, match=f"{name}"):
        model.generate(**music(), **{name: torch.zeros(1)})


# --- attention -------------------------------------------------------------------------------------------------------


def test_attention_implementations_agree(model, saved):
    asked = []

    def registered(module, query, key, value, attention_mask, **options):
        asked.append(tuple(query.shape))
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)

    AttentionInterface.register("counted_attention", registered)
    assert model.config._attn_implementation == "sdpa"
    expected, danced = logits(model), dance(model)
    loaded = MegaDanceForMotionGeneration.from_pretrained(saved, attn_implementation="eager")
    assert loaded.config._attn_implementation == loaded.model.config._attn_implementation == "eager"
    for name in (None, "counted_attention", "sdpa", "eager"):
        if name is not None:
            loaded.set_attn_implementation(name)
            assert loaded.config._attn_implementation == name
        same(logits(loaded), expected)
        assert torch.equal(dance(loaded, backend="torch"), danced)
    assert (3, 2, 3 * STEPS, 8) in asked


@pytest.mark.parametrize(
    "name", ["flash_attention_2", "flash_attention_3", "flex_attention", "paged|sdpa", "paged|eager", "someone/kernel"]
)
def test_attention_that_cannot_be_honoured_is_refused(model, saved, name):
    for call in (
        lambda: model.set_attn_implementation(name),
        lambda: MegaDanceForMotionGeneration.from_pretrained(saved, attn_implementation=name),
        lambda: MegaDanceForMotionGeneration._from_config(copy.deepcopy(model.config), attn_implementation=name),
    ):
        with pytest.raises(ValueError, match="has no sliding window over three streams: use 'sdpa', 'eager'") as caught:
            call()
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="nonsense"):
        model.set_attn_implementation("nonsense")
    assert model.config._attn_implementation == "sdpa"


# --- generate --------------------------------------------------------------------------------------------------------


def test_generation_is_the_argmax_of_what_forward_says(model):
    """Without sampling, code by code: of a head with levels, of the codes and not of each level."""
    danced = dance(model, do_sample=False, mode="stream")
    upper, lower = danced.unbind(1)
    outputs = model(**music(), upper_codes=upper, lower_codes=lower, output_code_scores=True)
    for scores, codes in ((outputs.upper_scores, upper), (outputs.lower_scores, lower)):
        assert torch.equal(scores[:, :-1].argmax(-1), codes[:, 1:])


def test_cache_and_backends_change_nothing(model):
    expected = dance(model, use_cache=False)
    for backend in ("auto", "torch"):
        assert torch.equal(dance(model, backend=backend), expected)


def test_num_return_sequences_are_different_and_in_order(model):
    one = model.generate(**music(), do_sample=True, seed=0, num_return_sequences=3)
    assert one.upper_codes.shape == (9, STEPS) and one.genre_ids.tolist() == GENRE_IDS.repeat_interleave(3).tolist()
    assert len({tuple(row) for row in one.upper_codes.tolist()}) == 9
    alone = {name: value[1:2] for name, value in music().items()}
    same_seeds = model.generate(**music(), do_sample=True, seed=[7, 8, 9], num_return_sequences=3)
    second = model.generate(**alone, do_sample=True, seed=8, num_return_sequences=3)
    assert torch.equal(second.lower_codes, same_seeds.lower_codes[3:6])


def test_processors_criteria_streamers_and_scores_see_codes(model):
    seen, streamer = [], Streamer()

    def only_even(codes, scores):
        seen.append((tuple(codes.shape), tuple(scores.shape)))
        return scores.masked_fill(torch.arange(CODES) % 2 == 1, -torch.inf)

    outputs = model.generate(
        **music(),
        **{"do_sample": True, "seed": 0, "output_scores": True, "output_logits": True},
        logits_processor=LogitsProcessorList([only_even]),
        stopping_criteria=StoppingCriteriaList([MaxLengthCriteria(6)]),
        streamer=streamer,
    )
    assert seen == [((6, length), (6, CODES)) for length in range(1, 6)]
    assert outputs.lengths.tolist() == [6, 6, 6] and outputs.upper_codes.shape == (3, 6)
    generated = torch.stack((outputs.upper_codes, outputs.lower_codes), 1)[:, :, 1:]
    assert (generated % 2 == 0).all()
    assert streamer.ended and torch.equal(torch.cat(streamer.codes, -1)[:, :, 1:], generated)
    assert outputs.upper_scores.shape == (3, 5, CODES) and (outputs.lower_scores[..., 1::2] == -torch.inf).all()
    options = {"upper_codes": outputs.upper_codes, "lower_codes": outputs.lower_codes}
    first = {name: value[:, : 8 * 6] if name == "input_features" else value for name, value in music().items()}
    if model.config.music_lookahead:
        first["input_features"] = music()["input_features"][:, : 8 * 7]
    with torch.no_grad():
        forward = model(**first, **options)
    if model.config.arrangement != "own":  # a window slides, but not within six codes
        same(outputs.upper_logits, forward.upper_logits[:, :-1], atol=1e-4)


def test_global_seeds_fix_what_is_sampled(model):
    danced = []
    for _ in range(2):
        torch.manual_seed(3)
        danced.append(dance(model, seed=None))
    assert torch.equal(*danced) and not torch.equal(dance(model, seed=None), danced[0])


def test_generation_options_of_all_three_places(model, tmp_path):
    expected = dance(model, top_k=3, max_new_tokens=4)
    model.generation_config.update(top_k=3, max_new_tokens=4, do_sample=True)
    model.save_pretrained(tmp_path)
    loaded = MegaDanceForMotionGeneration.from_pretrained(tmp_path)
    outputs = loaded.generate(**music(), seed=5)
    assert torch.equal(torch.stack((outputs.upper_codes, outputs.lower_codes), 1), expected)
    for name, value in {"num_beams": 2, "eos_token_id": 3, "cache_implementation": "offloaded"}.items():
        with pytest.raises(ValueError, match=f"^{name}="):
            dance(model, **{name: value})
