import math

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Laplace, Normal
from torch.nn import functional

from multitask.likelihoods import CLASSIFICATION, REGRESSION, Likelihood, choose

UNTEMPERED = [*REGRESSION.values(), CLASSIFICATION["paper"]]


def _id(likelihood: Likelihood) -> str:
    return f"{likelihood.name}-{likelihood.error}"


@pytest.mark.parametrize(
    ("likelihood", "loss", "s", "expected"),
    [
        (REGRESSION["paper"], 3.0, math.log(2), 0.5 * 3 / 2 + 0.5 * math.log(2)),
        (REGRESSION["laplace"], 3.0, math.log(2), 3 / 2 + math.log(2)),
        (REGRESSION["gaussian"], 9.0, math.log(4), 0.5 * 9 / 4 + 0.5 * math.log(4)),
        (CLASSIFICATION["paper"], 0.7, math.log(2), 0.7 / 2 + 0.5 * math.log(2)),
        (CLASSIFICATION["softmax_exact"], 0.7, math.log(2), 0.7),
    ],
)
def test_nll_hand_worked(likelihood: Likelihood, loss: float, s: float, expected: float) -> None:
    assert likelihood.nll(torch.tensor(loss), torch.tensor(s)).item() == pytest.approx(expected, rel=1e-6)


def test_nll_of_laplace_is_the_density_less_a_constant() -> None:
    b = torch.tensor(2.5)
    nll = REGRESSION["laplace"].nll(torch.tensor(4.0), b.log())
    assert nll.item() + math.log(2) == pytest.approx(-Laplace(0.0, b).log_prob(torch.tensor(4.0)).item())


def test_nll_of_gaussian_is_the_density_less_a_constant() -> None:
    sigma = torch.tensor(2.5)
    nll = REGRESSION["gaussian"].nll(torch.tensor(16.0), 2 * sigma.log())
    constant = 0.5 * math.log(2 * math.pi)
    assert nll.item() + constant == pytest.approx(-Normal(0.0, sigma).log_prob(torch.tensor(4.0)).item())


def test_temper_divides_logits_by_the_variance() -> None:
    logits, s = torch.tensor([[1.0, -2.0, 4.0]]), torch.tensor(math.log(4))
    tempered = CLASSIFICATION["softmax_exact"].temper(logits, s)
    torch.testing.assert_close(tempered, logits / 4)
    exact = functional.cross_entropy(tempered, torch.tensor([1]))
    assert exact.item() == pytest.approx(-Categorical(logits=logits / 4).log_prob(torch.tensor([1])).item())


@pytest.mark.parametrize("likelihood", UNTEMPERED, ids=_id)
def test_temper_leaves_other_predictions_alone(likelihood: Likelihood) -> None:
    prediction = torch.randn(2, 3)
    assert torch.equal(likelihood.temper(prediction, torch.tensor(1.3)), prediction)


def test_softmax_forms_agree_where_sigma_is_one() -> None:
    logits, s = torch.randn(50, 5), torch.tensor(0.0)
    truth = torch.randint(5, (50,))
    exact, approximate = CLASSIFICATION["softmax_exact"], CLASSIFICATION["paper"]
    loss = functional.cross_entropy(logits, truth)
    torch.testing.assert_close(
        exact.nll(functional.cross_entropy(exact.temper(logits, s), truth), s), approximate.nll(loss, s)
    )


@pytest.mark.parametrize(
    ("likelihood", "loss", "expected"),
    [
        (REGRESSION["paper"], 5.0, math.log(5)),
        (REGRESSION["laplace"], 5.0, math.log(5)),
        (REGRESSION["gaussian"], 5.0, math.log(5)),
        (CLASSIFICATION["paper"], 5.0, math.log(10)),
    ],
)
def test_optimum_closed_form(likelihood: Likelihood, loss: float, expected: float) -> None:
    assert likelihood.optimum(loss) == pytest.approx(expected)


@pytest.mark.parametrize("loss", [0.003, 1.0, 250.0])
@pytest.mark.parametrize("likelihood", UNTEMPERED, ids=_id)
def test_optimum_is_the_least_on_a_grid(likelihood: Likelihood, loss: float) -> None:
    grid = np.linspace(-10, 10, 4001)
    values = likelihood.nll(torch.tensor(loss, dtype=torch.float64), torch.from_numpy(grid))
    assert grid[values.argmin()] == pytest.approx(likelihood.optimum(loss), abs=0.005)


def test_optimum_of_the_exact_softmax_is_refused() -> None:
    with pytest.raises(ValueError, match=r"softmax_exact.*logits"):
        CLASSIFICATION["softmax_exact"].optimum(1.0)


@pytest.mark.parametrize("likelihood", UNTEMPERED, ids=_id)
def test_weight_is_the_derivative_by_the_loss(likelihood: Likelihood) -> None:
    loss, s = torch.tensor(3.0, requires_grad=True), torch.tensor(-0.7)
    (slope,) = torch.autograd.grad(likelihood.nll(loss, s), loss)
    torch.testing.assert_close(likelihood.weight(s), slope)


@pytest.mark.parametrize("likelihood", UNTEMPERED, ids=_id)
def test_share_counts_only_the_penalty(likelihood: Likelihood) -> None:
    loss, s = torch.tensor(3.0), torch.tensor(1.1)
    whole, part = likelihood.nll(loss, s), likelihood.nll(loss, s, share=0.25)
    assert (whole - part).item() == pytest.approx(0.75 * likelihood.penalty * 1.1, rel=1e-5)
    assert likelihood.nll(loss, s, share=0).item() == pytest.approx((likelihood.weight(s) * loss).item())


def test_variance_of_laplace_is_that_of_its_scale() -> None:
    s = torch.tensor(0.8)
    torch.testing.assert_close(REGRESSION["laplace"].variance(s), Laplace(0.0, s.exp()).variance)


@pytest.mark.parametrize("likelihood", [REGRESSION["gaussian"], REGRESSION["paper"], *CLASSIFICATION.values()], ids=_id)
def test_variance_of_log_variance_forms_is_its_exponential(likelihood: Likelihood) -> None:
    assert likelihood.variance(torch.tensor(2 * math.log(3))).item() == pytest.approx(9)


@pytest.mark.parametrize("likelihoods", [REGRESSION, CLASSIFICATION])
def test_choose_unknown_names_the_key(likelihoods: dict[str, Likelihood]) -> None:
    with pytest.raises(ValueError, match=r"task\.normals\.likelihood: .*'paper'.*found 'cauchy'"):
        choose(likelihoods, "normals", "cauchy")


@pytest.mark.parametrize("likelihoods", [REGRESSION, CLASSIFICATION])
def test_choose_gives_each_by_its_name(likelihoods: dict[str, Likelihood]) -> None:
    assert [choose(likelihoods, "any", name).name for name in likelihoods] == list(likelihoods)
