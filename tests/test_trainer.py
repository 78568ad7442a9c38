"""transformers' `Trainer` and peft's LoRA train the generator like any other model."""

import copy

import pytest
import torch
from helpers import skip_outside_ci, tiny_generator
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

import megadance_hf.auto  # noqa: F401  (registers)

versions = pytest.mark.versions  # but LoRA: peft is not among the requirements
ARRANGEMENTS = {
    "2025": {},
    "2026": {"code_head": "factorised", "levels": [3, 3, 3], "mamba_placement": "layers", "norm_per_stream": True},
}


def dances(count: int, steps: int = 8) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(3)
    return [
        {
            "input_features": torch.randn(8 * steps, 35, generator=generator),
            "genre_ids": torch.tensor(number % 3),
            "labels": torch.randint(27, (2, steps), generator=generator),
        }
        for number in range(count)
    ]


def trainer(folder, model=None, **options) -> Trainer:
    if model is None:
        torch.manual_seed(0)
        model = tiny_generator(dropout=0.0)
    quiet = {"report_to": [], "disable_tqdm": True, "use_cpu": True, "save_strategy": "no", "logging_steps": 1}
    arguments = TrainingArguments(str(folder), **{**quiet, "learning_rate": 1e-2, **options})
    return Trainer(model, arguments, train_dataset=dances(16), eval_dataset=dances(4))


@versions
@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_trainer_trains_evaluates_saves_and_resumes(tmp_path, arrangement):
    torch.manual_seed(0)
    model = tiny_generator(**ARRANGEMENTS[arrangement])
    options = {"per_device_train_batch_size": 8, "save_strategy": "epoch", "num_train_epochs": 10}
    training = trainer(tmp_path, copy.deepcopy(model), **options)
    before = training.evaluate()["eval_loss"]
    training.train()
    after = training.evaluate()["eval_loss"]
    assert after < 0.8 * before
    batch = training.data_collator(dances(4))
    with torch.no_grad():
        assert float(training.model.eval()(**batch).loss) == pytest.approx(after, rel=1e-5)
    predicted = training.predict(dances(4))
    outputs = 27 if arrangement == "2025" else 9
    assert [logits.shape for logits in predicted.predictions] == [(4, 8, outputs)] * 2
    assert predicted.label_ids.shape == (4, 2, 8)

    training.save_model(tmp_path / "saved")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    with torch.no_grad():
        assert torch.equal(loaded(**batch).loss, training.model(**batch).loss)
    again = trainer(tmp_path, copy.deepcopy(model), **options)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-10"))
    for one, other in zip(again.model.parameters(), training.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


@versions
@pytest.mark.parametrize("missing", [0, 3])
def test_accumulated_gradients_are_those_of_one_batch(tmp_path, missing):
    """Also where batches differ in the number of their labels, which a mean of means would get wrong."""
    models = []
    for batch, steps in ((8, 1), (2, 4)):
        options = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": steps, "max_steps": 3}
        training = trainer(tmp_path, optim="sgd", max_grad_norm=0, **options)
        for dance in training.train_dataset[::3]:
            dance["upper_codes"], dance["lower_codes"] = dance["labels"].clone().unbind(0)
            dance["labels"][:, 8 - missing :] = -100
        for dance in training.train_dataset:
            codes = dance["labels"].where(dance["labels"] >= 0, 0).unbind(0)
            dance.setdefault("upper_codes", codes[0])
            dance.setdefault("lower_codes", codes[1])
        training.train()
        models.append((training.model, [entry["loss"] for entry in training.state.log_history if "loss" in entry]))
    (one, losses), (other, others) = models
    assert losses == pytest.approx(others, rel=1e-5)
    for (name, parameter), accumulated in zip(one.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(parameter, accumulated, atol=1e-6, rtol=1e-4, msg=name)


@versions
def test_the_loss_that_is_logged_is_the_mean(tmp_path):
    training = trainer(tmp_path, per_device_train_batch_size=16, max_steps=1)
    with torch.no_grad():
        expected = float(training.model(**training.data_collator(dances(16))).loss)
    training.train()
    assert training.state.log_history[0]["loss"] == pytest.approx(expected, rel=1e-5)


@versions
def test_labels_of_both_streams_can_be_columns(tmp_path):
    training = trainer(
        tmp_path, per_device_train_batch_size=8, label_names=["upper_labels", "lower_labels"], max_steps=1
    )
    with torch.no_grad():
        expected = training.model.eval()(**training.data_collator(dances(4))).loss
    for dance in (*training.train_dataset, *training.eval_dataset):
        upper, lower = dance.pop("labels")
        dance |= {"upper_codes": upper, "upper_labels": upper, "lower_codes": lower, "lower_labels": lower}
    assert training.evaluate()["eval_loss"] == pytest.approx(float(expected), rel=1e-5)
    training.train()


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_lora(tmp_path, arrangement, capsys):
    try:
        from peft import LoraConfig, PeftModel, get_peft_model
    except ImportError:
        skip_outside_ci("peft is not installed")
    torch.manual_seed(0)
    whole = tiny_generator(dropout=0.0, **ARRANGEMENTS[arrangement])
    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj", "in_proj", "out_proj"], init_lora_weights=False)
    model = get_peft_model(copy.deepcopy(whole), lora)
    model.print_trainable_parameters()
    trained = [one.numel() for name, one in model.named_parameters() if "lora_" in name]
    assert f"trainable params: {sum(trained):,} || " in capsys.readouterr().out
    batch = trainer(tmp_path).data_collator(dances(6))

    def gradients() -> dict[str, torch.Tensor]:
        model.zero_grad()
        model.train()(**batch).loss.backward()
        return {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}

    plain = gradients()
    assert plain and all("lora_" in name for name in plain)
    # transformers before 5.23 call it otherwise
    getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
    checkpointed = gradients()
    assert checkpointed.keys() == plain.keys()
    assert all(torch.equal(checkpointed[name], gradient) for name, gradient in plain.items())
    getattr(model, "activation_checkpointing_disable", model.gradient_checkpointing_disable)()

    training = trainer(tmp_path, model, per_device_train_batch_size=8, max_steps=20)
    before = training.evaluate()["eval_loss"]
    training.train()
    assert training.evaluate()["eval_loss"] < 0.9 * before
    inputs = {"input_features": batch["input_features"], "genre_ids": batch["genre_ids"]}
    codes = model.eval().generate(**inputs)
    with model.disable_adapter():
        assert torch.equal(model.generate(**inputs).upper_codes, whole.generate(**inputs).upper_codes)
    assert not torch.equal(codes.upper_codes, whole.generate(**inputs).upper_codes)
    model.save_pretrained(tmp_path / "lora")
    loaded = PeftModel.from_pretrained(copy.deepcopy(whole), tmp_path / "lora").eval()
    merged = loaded.merge_and_unload()
    assert type(merged) is type(whole)
    assert torch.equal(merged.generate(**inputs).upper_codes, codes.upper_codes)
