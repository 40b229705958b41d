import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from multitask.likelihoods import CLASSIFICATION, REGRESSION, Likelihood
from multitask.weighting import Equal, Fixed, Uncertainty, Weighting

# Names that the package has never heard of: a weighting knows only likelihoods.
FORMS: dict[str, Likelihood] = {
    "things": CLASSIFICATION["paper"],
    "vectors": REGRESSION["paper"],
    "metres": REGRESSION["laplace"],
    "angles": REGRESSION["gaussian"],
}
EXACT = {"things": CLASSIFICATION["softmax_exact"]}
TRUE = torch.tensor(True)
FALSE = torch.tensor(False)


def _present(names: dict[str, Tensor]) -> dict[str, Tensor]:
    return dict.fromkeys(names, TRUE)


def _set(weighting: Uncertainty, **values: float) -> None:
    with torch.no_grad():
        for name, value in values.items():
            weighting.log_variances()[name].fill_(value)


def _minimise(
    weighting: Uncertainty, losses: Callable[[], dict[str, Tensor]], steps: int, lr: float
) -> Iterator[float]:
    """Gradient descent on the log-variances as the trainer does it; yields the total of each step."""
    optimizer = torch.optim.SGD(weighting.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        now = losses()
        total = weighting(now, _present(now))
        total.backward()
        weighting.bound_gradients()
        optimizer.step()
        yield total.item()


def test_uncertainty_total_hand_worked() -> None:
    weighting = Uncertainty({"things": CLASSIFICATION["paper"], "vectors": REGRESSION["paper"]})
    _set(weighting, things=math.log(2), vectors=math.log(4))
    losses = {"things": torch.tensor(0.6), "vectors": torch.tensor(8.0)}
    # Eq. 10: L1 / (2 sigma1^2) + L2 / sigma2^2 + log sigma1 + log sigma2.
    expected = 8 / (2 * 4) + 0.6 / 2 + math.log(2) + 0.5 * math.log(2)
    assert weighting(losses, _present(losses)).item() == pytest.approx(expected)


@pytest.mark.parametrize("loss", [0.02, 0.7, 40.0])
@pytest.mark.parametrize("name", FORMS)
def test_uncertainty_descends_to_the_optimum_of_a_constant_loss(name: str, loss: float) -> None:
    weighting = Uncertainty({name: FORMS[name]})
    totals = list(_minimise(weighting, lambda: {name: torch.tensor(loss)}, steps=120, lr=0.5))
    closed_form = {"things": math.log(2 * loss), "vectors": math.log(loss), "metres": math.log(loss)}
    expected = closed_form.get(name, math.log(loss))
    assert weighting.log_variances()[name].item() == pytest.approx(expected, abs=1e-3)
    assert FORMS[name].optimum(loss) == pytest.approx(expected)
    assert totals[-1] == pytest.approx(FORMS[name].penalty * (1 + expected), abs=1e-4)


def test_uncertainty_learns_every_task_at_once() -> None:
    values = {"things": 0.3, "vectors": 20.0, "metres": 2.0, "angles": 100.0}
    weighting = Uncertainty(FORMS, initial_log_variance=1.0)
    losses = {name: torch.tensor(value) for name, value in values.items()}
    for _ in _minimise(weighting, lambda: losses, steps=150, lr=0.5):
        pass
    for name, s in weighting.log_variances().items():
        assert s.item() == pytest.approx(FORMS[name].optimum(values[name]), abs=1e-3)


@pytest.mark.parametrize(("gap", "num_correct"), [(4.0, 80), (1.0, 90), (10.0, 60)])
def test_exact_softmax_finds_the_best_temperature(gap: float, num_correct: int) -> None:
    # Of two classes the first has `gap` more in its logit, and is right in `num_correct` of 100 pixels: the softmax is
    # calibrated where sigmoid(gap / T) is that fraction.
    logits = torch.tensor([gap, 0.0]).expand(100, 2)
    truth = (torch.arange(100) >= num_correct).long()
    weighting = Uncertainty(EXACT)

    def losses() -> dict[str, Tensor]:
        tempered = weighting.temper({"things": logits})
        return {"things": functional.cross_entropy(tempered["things"], truth)}

    for _ in _minimise(weighting, losses, steps=400, lr=1.0):
        pass
    fraction = num_correct / 100
    expected = math.log(gap / math.log(fraction / (1 - fraction)))
    assert weighting.log_variances()["things"].item() == pytest.approx(expected, abs=5e-3)


def test_uncertainty_recovers_the_noise_of_the_authors_toy() -> None:
    # y1 = 2x + 8 with noise of 10, y2 = 3x + 3 with noise of 1.
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2000, 1, generator=generator)
    truth = {"first": 2 * x + 8, "second": 3 * x + 3}
    noise = {"first": 10.0, "second": 1.0}
    y = {name: truth[name] + noise[name] * torch.randn(2000, 1, generator=generator) for name in truth}
    shared = nn.Sequential(nn.Linear(1, 16), nn.ReLU())
    heads = nn.ModuleDict({name: nn.Linear(16, 1) for name in truth})
    weighting = Uncertainty(dict.fromkeys(truth, REGRESSION["gaussian"]))
    optimizer = torch.optim.Adam([*shared.parameters(), *heads.parameters(), *weighting.parameters()], lr=0.03)
    for _ in range(600):
        features = shared(x)
        losses = {name: (head(features) - y[name]).square().mean() for name, head in heads.items()}
        optimizer.zero_grad()
        weighting(losses, _present(losses)).backward()
        weighting.bound_gradients()
        optimizer.step()
    learned = {name: math.exp(s.item() / 2) for name, s in weighting.log_variances().items()}
    assert learned == pytest.approx(noise, rel=0.1)
    assert weighting.variances()["first"].item() == pytest.approx(learned["first"] ** 2)


@pytest.mark.parametrize("name", FORMS)
def test_uncertainty_weight_does_not_collapse(name: str) -> None:
    weighting = Uncertainty({name: FORMS[name]}, initial_log_variance=8.0)
    before = weighting.weights()[name].item()
    for _ in _minimise(weighting, lambda: {name: torch.tensor(3.0)}, steps=200, lr=0.5):
        pass
    assert weighting.weights()[name].item() == pytest.approx(FORMS[name].penalty / 3, rel=1e-3)
    assert weighting.weights()[name].item() > 100 * before


def test_uncertainty_total_may_be_negative() -> None:
    weighting = Uncertainty(FORMS, initial_log_variance=-4.0)
    losses = {name: torch.tensor(0.01) for name in FORMS}
    total = weighting(losses, _present(losses)).item()
    weighted = math.exp(4) * 0.01 * (1 + 0.5 + 1 + 0.5)
    assert total == pytest.approx(weighted - 4 * (0.5 + 0.5 + 1 + 0.5), rel=1e-5)
    assert total < 0


@pytest.mark.parametrize(
    "weighting",
    [
        Uncertainty(FORMS, initial_log_variance=-0.8),
        Fixed(FORMS, {"things": 0.89, "vectors": 0.01, "metres": 0.0, "angles": 2.0}),
        Equal(FORMS),
    ],
    ids=lambda weighting: type(weighting).__name__,
)
def test_weights_equal_the_derivatives_of_the_total(weighting: Weighting) -> None:
    losses = {name: torch.tensor(float(i + 1), requires_grad=True) for i, name in enumerate(FORMS)}
    weighting(losses, _present(losses)).backward()
    for name, weight in weighting.weights().items():
        torch.testing.assert_close(weight, losses[name].grad)
        assert not weight.requires_grad


@pytest.mark.parametrize("s", [-1.0, 0.0, 2.0])
def test_exact_softmax_weight_scales_the_gradient_of_the_logits(s: float) -> None:
    weighting = Uncertainty(EXACT, initial_log_variance=s)
    logits, truth = torch.randn(7, 4, requires_grad=True), torch.randint(4, (7,))
    tempered = weighting.temper({"things": logits})["things"]
    losses = {"things": functional.cross_entropy(tempered, truth)}
    weighting(losses, _present(losses)).backward()
    step = (tempered.softmax(1) - functional.one_hot(truth, 4)) / 7
    torch.testing.assert_close(logits.grad, weighting.weights()["things"] * step)


def test_temper_by_weightings_without_temperature_changes_nothing() -> None:
    logits = {"things": torch.randn(2, 3)}
    assert torch.equal(Equal(EXACT).temper(logits)["things"], logits["things"])
    assert torch.equal(Uncertainty({"things": FORMS["things"]}, 2.0).temper(logits)["things"], logits["things"])


def test_fixed_total_hand_worked() -> None:
    weighting = Fixed({"a": FORMS["things"], "b": FORMS["vectors"]}, {"a": 0.75, "b": 0.25, "c": None})
    losses = {"a": torch.tensor(2.0), "b": torch.tensor(10.0)}
    assert weighting(losses, _present(losses)).item() == pytest.approx(4.0)
    assert {name: weight.item() for name, weight in weighting.weights().items()} == {"a": 0.75, "b": 0.25}
    assert not weighting.log_variances()
    assert not weighting.variances()
    assert not list(weighting.parameters())


@pytest.mark.parametrize("number", [1, 2, 3])
def test_equal_weighs_each_of_k_tasks_by_its_share(number: int) -> None:
    likelihoods = {f"task{i}": FORMS["vectors"] for i in range(number)}
    weighting = Equal(likelihoods)
    losses = {name: torch.tensor(6.0) for name in likelihoods}
    assert weighting(losses, _present(losses)).item() == pytest.approx(6.0)
    assert [weight.item() for weight in weighting.weights().values()] == pytest.approx([1 / number] * number)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a": 1.0}, r"weighting\.weights\.b: needed a weight, since tasks=\['a', 'b'\]; found none"),
        ({"a": 1.0, "b": None}, r"weighting\.weights\.b: needed a weight.*found none"),
        ({}, r"weighting\.weights\.a: needed a weight"),
        ({"a": 1.0, "b": 1.0, "c": 0.5}, r"weighting\.weights\.c=0\.5: the task is off"),
        ({"a": 1.0, "b": 1.0, "c": 0.0}, r"weighting\.weights\.c=0: the task is off"),
        ({"a": 1.0, "b": -0.1}, r"weighting\.weights\.b: .*>= 0, found -0\.1"),
        ({"a": float("nan"), "b": 1.0}, r"weighting\.weights\.a: .*found nan"),
        ({"a": float("inf"), "b": 1.0}, r"weighting\.weights\.a: .*found inf"),
        ({"a": 0.0, "b": 0.0}, r"weighting\.weights: needed one weight above zero"),
    ],
)
def test_fixed_refuses_weights_that_make_no_sense(weights: dict[str, float | None], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Fixed({"a": FORMS["things"], "b": FORMS["vectors"]}, weights)


def test_uncertainty_refuses_a_start_that_is_no_number() -> None:
    with pytest.raises(ValueError, match=r"weighting\.initial_log_variance: .*found nan"):
        Uncertainty(FORMS, initial_log_variance=float("nan"))


def _masked_mean(prediction: Tensor, valid: Tensor) -> Tensor:
    """As the trainer makes a mean loss, of a task whose truth is 5 everywhere."""
    return torch.where(valid, (prediction - 5).abs(), 0).sum() / valid.sum().clamp(min=1)


@pytest.mark.parametrize("absent", FORMS)
def test_uncertainty_skips_an_absent_task_with_all_its_terms(absent: str) -> None:
    weighting = Uncertainty(FORMS, initial_log_variance=0.5)
    outputs = {name: torch.randn(4, requires_grad=True) for name in FORMS}
    valid = {name: torch.full((4,), name != absent) for name in FORMS}
    losses = {name: _masked_mean(outputs[name], valid[name]) for name in FORMS}
    total = weighting(losses, {name: mask.any() for name, mask in valid.items()})
    others = {name: likelihood for name, likelihood in FORMS.items() if name != absent}
    expected = sum(likelihood.nll(losses[name], torch.tensor(0.5)).item() for name, likelihood in others.items())
    assert total.item() == pytest.approx(expected, rel=1e-6)
    total.backward()
    for name in FORMS:
        for gradient in (outputs[name].grad, weighting.log_variances()[name].grad):
            assert gradient is not None
            assert gradient.isfinite().all()
            assert bool(gradient.any()) == (name != absent)


def test_uncertainty_of_nothing_present_is_zero_with_a_whole_graph() -> None:
    weighting = Uncertainty(FORMS, initial_log_variance=-3.0)
    outputs = {name: torch.randn(4, requires_grad=True) for name in FORMS}
    losses = {name: _masked_mean(output, torch.zeros(4, dtype=torch.bool)) for name, output in outputs.items()}
    total = weighting(losses, dict.fromkeys(FORMS, FALSE))
    total.backward()
    assert total.item() == 0
    gradients = [output.grad for output in outputs.values()] + [s.grad for s in weighting.parameters()]
    assert all(gradient is not None and not gradient.any() for gradient in gradients)


def test_exact_softmax_absent_leaves_the_temperature_alone() -> None:
    weighting = Uncertainty(EXACT, initial_log_variance=0.5)
    logits = torch.randn(6, 3, requires_grad=True)
    tempered = weighting.temper({"things": logits})["things"]
    losses = {"things": functional.cross_entropy(tempered, torch.full((6,), 255), ignore_index=255, reduction="sum")}
    weighting(losses, {"things": FALSE}).backward()
    for gradient in (logits.grad, weighting.log_variances()["things"].grad):
        assert gradient is not None
        assert not gradient.any()


def test_fixed_absent_task_adds_nothing_with_a_whole_graph() -> None:
    weighting = Equal({"a": FORMS["things"], "b": FORMS["vectors"]})
    outputs = {name: torch.randn(4, requires_grad=True) for name in "ab"}
    losses = {
        "a": _masked_mean(outputs["a"], torch.zeros(4, dtype=torch.bool)),
        "b": _masked_mean(outputs["b"], torch.ones(4, dtype=torch.bool)),
    }
    total = weighting(losses, {"a": FALSE, "b": TRUE})
    total.backward()
    assert total.item() == pytest.approx(losses["b"].item() / 2)
    assert outputs["a"].grad is not None
    assert not outputs["a"].grad.any()


@pytest.mark.parametrize("make", [Uncertainty, Equal])
@pytest.mark.parametrize("pieces", [1, 2, 4])
def test_share_makes_micro_batches_add_up_to_the_batch(make: type[Weighting], pieces: int) -> None:
    # Valid pixels are spread unevenly: some micro-batches have none.
    valid = torch.tensor([1, 1, 0, 0, 0, 1, 0, 0], dtype=torch.bool)
    output = torch.randn(8)

    def gradients(num_parts: int) -> tuple[float, list[Tensor]]:
        weighting = make(FORMS)
        if isinstance(weighting, Uncertainty):
            _set(weighting, things=0.3, vectors=-1.0, metres=2.0, angles=0.1)
        leaf = output.clone().requires_grad_()
        value = 0.0
        for part, mask in zip(leaf.chunk(num_parts), valid.chunk(num_parts), strict=True):
            loss = torch.where(mask, (part - 5).abs(), 0).sum() / valid.sum()
            losses = dict.fromkeys(FORMS, loss)
            total = weighting(losses, _present(losses), share=1 / num_parts)
            total.backward()
            value += total.item()
        return value, [leaf.grad, *(s.grad for s in weighting.parameters())]

    value, parts = gradients(pieces)
    whole_value, whole = gradients(1)
    assert value == pytest.approx(whole_value, rel=1e-6)
    torch.testing.assert_close(parts, whole, rtol=1e-6, atol=1e-7)


def test_bound_gradients_limits_the_step_upwards() -> None:
    weighting = Uncertainty(FORMS, initial_log_variance=-10.0)
    losses = {name: torch.tensor(3.0) for name in FORMS}
    weighting(losses, _present(losses)).backward()
    assert all(s.grad < -1000 for s in weighting.log_variances().values())
    weighting.bound_gradients()
    for name, s in weighting.log_variances().items():
        assert s.grad.item() == -FORMS[name].penalty


def test_bound_gradients_leaves_the_way_down_alone() -> None:
    weighting = Uncertainty(FORMS, initial_log_variance=20.0)
    losses = {name: torch.tensor(3.0) for name in FORMS}
    weighting(losses, _present(losses)).backward()
    before = [s.grad.clone() for s in weighting.parameters()]
    weighting.bound_gradients()
    assert [s.grad for s in weighting.parameters()] == before
    slopes = {name: s.grad.item() for name, s in weighting.log_variances().items()}
    assert slopes == pytest.approx({name: likelihood.penalty for name, likelihood in FORMS.items()}, rel=1e-6)


@pytest.mark.parametrize("away", [-0.3, 0.0, 0.3])
def test_bound_gradients_near_the_optimum_changes_nothing(away: float) -> None:
    weighting = Uncertainty(FORMS)
    _set(weighting, **{name: likelihood.optimum(3.0) + away for name, likelihood in FORMS.items()})
    losses = {name: torch.tensor(3.0) for name in FORMS}
    weighting(losses, _present(losses)).backward()
    before = [s.grad.clone() for s in weighting.parameters()]
    weighting.bound_gradients()
    assert [s.grad for s in weighting.parameters()] == before
    assert all(abs(gradient) < 0.4 for gradient in before)


@pytest.mark.parametrize("start", [-12.0, -2.0, 0.0, 2.0, 5.0])
def test_bound_gradients_keeps_every_start_from_overshooting(start: float) -> None:
    weighting = Uncertainty({"vectors": REGRESSION["paper"]}, initial_log_variance=start)
    optimum = REGRESSION["paper"].optimum(8.0)
    path = [
        weighting.log_variances()["vectors"].item()
        for _ in _minimise(weighting, lambda: {"vectors": torch.tensor(8.0)}, steps=150, lr=0.5)
    ]
    assert min(start, optimum) - 0.01 <= min(path)
    assert max(path) <= max(start, optimum + 0.25)
    assert path[-1] == pytest.approx(optimum, abs=0.01)


def test_bound_gradients_bounds_the_temperature_as_the_approximation() -> None:
    weighting = Uncertainty(EXACT)
    weighting.log_variances()["things"].grad = torch.tensor(-7.0)
    weighting.bound_gradients()
    assert weighting.log_variances()["things"].grad.item() == -0.5


def test_bound_gradients_without_gradients_does_nothing() -> None:
    weighting = Uncertainty(FORMS)
    weighting.bound_gradients()
    Equal(FORMS).bound_gradients()
    assert all(s.grad is None for s in weighting.parameters())


def test_uncertainty_starts_every_task_where_told() -> None:
    weighting = Uncertainty(FORMS, initial_log_variance=-2)
    assert {name: s.item() for name, s in weighting.log_variances().items()} == dict.fromkeys(FORMS, -2.0)
    assert all(s.dtype == torch.float32 for s in weighting.parameters())


def test_uncertainty_keeps_the_order_of_the_tasks() -> None:
    weighting = Uncertainty(FORMS)
    assert list(weighting.log_variances()) == list(weighting.weights()) == list(weighting.variances()) == list(FORMS)


def test_uncertainty_state_dict_round_trip() -> None:
    weighting = Uncertainty(FORMS)
    _set(weighting, things=0.3, vectors=-1.0, metres=2.0, angles=0.1)
    other = Uncertainty(FORMS)
    other.load_state_dict(weighting.state_dict())
    assert {name: s.item() for name, s in other.log_variances().items()} == pytest.approx(
        {"things": 0.3, "vectors": -1.0, "metres": 2.0, "angles": 0.1}
    )


def test_uncertainty_state_dict_of_other_tasks_is_refused() -> None:
    with pytest.raises(RuntimeError, match="metres"):
        Uncertainty(FORMS).load_state_dict(Uncertainty({"things": FORMS["things"]}).state_dict())
