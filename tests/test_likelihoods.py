import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Laplace, Normal
from torch.nn import functional

from multitask.data.sample import Target
from multitask.likelihoods import CLASSIFICATION, REGRESSION, Likelihood, choose
from multitask.tasks.base import Task
from multitask.tasks.instance import Instance
from multitask.tasks.semantic import Semantic
from multitask.weighting import Uncertainty
from tests.cityscapes import CITYSCAPES

TRUE_VARIANCES = ["laplace", "gaussian"]
OF_VECTORS = [REGRESSION[name].of_vector(components) for name in TRUE_VARIANCES for components in (2, 3)]
UNTEMPERED = [*REGRESSION.values(), CLASSIFICATION["paper"], *OF_VECTORS]


def _id(likelihood: Likelihood) -> str:
    return f"{likelihood.name}-{likelihood.error}-{likelihood.components}"


@pytest.mark.parametrize(
    ("likelihood", "loss", "s", "expected"),
    [
        (REGRESSION["paper"], 3.0, math.log(2), 0.5 * 3 / 2 + 0.5 * math.log(2)),
        (REGRESSION["laplace"], 3.0, math.log(2), 3 / 2 + math.log(2)),
        (REGRESSION["gaussian"], 9.0, math.log(4), 0.5 * 9 / 4 + 0.5 * math.log(4)),
        (REGRESSION["paper"].of_vector(2), 3.0, math.log(2), 0.5 * 3 / 2 + 0.5 * math.log(2)),
        (REGRESSION["laplace"].of_vector(2), 3.0, math.log(2), 3 / 2 + 2 * math.log(2)),
        (REGRESSION["gaussian"].of_vector(3), 9.0, math.log(4), 0.5 * 9 / 4 + 1.5 * math.log(4)),
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


@pytest.mark.parametrize("components", [2, 3])
def test_nll_of_a_vector_is_that_of_its_components(components: int) -> None:
    errors, sigma = torch.tensor([4.0, -1.0, 2.5])[:components], torch.tensor(2.5)
    laplace, gaussian = (REGRESSION[name].of_vector(components) for name in TRUE_VARIANCES)
    densities = {
        -Laplace(0.0, sigma).log_prob(errors).sum(): laplace.nll(errors.abs().sum(), sigma.log())
        + components * math.log(2),
        -Normal(0.0, sigma).log_prob(errors).sum(): gaussian.nll(errors.square().sum(), 2 * sigma.log())
        + components * 0.5 * math.log(2 * math.pi),
    }
    for density, nll in densities.items():
        torch.testing.assert_close(nll, density)


@pytest.mark.parametrize("components", [1, 2, 3])
def test_paper_s_form_of_a_vector_is_the_paper_s_form(components: int) -> None:
    assert REGRESSION["paper"].of_vector(components) is REGRESSION["paper"]


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
        (REGRESSION["paper"].of_vector(2), 5.0, math.log(5)),
        (REGRESSION["laplace"].of_vector(2), 5.0, math.log(2.5)),
        (REGRESSION["gaussian"].of_vector(2), 5.0, math.log(2.5)),
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
def test_share_counts_only_the_penalties(likelihood: Likelihood) -> None:
    loss, s = torch.tensor(3.0), torch.tensor(1.1)
    whole, part = likelihood.nll(loss, s), likelihood.nll(loss, s, share=0.25)
    assert (whole - part).item() == pytest.approx(0.75 * likelihood.steepest * 1.1, rel=1e-5)
    assert likelihood.nll(loss, s, share=0).item() == pytest.approx((likelihood.weight(s) * loss).item())


def test_variance_of_laplace_is_that_of_its_scale() -> None:
    s = torch.tensor(0.8)
    torch.testing.assert_close(REGRESSION["laplace"].variance(s), Laplace(0.0, s.exp()).variance)


@pytest.mark.parametrize("likelihood", [*UNTEMPERED, CLASSIFICATION["softmax_exact"]], ids=_id)
def test_log_variance_is_that_of_the_variance(likelihood: Likelihood) -> None:
    s = torch.tensor(-1.3)
    torch.testing.assert_close(likelihood.log_variance(s).exp(), likelihood.variance(s))


@pytest.mark.parametrize("likelihood", UNTEMPERED, ids=_id)
def test_steepest_is_the_slope_far_above_the_optimum(likelihood: Likelihood) -> None:
    s = torch.tensor(30.0, requires_grad=True)
    (slope,) = torch.autograd.grad(likelihood.nll(torch.tensor(2.0), s), s)
    assert slope.item() == pytest.approx(likelihood.steepest)


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


VARIANCE = 9.0


def _simulated(name: str, components: int) -> tuple[Instance, Tensor, Target]:
    """A task of vectors, predictions, and targets that are these with noise of `VARIANCE`, as the likelihood has it."""
    task = type("Vectors", (Instance,), {"channels": components})(CITYSCAPES, name)
    noise = {"laplace": Laplace(0.0, math.sqrt(VARIANCE / 2)), "gaussian": Normal(0.0, math.sqrt(VARIANCE))}[name]
    prediction = torch.randn(2, components, 100, 100) * 20
    return task, prediction, Target(prediction + noise.sample(prediction.shape), torch.rand(2, 100, 100) < 0.8)


def _learned(task: Task, prediction: Tensor, target: Target, start: float) -> float:
    """The sigma^2 that a weighting comes to, descending as the trainer does."""
    weighting = Uncertainty({task.name: task.likelihood}, initial_log_variance=start)
    optimizer = torch.optim.SGD(weighting.parameters(), lr=0.3)
    present = {task.name: torch.tensor(True)}
    for _ in range(150):
        total, count = task.loss(weighting.temper({task.name: prediction}, present)[task.name], target)
        optimizer.zero_grad()
        weighting({task.name: total / count}, present).backward()
        weighting.bound_gradients()
        optimizer.step()
    return weighting.variances()[task.name].item()


@pytest.mark.parametrize("components", [1, 2, 3])
@pytest.mark.parametrize("name", TRUE_VARIANCES)
def test_optimum_is_the_variance_of_simulated_noise(name: str, components: int) -> None:
    task, prediction, target = _simulated(name, components)
    total, count = task.loss(prediction, target)
    s = torch.tensor(task.likelihood.optimum((total / count).item()))
    assert task.likelihood.variance(s).item() == pytest.approx(VARIANCE, rel=0.05)


@pytest.mark.parametrize("start", [-2.0, 0.0, 5.0])
@pytest.mark.parametrize("components", [1, 2, 3])
@pytest.mark.parametrize("name", TRUE_VARIANCES)
def test_descent_finds_the_variance_of_simulated_noise(name: str, components: int, start: float) -> None:
    assert _learned(*_simulated(name, components), start) == pytest.approx(VARIANCE, rel=0.05)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_descent_finds_the_temperature_of_simulated_labels(temperature: float) -> None:
    logits = 3 * torch.randn(1, len(CITYSCAPES.names), 100, 100)
    labels = Categorical(logits=logits.movedim(1, -1) / temperature).sample()
    target = Target(labels, torch.rand(1, 100, 100) < 0.8)
    assert _learned(Semantic(CITYSCAPES, "softmax_exact"), logits, target, 0.0) == pytest.approx(temperature, rel=0.05)
