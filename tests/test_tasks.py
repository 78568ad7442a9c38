"""The tasks: what is measured, and that random numbers do not depend on how many processes share a step."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import GENRES, tiny_generator
from hypothesis import given
from hypothesis import strategies as st
from runs import TINY_CLASSIFIER, TINY_TOKENIZER, clips

from megadance_hf.data.codes import EncodedClip
from megadance_hf.data.rhythm import rhythm_labels
from megadance_hf.modeling.attributes_megadance import ATTRIBUTES, QUANTILES
from megadance_hf.modeling.configuration_megadance import MegaDanceClassifierConfig, MegaDanceTokenizerConfig
from megadance_hf.modeling.kinematics_megadance import root_heading, turn_motion
from megadance_hf.modeling.modeling_megadance_classifier import MegaDanceForGenreClassification
from megadance_hf.modeling.modeling_megadance_tokenizer import MegaDanceTokenizer
from megadance_hf.training.tasks import (
    Draws,
    GeneratorTask,
    NewGenreTask,
    RhythmTask,
    TokenizerTask,
    _beat_frames,
    idle_biases,
    mean_over_processes,
    reconstruction_report,
)


def draws(first: int = 0, total: int = 4) -> Draws:
    return Draws(torch.Generator().manual_seed(5), first, total)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=5))
def test_a_window_meets_the_same_numbers_whoever_has_it(shares):
    total = sum(shares)
    whole = draws(0, total)
    expected = whole.rand(total, 3), whole.randint(9, total, 2)
    first, parts = 0, []
    for rows in shares:
        own = draws(first, total)
        parts.append((own.rand(rows, 3), own.randint(9, rows, 2)))
        first += rows
    for number in range(2):
        assert torch.equal(torch.cat([part[number] for part in parts]), expected[number])
    assert expected[0].min() >= 0 and expected[0].max() < 1 and set(expected[1].flatten().tolist()) <= set(range(9))


def test_code_noise_changes_inputs_and_never_labels():
    seen = {}

    class Model(torch.nn.Module):
        config = type("Config", (), {"codebook_size": 50, "attributes": []})

        def forward(self, **inputs):
            seen.update(inputs)
            return type("Output", (), {"loss": torch.zeros(())})

    codes = {name: torch.randint(50, (64, 30)) for name in ("upper_codes", "lower_codes")}
    batch = {**codes, "input_features": torch.zeros(64, 240, 35), "genre_ids": torch.zeros(64, dtype=torch.long)}
    GeneratorTask([], code_noise=0.5).loss(Model(), batch, draws(0, 64))
    for name in ("upper", "lower"):
        assert torch.equal(seen[f"{name}_labels"], codes[f"{name}_codes"])
        changed = (seen[f"{name}_codes"] != codes[f"{name}_codes"]).float().mean(1)
        # a share of its own for each segment, up to a half: a quarter on average
        assert 0.2 < changed.mean() < 0.3 and changed.min() < 0.1 and 0.35 < changed.max() < 0.7
    GeneratorTask([]).loss(Model(), batch, draws(0, 64))
    assert torch.equal(seen["upper_codes"], codes["upper_codes"])


def test_label_smoothing_is_a_part_of_the_loss_beside_the_labels():
    model = tiny_generator().eval()
    codes = {name: torch.randint(model.config.codebook_size, (3, 5)) for name in ("upper_codes", "lower_codes")}
    labels = {name.replace("codes", "labels"): value.clone() for name, value in codes.items()}
    labels["upper_labels"][0, 2] = -100  # noise of capture: counts as a code without loss, in both parts
    for batch in (codes, codes | labels):
        batch = {**batch, "input_features": torch.randn(3, 40, 35), "genre_ids": torch.zeros(3, dtype=torch.long)}
        plain, _ = GeneratorTask([]).loss(model, batch, draws())
        smoothed, parts = GeneratorTask([], label_smoothing=0.2).loss(model, batch, draws())
        output, spread = model(**{name: value for name, value in batch.items() if "labels" not in name}), 0.0
        for part, logits in (("upper", output.upper_logits), ("lower", output.lower_logits)):
            known = batch.get(f"{part}_labels", codes[f"{part}_codes"])[:, 1:] >= 0
            spread = spread - (logits[:, :-1].log_softmax(-1).mean(-1) * known).mean()
        torch.testing.assert_close(smoothed, 0.8 * plain + 0.2 * spread)
        torch.testing.assert_close(parts["unsmoothed_loss"], plain)
    with pytest.raises(ValueError, match="label_smoothing=2 is a share"):
        GeneratorTask([], label_smoothing=2)


def test_attributes_are_asked_for_at_random():
    model = tiny_generator(attributes=["speed", "arm_height"])
    rising = [float(value) for value in range(QUANTILES)]
    model.config.attribute_quantiles = {genre: [rising, [2 * value for value in rising]] for genre in GENRES}
    rows, steps = 400, 6
    batch = {
        "genre_ids": torch.zeros(rows, dtype=torch.long),
        "attributes": torch.arange(steps).float().view(1, steps, 1).expand(rows, steps, len(ATTRIBUTES)) + 4,
    }
    asked = GeneratorTask(None)._asked_attributes(model.config, batch, draws(0, rows))
    assert asked.shape == (rows, steps, 2)
    known = ~asked.isnan()
    assert torch.equal(known, known[:, :1].expand_as(known)), "an attribute is left out of a whole segment"
    counts = known[:, 0].sum(1)
    assert abs((counts == 0).float().mean() - (0.2 + 0.8 / 3)) < 0.06 and all((counts == n).any() for n in (1, 2))
    speed = asked[known[:, 0, 0], :, 0]
    measured = (torch.arange(steps) + 4) / (QUANTILES - 1)
    constant = (speed == speed[:, :1]).all(1)
    assert 0.3 < constant.float().mean() < 0.7
    torch.testing.assert_close(speed[~constant], measured.expand(int((~constant).sum()), -1))
    torch.testing.assert_close(speed[constant], measured.mean().expand(int(constant.sum()), steps))
    arms = asked[known[:, 0, 1], :, 1]
    torch.testing.assert_close(arms.mean(), measured.mean() / 2, atol=1e-6, rtol=0)
    nothing = GeneratorTask(None, attribute_dropout=1.0)._asked_attributes(model.config, batch, draws(0, rows))
    assert nothing.isnan().all()


def test_the_soft_share_is_drawn_from_the_step():
    model = MegaDanceTokenizer(MegaDanceTokenizerConfig(**TINY_TOKENIZER)).train()
    task, batch = TokenizerTask([], soft_share=1.0), {"motion": torch.randn(4, 32, 147)}
    task.advance(model, 0.5)
    losses = []
    for number in range(2):
        torch.manual_seed(number)  # the global state is another one; the loss is not
        losses.append(task.loss(model, batch, draws())[0].item())
    assert losses[0] == losses[1] != task.loss(model, batch, draws(0, 9))[0].item()
    task.advance(model, 1.0)
    assert model.upper.quantizer.random is torch.rand and model.upper.quantizer.soft_share == 0


def check_idle(model, run, count: int):
    """What `idle_biases` names has no gradient but rounding errors, far below those of other biases; moving it changes nothing."""
    found = idle_biases(model)
    assert len(found) == count
    before = run()
    before.square().mean().backward()
    usual = max(float(p.grad.abs().max()) for p in model.parameters() if p.grad is not None)
    with torch.no_grad():
        for bias, part in found:
            assert float(bias.grad[part].abs().max()) < 1e-5 * usual
            bias[part] += 0.5
    torch.testing.assert_close(run(), before, atol=1e-4, rtol=1e-4)


def test_idle_biases_have_no_effect():
    tokenizer = MegaDanceTokenizer(MegaDanceTokenizerConfig(**TINY_TOKENIZER | {"hidden_size": 8})).train()
    tokenizer.set_training_progress(1.0, 1.0)  # nothing is rounded: a rounding could flip
    motion = torch.randn(4, 32, 147)
    check_idle(tokenizer, lambda: tokenizer(motion).motion, 4)
    labels = {0: "waltz", 1: "rumba"}
    config = MegaDanceClassifierConfig(**TINY_CLASSIFIER, num_outputs=2, id2label=labels, dropout=0.0)
    classifier = MegaDanceForGenreClassification(config)
    check_idle(classifier, lambda: classifier(motion).logits, 2)
    generator = tiny_generator(use_genre_experts=False)
    codes, genre = torch.randint(27, (4, 4)), torch.zeros(4, dtype=torch.long)
    check_idle(generator, lambda: generator(torch.randn(4, 32, 35) * 0, codes, codes, genre).upper_logits, 1)


def test_alone_the_mean_over_processes_is_the_number():
    number = torch.tensor(3.0)
    assert mean_over_processes(number) is number


def test_rows_of_known_genres_are_put_back():
    model = tiny_generator(genre_embedding=True)
    kept = model.model.genre_embedding.weight.detach().clone()
    model.add_genre("tango")
    weight = model.model.genre_embedding.weight
    new = weight[3].clone()
    with torch.no_grad():
        weight *= 0.9
    NewGenreTask([], rows=kept).advance(model, 0.5)
    assert torch.equal(weight[:3], kept) and torch.equal(weight[3], new * 0.9)
    NewGenreTask([]).advance(model, 0.5)  # nothing to keep


def test_a_new_genre_gets_start_codes_and_the_others_keep_theirs():
    model = tiny_generator()
    model.generation_config.start_codes = {"waltz": [[1, 2]]}
    model.add_genre("tango")
    clip = replace(clips(1)[0], genre="tango")
    encoded = [
        EncodedClip(clip, (np.array([upper, 0]),), (np.array([4, 0]),), stretch=stretch)
        for upper, stretch in ((3, 1.0), (5, 0.9), (3, 1.0), (7, 1.0))
    ]
    NewGenreTask([]).on_train_begin(model, SimpleNamespace(encoded=encoded, genres=model.config.genres))
    codes = model.generation_config.start_codes
    assert codes["tango"] == [[3, 4], [7, 4]] and codes["waltz"] == [[1, 2]]
    encoded[0] = replace(encoded[0], noisy=np.arange(16) == 3)
    encoded[3] = replace(encoded[3], noisy=np.arange(16) == 9)
    NewGenreTask([]).on_train_begin(
        model, SimpleNamespace(encoded=encoded[:2] + encoded[3:], genres=model.config.genres)
    )
    assert model.generation_config.start_codes["tango"] == [[7, 4]], "one begins with noise"


def test_reconstruction_report_of_a_perfect_codec():
    class Perfect(torch.nn.Module):
        config = MegaDanceTokenizerConfig(**TINY_TOKENIZER)
        motion_mean = torch.zeros(147)

        def encode(self, motion):
            self.motion = motion
            codes = torch.arange(motion.shape[1] // 8)[None] % 9
            return type("Codes", (), {"upper_codes": codes, "lower_codes": codes})

        def decode(self, upper, lower, heading):
            torch.testing.assert_close(heading, root_heading(self.motion[:, 0]))
            return self.motion

    report = reconstruction_report(Perfect(), clips(2))
    for name in ("score", "joint_error_world", "joint_error_rotation_aligned", "root_error_30s"):
        assert report[name] == pytest.approx(0, abs=1e-6)
    assert report["jerk_ratio"] == pytest.approx(1) and report["bob_ratio"] == pytest.approx(1)
    assert report["upper_codes_used"] == 1.0
    assert report["toe_median"] == report["toe_median_truth"] and report["toe_90"] == report["toe_90_truth"]
    assert "landings" not in report, "without beats"

    class Turning(Perfect):
        config = MegaDanceTokenizerConfig(**TINY_TOKENIZER, heading="turn")

        def decode(self, upper, lower, heading):
            return turn_motion(self.motion, 0.001 * torch.arange(self.motion.shape[1]))

    turned = reconstruction_report(Turning(), [replace(clip, first_beat_s=0.0, beat_period_s=0.5) for clip in clips(2)])
    assert turned["heading_error_30s"] == pytest.approx(np.degrees(0.9), rel=1e-3)
    assert turned["score"] < 1e-5 and turned["joint_error_world"] > 1e-3
    assert "heading_error_30s" not in report


def test_beats_lie_between_frames():
    clip = replace(clips(1)[0], first_beat_s=0.05, beat_period_s=0.4)
    beats = _beat_frames(clip)
    np.testing.assert_allclose(beats, np.arange(1.5, len(clip) - 1 + 1e-6, 12), atol=1e-9)
    assert len(_beat_frames(clips(1)[0])) == 0


def test_noise_and_corrupted_inputs_reach_the_tokenizer():
    model = MegaDanceTokenizer(MegaDanceTokenizerConfig(**TINY_TOKENIZER)).eval()
    motion, seen = torch.randn(2, 4, 32, 147)
    mask = torch.rand(4, 32) < 0.8
    loss, _ = TokenizerTask([]).loss(model, {"motion": motion, "input_motion": seen, "loss_mask": mask}, draws())
    assert torch.equal(loss, model(motion, input_motion=seen, loss_mask=mask).loss)
    assert not torch.equal(loss, model(motion).loss)


def test_codes_of_noise_are_not_predicted():
    model = tiny_generator().eval()
    codes = {f"{part}_codes": torch.randint(27, (4, 6)) for part in ("upper", "lower")}
    batch = {**codes, "input_features": torch.randn(4, 48, 35), "genre_ids": torch.zeros(4, dtype=torch.long)}
    labels = {name.replace("codes", "labels"): value.clone() for name, value in codes.items()}

    def loss(labels):
        return GeneratorTask([]).loss(model, {**batch, **labels}, draws())[0]

    assert torch.equal(loss(labels), loss({})), "nothing is masked"
    logits = model(**batch)
    labels["upper_labels"][1:, 2:4] = labels["lower_labels"][1:, 2:4] = -100
    expected = 0.0
    for part in ("upper", "lower"):
        scores = logits[f"{part}_logits"][:, :-1].log_softmax(-1)
        found = -scores.gather(-1, codes[f"{part}_codes"][:, 1:, None])[..., 0]
        found[1:, 1:3] = 0
        expected = expected + found.sum() / (4 * 5)
    torch.testing.assert_close(loss(labels), expected)
    assert loss({name: torch.full_like(value, -100) for name, value in labels.items()}) == 0


def test_the_rhythm_report_is_one_when_every_phase_is_right():
    class Right(torch.nn.Linear):
        @property
        def model(self):
            return self

        def encode_rhythm(self, features):
            return torch.from_numpy(rhythm_labels(song))[None].nan_to_num() * 0.3  # unsure, but right

    song = replace(clips(1)[0], first_beat_s=0.1, beat_period_s=0.4)
    report = RhythmTask([song]).evaluate(Right(1, 1))
    assert report == {"score": pytest.approx(0, abs=1e-6), "beat_cosine": pytest.approx(1)}
