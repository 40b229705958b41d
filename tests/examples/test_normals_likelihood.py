import math

import pytest
import torch

from normals import VonMisesFisher

LIKELIHOOD = VonMisesFisher()


@pytest.mark.parametrize("s", [-9.0, -3.0, 0.0, 2.0, 6.0])
def test_likelihood_is_a_density_on_the_sphere(s: float) -> None:
    # Around the axis of symmetry the area between two cosines is 2 pi times their difference.
    loss = torch.linspace(0, 2, 2_000_001, dtype=torch.float64)
    density = torch.exp(-LIKELIHOOD.nll(loss, torch.tensor(s, dtype=torch.float64))) / (2 * math.pi)
    assert torch.trapezoid(2 * math.pi * density, loss).item() == pytest.approx(1, abs=1e-4)


def test_likelihood_hand_worked() -> None:
    # kappa = 2: -log(2 / (1 - exp(-4))) + 2 * 0.3
    nll = LIKELIHOOD.nll(torch.tensor(0.3), torch.tensor(-math.log(2)))
    assert nll.item() == pytest.approx(-math.log(2) + math.log(1 - math.exp(-4)) + 0.6, rel=1e-5)
    half = LIKELIHOOD.nll(torch.tensor(0.3), torch.tensor(-math.log(2)), share=0.5)
    assert half.item() == pytest.approx(0.6 + (nll.item() - 0.6) / 2, rel=1e-5)


@pytest.mark.parametrize("loss", [1e-4, 0.02, 0.3, 0.7, 0.95])
def test_likelihood_optimum_is_the_least_on_a_grid(loss: float) -> None:
    grid = torch.linspace(-12, 8, 20_001, dtype=torch.float64)
    values = LIKELIHOOD.nll(torch.tensor(loss, dtype=torch.float64), grid)
    assert grid[values.argmin()].item() == pytest.approx(LIKELIHOOD.optimum(loss), abs=0.002)


@pytest.mark.parametrize("loss", [1e-4, 0.01, 0.05])
def test_likelihood_optimum_of_a_small_loss_is_its_logarithm(loss: float) -> None:
    assert LIKELIHOOD.optimum(loss) == pytest.approx(math.log(loss), abs=1e-6)


def test_likelihood_optimum_gives_the_mean_cosine_of_the_density() -> None:
    kappa = math.exp(-LIKELIHOOD.optimum(0.4))
    assert 1 / math.tanh(kappa) - 1 / kappa == pytest.approx(0.6)


@pytest.mark.parametrize("loss", [0.0, 1.0, 1.5])
def test_likelihood_of_no_direction_has_no_optimum(loss: float) -> None:
    with pytest.raises(ValueError, match=rf"von_mises_fisher.*needed a loss between 0 and 1, found {loss}"):
        LIKELIHOOD.optimum(loss)


def test_likelihood_gradients_are_right_and_bounded_above() -> None:
    loss = torch.tensor([0.01, 0.2, 0.9], dtype=torch.float64, requires_grad=True)
    s = torch.tensor([-4.0, 0.3, 3.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(LIKELIHOOD.nll, (loss, s))
    (by_loss,) = torch.autograd.grad(LIKELIHOOD.nll(loss, s).sum(), loss)
    torch.testing.assert_close(by_loss, LIKELIHOOD.weight(s.detach()))
    wide = torch.linspace(-20, 20, 81, requires_grad=True)
    (by_s,) = torch.autograd.grad(LIKELIHOOD.nll(torch.zeros(81), wide).sum(), wide)
    assert by_s.isfinite().all()
    assert by_s.max() <= LIKELIHOOD.steepest


def test_likelihood_variance_is_that_of_the_angle_along_an_axis() -> None:
    s = torch.tensor(-5.0)
    kappa, generator = math.exp(5), torch.Generator().manual_seed(0)
    # The inverse of the distribution of the cosine.
    uniform = torch.rand(200_000, generator=generator, dtype=torch.float64)
    cosine = 1 + torch.log(uniform + (1 - uniform) * math.exp(-2 * kappa)) / kappa
    along = torch.acos(cosine.clamp(-1, 1)).square().mean() / 2
    assert along.item() == pytest.approx(LIKELIHOOD.variance(s).item(), rel=0.02)
