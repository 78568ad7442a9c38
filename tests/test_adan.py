"""Adan: against its formula written out, and as an optimizer of torch. The authors' own numbers are in `tests/test_parity_2026.py`."""

import math

import pytest
import torch

from megadance_hf.training.adan import Adan

SETTINGS = {"lr": 0.03, "betas": (0.02, 0.08, 0.01), "eps": 1e-8, "weight_decay": 0.02}


class Plain:
    """One weight, number by number."""

    def __init__(self, value: float):
        self.p, self.m, self.v, self.n, self.k, self.before = value, 0.0, 0.0, 0.0, 0, 0.0

    def step(self, g: float, lr, betas, eps, weight_decay) -> float:
        b1, b2, b3 = betas
        self.k += 1
        if self.k > 1:
            change = g - self.before
            self.m += b1 * (g - self.m)
            self.v += b2 * (change - self.v)
            self.n += b3 * ((g + (1 - b2) * change) ** 2 - self.n)
        self.before = g
        c1, c2, c3 = (1 / (1 - (1 - b) ** self.k) for b in betas)
        move = (c1 * self.m + (1 - b2) * c2 * self.v) / (math.sqrt(c3 * self.n) + eps)
        self.p = (self.p - lr * move) / (1 + weight_decay * lr)
        return self.p


def weights(*shapes) -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.randn(shape, dtype=torch.float64)) for shape in shapes]


def test_steps_follow_the_formula():
    """Also of weights that get no gradient in some steps: their steps are counted by themselves."""
    first, second = weights(3, (2, 2))
    plain = {p: [Plain(value) for value in p.flatten().tolist()] for p in (first, second)}
    optimizer = Adan([first, second], **SETTINGS)
    for step in range(7):
        for p, numbers in plain.items():
            p.grad = None if p is second and step in (0, 3) else torch.randn_like(p)
            if p.grad is not None:
                for number, g in zip(numbers, p.grad.flatten().tolist(), strict=True):
                    number.step(g, **SETTINGS)
        optimizer.step()
        for p, numbers in plain.items():
            expected = torch.tensor([number.p for number in numbers], dtype=p.dtype).view_as(p)
            torch.testing.assert_close(p.detach(), expected, atol=1e-12, rtol=1e-10)


def test_a_saved_state_goes_on_as_if_it_had_not_been_saved(tmp_path):
    (one,) = weights(5)
    grads = torch.randn(6, 5, dtype=torch.float64)
    optimizer = Adan([one], **SETTINGS)
    for step, grad in enumerate(grads):
        if step == 3:
            torch.save(optimizer.state_dict(), tmp_path / "state.pt")
            two = torch.nn.Parameter(one.detach().clone())
            resumed = Adan([two], lr=1.0)
            resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
            assert resumed.param_groups[0]["lr"] == 0.03
        for p, which in ((one, optimizer), *(((two, resumed),) if step >= 3 else ())):
            p.grad = grad.clone()
            which.step()
    assert torch.equal(one, two)


def test_it_finds_a_minimum_and_returns_the_closures_loss():
    (weight,) = weights(4)
    optimizer = Adan([weight], lr=0.05)

    def closure():
        optimizer.zero_grad()
        loss = (weight - 2).pow(2).sum()
        loss.backward()
        return loss

    for _ in range(1000):
        loss = optimizer.step(closure)
    assert loss < 1e-3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"betas": (0.9, 0.99)}, r"betas=\(0.9, 0.99\): give three numbers above 0, to 1"),
        ({"betas": (0.0, 0.1, 0.1)}, "give three numbers above 0"),
        ({"lr": -1.0}, "lr=-1.0: give a number of 0 or more"),
        ({"weight_decay": float("nan")}, "weight_decay=nan"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        Adan(weights(1), **settings)
