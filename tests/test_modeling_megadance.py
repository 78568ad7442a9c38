"""The generator: scan, mask, experts, routing, losses, saving."""

import copy
import logging
import warnings

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from megadance_hf.modeling.attention_megadance import mask_of_new_positions, sliding_window_mask
from megadance_hf.modeling.configuration_megadance import MegaDanceConfig
from megadance_hf.modeling.genres_megadance import GenreError
from megadance_hf.modeling.modeling_megadance import MegaDanceForMotionGeneration, MegaDanceModel
from megadance_hf.modeling.routing_megadance import genre_key

GENRES = ("Popping", "Wei", "pop.up")
CODES = 15


def tiny_config(**overrides) -> MegaDanceConfig:
    settings = {
        "codebook_size": CODES,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "state_size": 4,
        "music_hidden_size": 8,
        "output_hidden_size": 12,
        "id2label": dict(enumerate(GENRES)),
        "initializer_range": 0.3,  # so that everything matters
        "dropout": 0.0,
        "context_codes": 4,
        "slide_codes": 2,
    }
    return MegaDanceConfig(**{**settings, **overrides})


def tiny_model(**overrides) -> MegaDanceForMotionGeneration:
    return MegaDanceForMotionGeneration(tiny_config(**overrides)).eval()


def tiny_inputs(batch: int = 3, steps: int = 6, genre_ids=None) -> dict[str, torch.Tensor]:
    genre_ids = torch.arange(batch) % len(GENRES) if genre_ids is None else torch.tensor(genre_ids)
    return {
        "input_features": torch.randn(batch, steps * 8, 35),
        "upper_codes": torch.randint(CODES, (batch, steps)),
        "lower_codes": torch.randint(CODES, (batch, steps)),
        "genre_ids": genre_ids,
    }


def pick(inputs: dict, rows) -> dict:
    return {name: tensor[rows] for name, tensor in inputs.items()}


def full_mask(steps: int, context: int = 4) -> torch.Tensor:
    """All 3x3 blocks in the order in which the attention keeps its positions: streams innermost."""
    block = sliding_window_mask(torch.arange(steps), torch.arange(steps), context)
    return block.repeat_interleave(3, 0).repeat_interleave(3, 1)


def assert_same(one, other, atol=1e-5):
    torch.testing.assert_close(one.upper_logits, other.upper_logits, atol=atol, rtol=0)
    torch.testing.assert_close(one.lower_logits, other.lower_logits, atol=atol, rtol=0)


# ------------------------------------------------------------------------------------------------- mask and causality


@given(steps=st.integers(1, 12), context=st.integers(1, 6))
@settings(max_examples=20)
def test_mask_against_brute_force(steps, context):
    mask = sliding_window_mask(torch.arange(steps), torch.arange(steps), context)
    for i in range(steps):
        for j in range(steps):
            assert bool(mask[i, j]) == (j <= i and j > i - context)


def test_mask_picture():
    picture = [
        "".join(".#"[int(cell)] for cell in row) for row in mask_of_new_positions(6, 0, 4, 1, torch.device("cpu"))
    ]
    assert picture == ["#.....", "##....", "###...", "####..", ".####.", "..####"]


@pytest.mark.parametrize("use_mamba", [True, False])
@pytest.mark.parametrize("lookahead", [0, 1])
def test_logits_depend_on_what_they_may_see_and_nothing_later(lookahead, use_mamba):
    model = tiny_model(music_lookahead=lookahead, use_mamba=use_mamba, music_reduction="stack", num_hidden_layers=1)
    inputs = tiny_inputs(batch=1, steps=9)
    before = model(**inputs)
    for step in range(9):
        for name, first in (("upper_codes", step), ("lower_codes", step), ("input_features", step - lookahead)):
            changed = {key: tensor.clone() for key, tensor in inputs.items()}
            if name == "input_features":
                changed[name][:, step * 8 : step * 8 + 8] += 1.0
            else:
                changed[name][:, step] = (changed[name][:, step] + 1) % CODES
            after = model(**changed)
            for stream in ("upper_logits", "lower_logits"):
                moved = (getattr(after, stream) - getattr(before, stream)).abs().amax((0, 2)) > 1e-6
                assert not moved[: max(first, 0)].any(), (name, step)
                if first >= 0:  # a lookahead of 1 leaves the first music step unheard
                    assert moved[first], (name, step)
                if not use_mamba:  # two experts look 3 positions back each, and no state reaches further
                    assert not moved[first + 7 :].any(), (name, step)


def test_lookahead_at_the_last_position():
    model = tiny_model(music_lookahead=1)
    inputs = tiny_inputs(steps=6)
    longer = inputs["input_features"]
    shorter = {name: tensor[:, :5] for name, tensor in inputs.items() if name.endswith("codes")}
    shorter["genre_ids"] = inputs["genre_ids"]
    with_next = model(input_features=longer, **shorter)
    torch.testing.assert_close(with_next.upper_logits, model(**inputs).upper_logits[:, :5])
    repeated = torch.cat((longer[:, :40], longer[:, 32:40]), 1)
    torch.testing.assert_close(
        model(input_features=longer[:, :40], **shorter).upper_logits,
        model(input_features=repeated, **shorter).upper_logits,
    )


def test_music_reductions():
    inputs = tiny_inputs(steps=4)
    frames = inputs["input_features"].unflatten(1, (4, 8))
    steps = {
        reduction: tiny_model(music_reduction=reduction).model._music_steps(inputs["input_features"], 4)
        for reduction in ("stride", "mean", "stack")
    }
    torch.testing.assert_close(steps["stride"], frames[:, :, 0])
    torch.testing.assert_close(steps["mean"], frames.mean(2))
    torch.testing.assert_close(steps["stack"][:, :, 35:70], frames[:, :, 1])


def test_music_is_normalised():
    model, inputs = tiny_model(), tiny_inputs()
    expected = model(**inputs)
    mean, std = torch.randn(35), torch.rand(35) + 0.5
    model.set_music_statistics(mean, std)
    inputs["input_features"] = inputs["input_features"] * std + mean
    assert_same(model(**inputs), expected, atol=1e-4)
    with pytest.raises(ValueError, match="std must be above 0"):
        model.set_music_statistics(mean, torch.zeros(35))
    with pytest.raises(ValueError, match="mean must be 35"):
        model.set_music_statistics(mean[:3], std)


# ------------------------------------------------------------------------------------------------------------ routing


@pytest.mark.parametrize("composition", ["sequential", "parallel"])
def test_a_mixed_batch_equals_each_item_alone(composition):
    model = tiny_model(expert_composition=composition, genre_embedding=True)
    inputs = tiny_inputs(batch=5, genre_ids=[2, 0, 1, 0, 2])
    together = model(**inputs, output_hidden_states=True)
    for row in range(5):
        alone = model(**pick(inputs, slice(row, row + 1)), output_hidden_states=True)
        torch.testing.assert_close(alone.upper_logits[0], together.upper_logits[row], atol=1e-5, rtol=0)
        torch.testing.assert_close(alone.hidden_states[1][0], together.hidden_states[1][row], atol=1e-5, rtol=0)


def test_only_the_experts_of_the_batch_get_gradients():
    model = tiny_model()
    inputs = tiny_inputs(genre_ids=[0, 2, 0])
    outputs = model(**inputs, upper_labels=inputs["upper_codes"], lower_labels=inputs["lower_codes"])
    outputs.loss.backward()
    for name, parameter in model.named_parameters():
        if "genre_Wei" in name:
            assert parameter.grad is None, name
        elif not name.endswith("k_proj.bias"):  # its true gradient is zero
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_genres_differ_and_names_become_module_names():
    model = tiny_model()
    assert list(model.model.layers[0].genre_experts) == ["genre_Popping", "genre_Wei", "genre_pop_up"]
    inputs = tiny_inputs(batch=1)
    one = model(**{**inputs, "genre_ids": torch.tensor([0])}).upper_logits
    other = model(**{**inputs, "genre_ids": torch.tensor([1])}).upper_logits
    assert (one - other).abs().max() > 1e-3
    with pytest.raises(ValueError, match="must differ"):
        tiny_model(id2label={0: "a b", 1: "a.b"})


def test_composition_by_hand():
    inputs = tiny_inputs(genre_ids=[1, 1, 1])
    for composition in ("sequential", "parallel"):
        model = tiny_model(expert_composition=composition, num_hidden_layers=1)
        outputs = model(**inputs, output_hidden_states=True)
        layer, hidden = model.model.layers[0], outputs.hidden_states[0]
        mask = full_mask(6)
        universal = layer.universal_expert(hidden, mask)
        if composition == "sequential":
            expected = layer.genre_experts["genre_Wei"](universal, mask)
        else:
            expected = (universal + layer.genre_experts["genre_Wei"](hidden, mask)) / 2
        torch.testing.assert_close(outputs.hidden_states[1], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("composition", ["sequential", "parallel"])
@pytest.mark.parametrize("switch", ["use_universal_experts", "use_genre_experts", "use_mamba"])
def test_ablations(switch, composition):
    full = tiny_model(expert_composition=composition)
    model = tiny_model(expert_composition=composition, **{switch: False})
    removed = {"use_universal_experts": "universal_expert", "use_genre_experts": "genre_experts", "use_mamba": "mamba"}
    word = removed[switch]
    assert set(model.state_dict()) == {name for name in full.state_dict() if word not in name}
    inputs = tiny_inputs()
    model.load_state_dict({name: value for name, value in full.state_dict().items() if word not in name})
    assert (model(**inputs).upper_logits - full(**inputs).upper_logits).abs().max() > 1e-3
    if switch == "use_genre_experts":
        changed = model(**{**inputs, "genre_ids": torch.tensor([2, 1, 0])})
        assert_same(model(**inputs), changed)


def test_an_expert_by_hand():
    """Attention of all three streams, head by head and query by query, and the order of norms and sums."""
    model = tiny_model(num_hidden_layers=1)
    block = model.model.layers[0].universal_expert
    x = torch.randn(1, 3, 6, 16)
    mask = full_mask(6)
    streams = [
        block.mamba_norms[name](x[:, index] + block.mambas[name](x[:, index]))
        for index, name in enumerate(("upper", "lower", "music"))
    ]
    x_mamba = torch.cat(streams, dim=1)[0]  # [18, 16]: upper, lower, music joined along time
    normed = block.attention_norm(x_mamba)
    attention = block.attention
    query, key, value = (projection(normed) for projection in (attention.q_proj, attention.k_proj, attention.v_proj))
    mixed = torch.zeros_like(query)
    for head in (slice(0, 8), slice(8, 16)):
        for i in range(18):
            seen = [j for j in range(18) if 0 <= i % 6 - j % 6 < 4]
            scores = torch.stack([query[i, head] @ key[j, head] for j in seen]) / 8**0.5
            mixed[i, head] = (scores.softmax(0)[:, None] * value[seen][:, head]).sum(0)
    result = x_mamba + attention.o_proj(mixed)
    result = result + block.mlp.fc2(torch.nn.functional.gelu(block.mlp.fc1(block.mlp_norm(result))))
    torch.testing.assert_close(block(x, mask).flatten(1, 2)[0], result, atol=1e-5, rtol=0)
    with torch.no_grad():  # the other attention kernel
        torch.testing.assert_close(block(x, mask).flatten(1, 2)[0], result, atol=1e-5, rtol=0)


# ----------------------------------------------------------------------------------------------------- loss, training


def test_labels_are_shifted_and_can_be_left_out():
    model, inputs = tiny_model(), tiny_inputs()
    upper, lower = inputs["upper_codes"].clone(), inputs["lower_codes"].clone()
    upper[1, 3:] = -100
    outputs = model(**inputs, upper_labels=upper, lower_labels=lower)
    total = 0.0
    for logits, labels in ((outputs.upper_logits, upper), (outputs.lower_logits, lower)):
        logp = logits.log_softmax(-1)
        terms = [-logp[b, i, labels[b, i + 1]] for b in range(3) for i in range(5) if labels[b, i + 1] >= 0]
        total = total + torch.stack(terms).mean()
    torch.testing.assert_close(outputs.loss, total)
    alone = model(**inputs, upper_labels=upper).loss + model(**inputs, lower_labels=lower).loss
    torch.testing.assert_close(alone, outputs.loss)
    assert model(**inputs).loss is None
    with pytest.raises(ValueError, match="logits_to_keep"):
        model(**inputs, upper_labels=upper, logits_to_keep=1)


def test_logits_to_keep():
    model, inputs = tiny_model(), tiny_inputs()
    everything = model(**inputs)
    kept = model(**inputs, logits_to_keep=2)
    torch.testing.assert_close(kept.lower_logits, everything.lower_logits[:, -2:])


def test_dropout_acts_only_in_training():
    model, inputs = tiny_model(dropout=0.5), tiny_inputs()
    assert_same(model(**inputs), model(**inputs), atol=0)
    model.train()
    assert (model(**inputs).upper_logits - model(**inputs).upper_logits).abs().max() > 1e-3
    with torch.no_grad():
        assert (model(**inputs).upper_logits - model(**inputs).upper_logits).abs().max() > 1e-3


@pytest.mark.versions
def test_gradient_checkpointing_gives_the_same_gradients():
    plain, inputs = tiny_model(num_hidden_layers=1).train(), tiny_inputs(genre_ids=[1, 1, 0])
    checkpointed = copy.deepcopy(plain)
    # transformers' name for it, and the one before that
    getattr(checkpointed, "activation_checkpointing_enable", checkpointed.gradient_checkpointing_enable)()
    for model in (plain, checkpointed):
        model(**inputs, upper_labels=inputs["upper_codes"], lower_labels=inputs["lower_codes"]).loss.backward()
    assert checkpointed.model.layers[0].gradient_checkpointing and not plain.model.layers[0].gradient_checkpointing
    for one, other in zip(plain.parameters(), checkpointed.parameters(), strict=True):
        assert one.grad is None and other.grad is None or torch.allclose(one.grad, other.grad)


@pytest.mark.versions
def test_a_few_steps_of_training_learn_a_dance():
    model, inputs = tiny_model(num_hidden_layers=1).train(), tiny_inputs(batch=4, genre_ids=[1, 1, 2, 1])
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
    losses = []
    for _ in range(12):
        loss = model(**inputs, upper_labels=inputs["upper_codes"], lower_labels=inputs["lower_codes"]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.versions
def test_bfloat16():
    model, inputs = tiny_model(), tiny_inputs()
    expected = model(**inputs).upper_logits
    half = copy.deepcopy(model).to(torch.bfloat16)
    with torch.no_grad():
        logits = half(**inputs).upper_logits
    assert logits.dtype == torch.bfloat16
    assert (logits.float() - expected).abs().mean() < 0.1 * expected.abs().mean()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(**inputs, upper_labels=inputs["upper_codes"]).loss
    loss.backward()
    exact = model(**inputs, upper_labels=inputs["upper_codes"]).loss
    assert abs(loss.item() - exact.item()) < 0.05 * exact.item()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())


# ------------------------------------------------------------------------------------------------------- errors, genres


def test_bad_input():
    model, inputs = tiny_model(), tiny_inputs()
    with pytest.raises(ValueError, match="0 Popping, 1 Wei, 2 pop.up"):
        model(**{**inputs, "genre_ids": torch.tensor([0, 1, 3])})
    with pytest.raises(ValueError, match="expected .batch, frames, 35."):
        model(**{**inputs, "input_features": torch.randn(3, 48, 34)})
    with pytest.raises(ValueError, match="56 frames = 7 code steps, but there are 6"):
        model(**{**inputs, "input_features": torch.randn(3, 56, 35)})
    with pytest.raises(ValueError, match="lower_codes has shape"):
        model(**{**inputs, "lower_codes": inputs["lower_codes"][:, :5]})
    with pytest.raises(ValueError, match="genre_ids"):
        model(**{**inputs, "genre_ids": torch.tensor([0])})


def test_genre_id():
    model = tiny_model(active_genres=["Wei"])
    assert model.genre_id("Wei") == 1
    with pytest.raises(ValueError, match="did you mean 'Popping'. The genres are Popping, Wei, pop.up"):
        model.genre_id("poping")
    with pytest.raises(ValueError, match="genre='tango' is unknown: The genres are"):
        model.genre_id("tango")
    with pytest.raises(ValueError, match="'Popping' .id 0. is not among the genres this model was built with: Wei"):
        model.genre_id("Popping")


def test_full_size_has_the_paper_s_parameters():
    with torch.device("meta"):  # no memory, no initialisation
        model = MegaDanceForMotionGeneration(MegaDanceConfig())
        assert sum(parameter.numel() for parameter in model.parameters()) == 848_749_847
        assert model.num_active_parameters() == model.model.num_active_parameters() + 3_758_359 == 107_184_407
        one = MegaDanceForMotionGeneration(MegaDanceConfig(active_genres=["Popping"]))
        assert sum(parameter.numel() for parameter in one.parameters()) == 107_184_407
        expert = model.model.layers[0].universal_expert
        assert sum(parameter.numel() for parameter in expert.parameters()) == 8_239_616


# -------------------------------------------------------------------------------------------------------- save and load


@pytest.fixture
def silence(caplog):
    """Fails when anything warned."""
    transformers_logger = logging.getLogger("transformers")
    propagate, transformers_logger.propagate = transformers_logger.propagate, True
    with warnings.catch_warnings(record=True) as caught, caplog.at_level(logging.WARNING):
        warnings.simplefilter("always")
        yield
    transformers_logger.propagate = propagate
    loud = [str(warning.message) for warning in caught if not issubclass(warning.category, DeprecationWarning)]
    loud += [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert not loud


@pytest.mark.versions
def test_save_and_load_is_exact_and_silent(tmp_path, silence):
    if "megadance" not in AutoConfig.for_model.__globals__["CONFIG_MAPPING"]:
        AutoConfig.register("megadance", MegaDanceConfig)
        AutoModelForCausalLM.register(MegaDanceConfig, MegaDanceForMotionGeneration)
    rhythm = {"rhythm_size": 8, "rhythm_layers": 2, "rhythm_tempo": "steady"}
    model, inputs = tiny_model(music_reduction="stack", music_lookahead=1, **rhythm), tiny_inputs()
    model.set_music_statistics(torch.randn(35), torch.rand(35) + 0.5)
    model.generation_config.mode = "stream"
    model.generation_config.start_codes = {"Wei": [[1, 2], [3, 4]]}
    model.save_pretrained(tmp_path)
    for auto_class in (MegaDanceForMotionGeneration, AutoModelForCausalLM):
        loaded = auto_class.from_pretrained(tmp_path)
        assert type(loaded) is MegaDanceForMotionGeneration and not loaded.training
        assert_same(loaded(**inputs), model(**inputs), atol=0)
        for (name, value), (other_name, other) in zip(
            model.state_dict().items(), loaded.state_dict().items(), strict=True
        ):
            assert name == other_name and torch.equal(value, other), name
        assert loaded.generation_config.mode == "stream"
        assert loaded.generation_config.start_codes == {"Wei": [[1, 2], [3, 4]]}
        assert loaded.config.genres == list(GENRES) and loaded.config.rhythm_tempo == "steady"
    body = MegaDanceModel.from_pretrained(tmp_path)
    torch.testing.assert_close(body(**inputs).last_hidden_state, model.model(**inputs).last_hidden_state)


@pytest.mark.versions
def test_active_genres_open_alone_and_silently(tmp_path, silence):
    model, inputs = tiny_model(), tiny_inputs(genre_ids=[1, 1, 1])
    model.save_pretrained(tmp_path)
    one = MegaDanceForMotionGeneration.from_pretrained(tmp_path, active_genres=["Wei"])
    assert list(one.model.layers[0].genre_experts) == ["genre_Wei"]
    assert sum(parameter.numel() for parameter in one.parameters()) == model.num_active_parameters()
    assert_same(one(**inputs), model(**inputs), atol=0)
    with pytest.raises(ValueError, match="'Popping' .id 0. is not among the genres this model was built with: Wei"):
        one(**{**inputs, "genre_ids": torch.tensor([0, 1, 1])})


def test_an_absent_expert_is_an_error_not_random_weights(tmp_path):
    tiny_model(active_genres=["Wei"]).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no expert for Popping, pop.up"):
        MegaDanceForMotionGeneration.from_pretrained(tmp_path, active_genres=GENRES)
    with pytest.raises(GenreError, match="tango.*The genres are Popping, Wei, pop.up"):
        MegaDanceForMotionGeneration.from_pretrained(tmp_path, active_genres=["tango"])
    assert MegaDanceForMotionGeneration.from_pretrained(tmp_path).config.built_genres == ["Wei"]
    with pytest.raises(StrictDataclassClassValidationError, match="tango.*the known genres are Popping, Wei, pop.up"):
        tiny_config(active_genres=["tango"])
    assert genre_key("pop.up") == "genre_pop_up"


def test_statistics_stay_exact_when_the_weights_are_bfloat16(tmp_path):
    model = tiny_model()
    mean = torch.linspace(-501.3, 200, 35)
    model.set_music_statistics(mean, torch.full((35,), 0.3))
    model.save_pretrained(tmp_path)
    loaded = MegaDanceForMotionGeneration.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert loaded.output_mlp.fc1.weight.dtype == torch.bfloat16
    assert torch.equal(loaded.model.music_mean, mean)
    inputs = tiny_inputs()
    inputs["input_features"] = inputs["input_features"] * 0.3 + mean
    assert loaded(**inputs).upper_logits.dtype == torch.bfloat16


# --------------------------------------------------------------------------------------------------------------- rhythm


def test_rhythm_and_columns_are_all_the_music_that_is_heard():
    torch.manual_seed(0)
    model = tiny_model(rhythm_size=8, rhythm_layers=2, music_columns=[3, 33], music_to_codes=True)
    inputs = tiny_inputs()
    rhythm = torch.randn(3, 48, 4)
    with torch.no_grad():
        expected = model(**inputs, rhythm=rhythm).upper_logits
        other = inputs["input_features"] + torch.randn(3, 48, 35)
        other[..., [3, 33]] = inputs["input_features"][..., [3, 33]]
        same = model(**{**inputs, "input_features": other}, rhythm=rhythm).upper_logits
        torch.testing.assert_close(same, expected, atol=0, rtol=0)
        assert not torch.allclose(model(**inputs, rhythm=-rhythm).upper_logits, expected)
        read = model(**inputs, rhythm=model.model.encode_rhythm(inputs["input_features"])).upper_logits
        torch.testing.assert_close(model(**inputs).upper_logits, read, atol=0, rtol=0)


@pytest.mark.parametrize("lookahead", [0, 1])
def test_music_that_was_embedded_before(lookahead):
    torch.manual_seed(0)
    model = tiny_model(music_lookahead=lookahead, rhythm_size=8, rhythm_layers=2)
    inputs = tiny_inputs()
    codes = {name: inputs[name] for name in ("upper_codes", "lower_codes", "genre_ids")}
    with torch.no_grad():
        music = model.model.encode_music(inputs["input_features"])
        assert music.shape == (3, 6, model.config.hidden_size)
        torch.testing.assert_close(model(**codes, music_embeds=music).upper_logits, model(**inputs).upper_logits)
        assert not torch.allclose(model(**codes, music_embeds=music.flip(1)).upper_logits, model(**inputs).upper_logits)
        with pytest.raises(ValueError, match="either input_features or music_embeds"):
            model(**inputs, music_embeds=music)
        with pytest.raises(ValueError, match="either input_features or music_embeds"):
            model(**codes)
        with pytest.raises(ValueError, match=r"music_embeds has shape \(3, 5, .*need \(3, 6"):
            model(**codes, music_embeds=music[:, :5])


def test_music_to_codes_adds_the_step_that_is_heard():
    torch.manual_seed(0)
    model = tiny_model(music_to_codes=True)
    inputs = tiny_inputs()
    with torch.no_grad():
        first = model(**inputs, output_hidden_states=True).hidden_states[0]
        music = first[:, 2]
        torch.testing.assert_close(first[:, 0], model.model.upper_embedding(inputs["upper_codes"]) + music)
        torch.testing.assert_close(first[:, 1], model.model.lower_embedding(inputs["lower_codes"]) + music)


@pytest.mark.parametrize("tempo", ["free", "steady"])
def test_learning_the_rhythm_alone(tempo):
    torch.manual_seed(0)
    model = tiny_model(rhythm_size=8, rhythm_layers=2, rhythm_tempo=tempo)
    features, labels = torch.randn(2, 40, 35), torch.randn(2, 40, 4)
    labels[1, :, 2:] = torch.nan
    output = model(features, rhythm_labels=labels)
    read = model.model.read_rhythm(features)  # what was fitted to a tempo is not what the encoder can learn from
    known = torch.cat(((read - labels)[0].flatten(), (read - labels)[1, :, :2].flatten()))
    torch.testing.assert_close(output.loss, known.square().mean())
    output.loss.backward()
    touched = {name.split(".")[1] for name, value in model.named_parameters() if value.grad is not None}
    assert touched == {"rhythm_encoder"}
    inputs = tiny_inputs(batch=2, steps=5) | {"input_features": features}
    codes = {"upper_labels": inputs["upper_codes"], "lower_labels": inputs["lower_codes"]}
    both = model(**inputs, **codes, rhythm_labels=labels)
    torch.testing.assert_close(both.loss, model(**inputs, **codes).loss + both.rhythm_loss)
    unknown = model(features, rhythm_labels=torch.full_like(labels, torch.nan))
    assert unknown.loss == 0


def test_rhythm_labels_need_an_encoder_and_codes_are_needed_otherwise():
    model = tiny_model()
    with pytest.raises(ValueError, match="no rhythm encoder"):
        model(torch.randn(1, 8, 35), rhythm_labels=torch.zeros(1, 8, 4))
    for scoring in (model, model.model):
        with pytest.raises(
            ValueError, match="upper_codes and lower_codes and genre_ids are missing: .* use model.generate"
        ):
            scoring(torch.randn(1, 8, 35))
        with pytest.raises(ValueError, match="upper_codes and lower_codes are missing"):
            scoring(torch.randn(1, 8, 35), genre_ids=torch.tensor([0]), attention_mask=torch.ones(1, 8), num_frames=[7])
        with pytest.raises(ValueError, match="lower_codes has codes outside 0 to"):
            scoring(torch.randn(1, 8, 35), torch.tensor([[0]]), torch.tensor([[999]]), torch.tensor([0]))
    assert model.model.encode_rhythm(torch.randn(1, 8, 35)) is None


# ------------------------------------------------------------------------------------------------------- further genres


@pytest.mark.parametrize("like", [None, "wei"])
@pytest.mark.parametrize("embedding", [False, True])
def test_an_added_genre_begins_as_another_and_changes_nothing(tmp_path, like, embedding):
    model = tiny_model(genre_embedding=embedding)
    before, inputs = copy.deepcopy(model), tiny_inputs()
    added = model.add_genre("Tango", like)
    assert model.config.genres == [*GENRES, "Tango"] and model.genre_id("tango") == 3
    assert len(added) == len(list(model.model.layers[0].genre_experts["genre_Wei"].parameters())) * 2
    state = model.state_dict()
    for name, value in before.state_dict().items():
        assert torch.equal(state[name][: len(value)] if "genre_embedding" in name else state[name], value)
    for layer in model.model.layers:
        experts = layer.genre_experts
        for name, value in experts["genre_Tango"].named_parameters():
            others = ["genre_Wei"] if like else [genre_key(genre) for genre in GENRES]
            mean = torch.stack([experts[key].get_parameter(name) for key in others]).mean(0)
            torch.testing.assert_close(value, mean, atol=0, rtol=1e-6)
            assert value is not experts["genre_Wei"].get_parameter(name) and any(value is other for other in added)
    assert torch.equal(model(**inputs).upper_logits, before(**inputs).upper_logits)
    if like:
        both = [model(**inputs | {"genre_ids": torch.full((3,), number)}).upper_logits for number in (1, 3)]
        assert torch.equal(*both)
    model.save_pretrained(tmp_path)
    loaded = MegaDanceForMotionGeneration.from_pretrained(tmp_path, active_genres=["Tango"])
    new = inputs | {"genre_ids": torch.full((3,), 3)}
    assert torch.equal(loaded.eval()(**new).upper_logits, model(**new).upper_logits)


def test_adding_to_some_of_the_genres(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    model = MegaDanceForMotionGeneration.from_pretrained(tmp_path, active_genres=["Wei"])
    model.add_genre("Tango")
    assert model.config.built_genres == ["Wei", "Tango"] and model.genre_id("Tango") == 3
    with pytest.raises(ValueError, match="genre 'Popping' .* is not among the genres this model was built with"):
        model.add_genre("Samba", like="Popping")


def test_genres_that_cannot_be_added():
    model = tiny_model()
    for name in ("Wei", "wei", "pop up", "", "-"):
        with pytest.raises(
            ValueError, match=f"genre='{name}' is known already or no name; the genres are Popping, Wei"
        ):
            model.add_genre(name)
    with pytest.raises(GenreError, match="genre='Salsa' is unknown"):
        model.add_genre("Tango", like="Salsa")
    assert model.config.genres == list(GENRES)
    with pytest.raises(ValueError, match="neither genre experts nor a genre embedding"):
        tiny_model(use_genre_experts=False).add_genre("Tango")
