"""Adan (Xie et al., arXiv 2208.06677) as the authors' release steps.

The libraries that are kept up (timm, pytorch_optimizer) move weights from the first step on; here, as there, the first step only
remembers its gradient and decays.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

STATE = ("exp_avg", "exp_avg_diff", "exp_avg_sq")


class Adan(torch.optim.Optimizer):
    """Adaptive Nesterov momentum. At step k = 1, 2, ..., with gradient g and the one before g':

        m <- (1 - b1) m + b1 g,  v <- (1 - b2) v + b2 (g - g'),  n <- (1 - b3) n + b3 (g + (1 - b2) (g - g'))^2     from k = 2 on
        p <- (p - lr (m / c1 + (1 - b2) v / c2) / (sqrt(n / c3) + eps)) / (1 + lr weight_decay),    c_j = 1 - (1 - b_j)^k

    Args:
        params: as for every optimizer of torch.
        lr: learning rate.
        betas: (b1, b2, b3), the share of the *new* value, unlike Adam's.
        eps: keeps the denominator above 0.
        weight_decay: see above; independent of the gradients.

    Raises:
        ValueError: a setting out of range.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float, float] = (0.02, 0.08, 0.01),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        if len(betas) != 3 or not all(0 < beta <= 1 for beta in betas):
            raise ValueError(f"betas={betas!r}: give three numbers above 0, to 1")
        for name, value in (("lr", lr), ("eps", eps), ("weight_decay", weight_decay)):
            if not value >= 0:
                raise ValueError(f"{name}={value!r}: give a number of 0 or more")
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            # weights that had no gradient in some steps are behind the others
            alike: dict[Any, list[Tensor]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["step"] = 0
                    state |= {name: torch.zeros_like(p) for name in STATE}
                    state["previous_grad"] = p.grad.clone()
                state["step"] += 1
                alike[state["step"], p.device, p.dtype].append(p)
            for (step, *_), params in alike.items():
                self._update(group, step, params)
        return loss

    def _update(self, group: dict[str, Any], step: int, params: list[Tensor]) -> None:
        """One step of weights of one device and type, which is the `step`-th of each."""
        lr, (b1, b2, b3) = group["lr"], group["betas"]
        if step > 1:
            grads = [p.grad for p in params]
            previous, m, v, n = ([self.state[p][name] for p in params] for name in ("previous_grad", *STATE))
            change = torch._foreach_sub(grads, previous)
            torch._foreach_lerp_(m, grads, b1)
            torch._foreach_lerp_(v, change, b2)
            ahead = torch._foreach_add(grads, change, alpha=1 - b2)
            torch._foreach_mul_(n, 1 - b3)
            torch._foreach_addcmul_(n, ahead, ahead, b3)
            c1, c2, c3 = (1 - (1 - beta) ** step for beta in (b1, b2, b3))
            root = torch._foreach_div(n, c3)
            torch._foreach_sqrt_(root)
            torch._foreach_add_(root, group["eps"])
            move = torch._foreach_div(m, c1)
            torch._foreach_add_(move, v, alpha=(1 - b2) / c2)
            torch._foreach_addcdiv_(params, move, root, -lr)
            torch._foreach_copy_(previous, grads)
        torch._foreach_div_(params, 1 + lr * group["weight_decay"])
