"""One step of training as a GPU would see it: how many launches, and nothing that waits."""

import re
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from helpers import tiny_classifier, tiny_generator, tiny_tokenizer
from launches import Launches, NeverWaits
from torch.utils._pytree import tree_leaves
from torch.utils.data import Dataset

from megadance_hf.data.sampling import collate
from megadance_hf.modeling import batched_experts_megadance, scan_megadance
from megadance_hf.modeling.configuration_megadance import MegaDanceConfig
from megadance_hf.modeling.kinematics_megadance import MOTION_SIZE
from megadance_hf.modeling.modeling_megadance import MegaDanceForMotionGeneration
from megadance_hf.training import loop, processes
from megadance_hf.training.adan import Adan
from megadance_hf.training.config import TrainingConfig
from megadance_hf.training.log import Means
from megadance_hf.training.loop import _Trainer
from megadance_hf.training.processes import make_accelerator
from megadance_hf.training.tasks import ClassifierTask, Draws, GeneratorTask, RhythmTask, TokenizerTask


class Codes(Dataset):
    """Segments of 30 codes of these genres, in this order."""

    def __init__(self, genre_ids, length=30):
        self.encoded, self.genres = [], []
        generator = torch.Generator().manual_seed(0)
        names = ("upper_codes", "lower_codes")
        self.items = [
            {name: torch.randint(9, (length,), generator=generator) for name in names}
            | {"input_features": torch.randn(8 * length, 35, generator=generator), "genre_ids": torch.tensor(genre)}
            for genre in genre_ids
        ]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def launches_of_a_step(layers: int, genre_ids: list[int], precision: str, folder, compiled: bool = False) -> Launches:
    """The paper's layers, batch and segments with narrow tensors; the weights are averaged as well."""
    torch.manual_seed(0)
    narrow = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16, "music_hidden_size": 8}
    narrow |= {"output_hidden_size": 16, "codebook_size": 9, "state_size": 2}
    config = MegaDanceConfig.released_2025(
        **narrow, num_hidden_layers=layers, id2label={number: f"genre{number}" for number in range(16)}
    )
    model = MegaDanceForMotionGeneration(config)
    for layer in model.base_model.layers.modules():
        if hasattr(layer, "num_heads"):
            layer.dropout = 0.0  # on a GPU attention is one kernel with dropout as well, on a CPU only without
    segments = Codes(genre_ids)
    settings = TrainingConfig(
        batch_size=len(segments), epochs=9, ema_decay=0.9, mixed_precision=precision, compile=compiled
    )
    trainer = _Trainer(model, GeneratorTask(None), segments, range(len(segments)), collate, settings, folder)
    trainer.wrapped.train()
    trainer._step(trainer._batches(0))  # the optimizer's state is made in the first
    trainer.progress.epoch_step = 0
    with Launches() as launches:
        trainer._step(trainer._batches(0))
    return launches


@pytest.fixture
def like_a_gpu(monkeypatch):
    """What an accelerator computes, on the CPU."""
    monkeypatch.setattr(batched_experts_megadance, "is_worth_it", lambda x: True)
    monkeypatch.setattr(scan_megadance, "_goes_step_by_step", lambda x: False)


@pytest.mark.parametrize(
    ("genre_ids", "precision", "most"),
    [
        ([4, 1, 4, 9] * 8, "no", 1944),
        ([0, 5, 2, 7] * 8, "no", 1908),
        ([3] * 32, "no", 1828),
        ([4, 1, 4, 9] * 8, "bf16", 2255),
    ],
    ids=["uneven", "even", "one genre", "bf16"],
)
def test_launches_of_a_step_of_the_paper(tmp_path, like_a_gpu, genre_ids, precision, most):
    """32 segments of 30 codes, with genres as the sampler gives them (`genre_run: 8`). Figures that may only fall."""
    one, two = (launches_of_a_step(layers, genre_ids, precision, tmp_path).count for layers in (1, 2))
    if precision == "no":  # so that six can be told
        assert launches_of_a_step(3, genre_ids, precision, tmp_path).count - two == two - one
    assert one + 5 * (two - one) <= most


class Nothing(torch.autograd.Function):
    """In place of compiled experts: no launch, but a gradient for everything."""

    @staticmethod
    def forward(ctx, x, *weights):
        ctx.given = (x, *weights)
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx, grad):
        return tuple(torch.empty_like(tensor) for tensor in ctx.given)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the compiler itself
def test_launches_of_a_compiled_step_of_the_paper(tmp_path, monkeypatch):
    """One genre. Kernels that torch's compiler makes for a CPU, and what it calls; around them, what is left to launch."""
    from torch._inductor import metrics
    from torch._inductor.utils import run_and_get_code

    genre_ids = [3] * 32
    torch.compiler.reset()
    with pytest.MonkeyPatch.context() as undo:
        undo.setitem(globals(), "Launches", nullcontext)  # the compiler does not work under a mode
        kernels = metrics.generated_kernel_count
        _, graphs = run_and_get_code(launches_of_a_step, 1, genre_ids, "no", tmp_path, True)
        kernels = metrics.generated_kernel_count - kernels
    assert len(graphs) == 2  # an expert and its gradient: the universal one is computed by the same
    calls = sum(len(re.findall(r"= torch\.ops\.|extern_kernels\.", graph)) for graph in graphs)

    def around(compute):
        return lambda x, weights, *others: Nothing.apply(x, *tree_leaves(weights))

    monkeypatch.setattr(batched_experts_megadance, "_in_one_graph", around)
    one, two = (launches_of_a_step(layers, genre_ids, "no", tmp_path, True).count for layers in (1, 2))
    assert one + 5 * (two - one) + 12 * (kernels + calls) <= 1624


TABLES = {genre: [list(range(21))] * 2 for genre in ("chacha", "rumba", "waltz")}
STEPS = {
    "2025": (tiny_generator, {}, GeneratorTask(None, code_noise=0.3, label_smoothing=0.1)),
    "2026": (tiny_generator, {"mamba_placement": "layers", "norm_per_stream": True}, GeneratorTask(None)),
    "attributes": (
        tiny_generator,
        {"attributes": ["energy", "speed"], "attribute_quantiles": TABLES},
        GeneratorTask(None),
    ),
    "tokenizer": (tiny_tokenizer, {}, TokenizerTask([], soft_share=0.2)),
    "vq": (tiny_tokenizer, {"quantizer": "vq"}, TokenizerTask([])),
    "classifier": (tiny_classifier, {}, ClassifierTask(None)),
    "rhythm": (tiny_generator, {"rhythm_size": 8, "rhythm_layers": 2}, RhythmTask([])),
}


@pytest.mark.parametrize("which", STEPS)
def test_a_step_waits_for_nothing(which):
    """On meta tensors, which have no numbers that one could ask for."""
    make, options, task = STEPS[which]
    model = make(**options).to("meta").train()
    if isinstance(task, GeneratorTask):
        batch = collate(Codes([2, 0, 2, 1])) | {"attributes": torch.rand(4, 30, 7)}
    elif isinstance(task, RhythmTask):
        batch = {"input_features": torch.zeros(4, 48, 35), "rhythm_labels": torch.zeros(4, 48, 4)}
    else:
        batch = {"motion": torch.zeros(4, 64, MOTION_SIZE)}
        if isinstance(task, ClassifierTask):
            batch["labels"] = torch.tensor([0, 1, 2, 0])
    batch = {name: value if name in task.on_host else value.to("meta") for name, value in batch.items()}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer, means = Adan(trained), Means({})
    for _ in range(2):
        with NeverWaits():
            task.advance(model, 0.3)
            loss, values = task.loss(model, batch, Draws(torch.Generator().manual_seed(0), 0, 4))
            loss.backward()
            means.add({"loss": loss, "norm": torch.nn.utils.clip_grad_norm_(trained, 1.0), **values})
            optimizer.step()
            optimizer.zero_grad()


# --- precision ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def scaled(monkeypatch):
    """Training in fp16 on the CPU, with gradients scaled by 1024, and the scale doubled after each ten steps."""

    def make(config, *args, **options):
        accelerator = make_accelerator(replace(config, mixed_precision="no"), *args, **options)
        accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=10)
        accelerator.state._mixed_precision, accelerator.native_amp = "fp16", True
        return accelerator

    monkeypatch.setattr(loop, "make_accelerator", make)


def trainer_of(folder, **settings):
    torch.manual_seed(0)
    model = tiny_generator(dropout=0.0, codebook_size=9)
    segments = Codes([0, 1, 2, 0] * 8, length=8)
    defaults = {"batch_size": 8, "epochs": 9, "ema_decay": 0.5, "schedule": "linear", "learning_rate": 1e-2}
    settings = TrainingConfig(**defaults | settings)
    trainer = _Trainer(model, GeneratorTask(None), segments, range(len(segments)), collate, settings, folder)
    trainer.wrapped.train()
    return trainer


def weights_of(trainer):
    weights = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    return weights, [average.clone() for average in trainer.average.average.module]


def test_scaled_gradients_are_those_of_full_precision(tmp_path, scaled):
    """Norms as well, which are what clipping sees."""
    half = trainer_of(tmp_path / "half", mixed_precision="fp16")
    assert half.accelerator.mixed_precision == "fp16" and half.optimizer.scaler.get_scale() == 1024
    batches = half._batches(0)
    for _ in range(3):
        half._step(batches)
    assert half.progress.skipped == 0
    norms = [half.means.sums["gradient_norm"][0] / 3]
    del half
    with pytest.MonkeyPatch.context() as undo:
        undo.setattr(loop, "make_accelerator", make_accelerator)
        full = trainer_of(tmp_path / "full")
    assert full.accelerator.scaler is None
    batches = full._batches(0)
    for _ in range(3):
        full._step(batches)
    norms.append(full.means.sums["gradient_norm"][0] / 3)
    assert float(norms[0]) == pytest.approx(float(norms[1]), rel=1e-2)


def test_a_step_that_overflows_is_left_out(tmp_path, scaled):
    trainer = trainer_of(tmp_path, mixed_precision="fp16")
    batches, scaler = trainer._batches(0), trainer.optimizer.scaler
    trainer._step(batches)
    scaler.update(2.0**120)
    (weights, average), rate = weights_of(trainer), trainer.optimizer.param_groups[0]["lr"]
    trainer._step(batches)
    assert (trainer.progress.step, trainer.progress.skipped, scaler.get_scale()) == (2, 1, 2.0**119)
    for before, after in zip((weights, average), weights_of(trainer), strict=True):
        assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))
    assert trainer.means.sums["gradient_norm"][1] == 1  # infinity would be the mean of the epoch
    next_rate = trainer.optimizer.param_groups[0]["lr"]
    scaler.update(1024.0)
    trainer._step(batches)
    assert trainer.optimizer.param_groups[0]["lr"] == next_rate < rate
    assert not all(torch.equal(*pair) for pair in zip(weights, weights_of(trainer)[0], strict=True))
    assert trainer.progress.state_dict()["skipped"] == 1


@pytest.mark.parametrize(
    ("device", "has_bf16", "settings", "resumes", "expected"),
    [
        ("cuda", True, {}, False, ("bf16", 4)),
        ("cuda", False, {}, False, ("no", 4)),
        ("cuda", True, {"mixed_precision": "fp16", "num_workers": 0}, False, ("fp16", 0)),
        ("cuda", True, {}, True, ("no", 4)),
        ("cpu", True, {}, False, ("no", 0)),
        ("cpu", True, {"mixed_precision": "bf16", "num_workers": 2}, False, ("bf16", 2)),
    ],
)
def test_what_the_device_decides(tmp_path, monkeypatch, capsys, device, has_bf16, settings, resumes, expected):
    state = SimpleNamespace(device=torch.device(device), is_main_process=True, num_processes=1)
    monkeypatch.setattr(processes, "processes", lambda: state)
    monkeypatch.setattr(processes, "_computes_in_bf16", lambda device: has_bf16 and device.type == "cuda")
    monkeypatch.setattr(processes, "_device_name", lambda device: f"some {device.type}")
    monkeypatch.setattr(processes, "_cores", lambda: 16)
    config = processes.decide(TrainingConfig(**settings), tmp_path, resumes)
    assert (config.mixed_precision, config.num_workers) == expected
    told = f"training on some cuda: training.mixed_precision={expected[0]}, training.num_workers={expected[1]}"
    printed = capsys.readouterr().out
    assert printed.startswith(told) if device == "cuda" else printed == ""
    if not resumes:  # what is written is what a resumed run keeps, on whatever device
        processes.write_settings(config, tmp_path, torch.device(device))
        state.device = torch.device("cpu")
        assert processes.decide(TrainingConfig(), tmp_path, True).mixed_precision == expected[0]
