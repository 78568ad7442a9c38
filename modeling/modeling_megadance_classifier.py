"""The genre classifier: its outputs are the style features of FID_s and DIV_s, its predictions give ACC and F1 (section 4.1).

A transformer over motion that halves the length after every layer and averages over the remaining time steps.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import ModelOutput

from .arguments_megadance import need_tensors
from .configuration_megadance import MegaDanceClassifierConfig
from .folders_megadance import ChecksFolder
from .forks_megadance import warn_after_fork
from .kinematics_megadance import MOTION_SIZE, NUM_JOINTS, axis_angle_to_rotation_6d, check_motion_statistics


def classifier_motion(poses: Tensor, translation: Tensor) -> Tensor:
    """The classifier's input: axis-angle (..., T, 24, 3) or (..., T, 72) and root path (..., T, 3), metres -> (..., T, 147).

    Unlike the tokenizer's motion it begins with the root's position, not its velocity.
    """
    rotations = axis_angle_to_rotation_6d(poses.reshape(*translation.shape[:-1], NUM_JOINTS, 3))
    return torch.cat((translation, rotations.flatten(-2)), dim=-1)


@dataclass
class MegaDanceGenreClassifierOutput(ModelOutput):
    """Output of [`MegaDanceForGenreClassification`].

    Args:
        loss: mean cross-entropy, when labels were given.
        logits: [batch, num_outputs]: scores of the genres in the order of their ids, and the style features as a whole.
            The released classifier has twenty for sixteen genres.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None


class MegaDanceForGenreClassification(ChecksFolder, PreTrainedModel):
    """The genre of a dance.

        logits = model(classifier_motion(poses, translation)[None]).logits       # (1, num_outputs)

    As in the released code, the two-layer input and output MLPs have no activation, there are no positional encodings (only the
    pooling depends on the order of frames), and layers are post-norm.
    """

    motion_mean: Tensor
    motion_std: Tensor

    config_class = MegaDanceClassifierConfig
    base_model_prefix = "classifier"
    main_input_name = "motion"
    # translations are metres, rotation entries have spreads of hundredths
    _keep_in_fp32_modules_strict = ["motion_mean", "motion_std"]

    def __init__(self, config: MegaDanceClassifierConfig):
        config.validate()
        super().__init__(config)
        size = config.hidden_size
        self.input_mlp = nn.ModuleList((nn.Linear(MOTION_SIZE, size), nn.Linear(size, size)))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                size, config.num_attention_heads, config.intermediate_size, config.dropout, batch_first=True
            )
            for _ in range(config.num_hidden_layers)
        )
        self.output_mlp = nn.ModuleList(
            (nn.Linear(size, config.output_hidden_size), nn.Linear(config.output_hidden_size, config.num_outputs))
        )
        self.register_buffer("motion_mean", torch.zeros(MOTION_SIZE))
        self.register_buffer("motion_std", torch.ones(MOTION_SIZE))
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, nn.MultiheadAttention):
            init.xavier_uniform_(module.in_proj_weight)
            init.zeros_(module.in_proj_bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, MegaDanceForGenreClassification):
            init.zeros_(module.motion_mean)
            init.ones_(module.motion_std)

    @torch.no_grad()
    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Set the normalisation: mean and std of `classifier_motion`, each (147,); std above 0."""
        check_motion_statistics(mean, std)
        self.motion_mean.copy_(mean)
        self.motion_std.copy_(std)

    def forward(self, motion: Tensor | None = None, labels: Tensor | None = None) -> MegaDanceGenreClassifierOutput:
        """Args:
            motion: (batch, frames, 147) at `config.fps`, see `classifier_motion`; one frame or more, all of equal length.
            labels: (batch,) genre ids.

        Raises:
            ValueError: `motion` is missing or has another shape, or `labels` does.
        """
        warn_after_fork()
        need_tensors("give classifier_motion(poses, translation)[None]", motion=motion)
        assert motion is not None
        if motion.dim() != 3 or motion.shape[1] < 1 or motion.shape[-1] != MOTION_SIZE:
            raise ValueError(
                f"motion has shape {tuple(motion.shape)}; expected (batch, 1 or more frames, {MOTION_SIZE}), "
                "see classifier_motion"
            )
        hidden = (motion.to(self.motion_mean) - self.motion_mean) / self.motion_std
        hidden = hidden.to(next(self.input_mlp.parameters()).dtype)
        for linear in self.input_mlp:
            hidden = linear(hidden)
        for layer in self.layers:
            hidden = layer(hidden)
            # zeros at both ends count in the mean, as in the released code
            hidden = F.avg_pool1d(hidden.mT, kernel_size=3, stride=2, padding=1).mT
        logits = hidden.mean(1)
        for linear in self.output_mlp:
            logits = linear(logits)
        if labels is not None and labels.shape != logits.shape[:1]:
            raise ValueError(f"labels has shape {tuple(labels.shape)}; expected genre ids, {tuple(logits.shape[:1])}")
        loss = None if labels is None else F.cross_entropy(logits.float(), labels)
        return MegaDanceGenreClassifierOutput(loss, logits)
