import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from multitask.likelihoods import CLASSIFICATION, REGRESSION
from multitask.weighting import Equal, Fixed, ImpartialLoss, LiebelKoerner, Uncertainty, Weighting
from tests.weighting.forms import EXACT, FALSE, FORMS, TRUE, TWO, everywhere, gradients, leaves, listed


def _set(weighting: Uncertainty, **values: float) -> None:
    with torch.no_grad():
        for name, value in values.items():
            weighting.log_variances()[name].fill_(value)


def _minimise(weighting: Weighting, losses: Callable[[], dict[str, Tensor]], steps: int, lr: float) -> Iterator[float]:
    """Gradient descent on the log-variances as the trainer does it; yields the total of each step."""
    optimizer = torch.optim.SGD(weighting.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        now = losses()
        total = weighting(now, everywhere(now))
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
    assert weighting(losses, everywhere(losses)).item() == pytest.approx(expected)


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
        tempered = weighting.temper({"things": logits}, {"things": TRUE})
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
        weighting(losses, everywhere(losses)).backward()
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
    total = weighting(losses, everywhere(losses)).item()
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
    weighting(losses, everywhere(losses)).backward()
    for name, weight in weighting.weights().items():
        torch.testing.assert_close(weight, losses[name].grad)
        assert not weight.requires_grad


@pytest.mark.parametrize("s", [-1.0, 0.0, 2.0])
def test_exact_softmax_weight_scales_the_gradient_of_the_logits(s: float) -> None:
    weighting = Uncertainty(EXACT, initial_log_variance=s)
    logits, truth = torch.randn(7, 4, requires_grad=True), torch.randint(4, (7,))
    tempered = weighting.temper({"things": logits}, {"things": TRUE})["things"]
    losses = {"things": functional.cross_entropy(tempered, truth)}
    weighting(losses, everywhere(losses)).backward()
    step = (tempered.softmax(1) - functional.one_hot(truth, 4)) / 7
    torch.testing.assert_close(logits.grad, weighting.weights()["things"] * step)


def test_temper_by_weightings_without_temperature_changes_nothing() -> None:
    logits, present = {"things": torch.randn(2, 3)}, {"things": TRUE}
    assert torch.equal(Equal(EXACT).temper(logits, present)["things"], logits["things"])
    assert torch.equal(
        Uncertainty({"things": FORMS["things"]}, 2.0).temper(logits, present)["things"], logits["things"]
    )


def test_fixed_total_hand_worked() -> None:
    weighting = Fixed({"a": FORMS["things"], "b": FORMS["vectors"]}, {"a": 0.75, "b": 0.25, "c": None})
    losses = {"a": torch.tensor(2.0), "b": torch.tensor(10.0)}
    assert weighting(losses, everywhere(losses)).item() == pytest.approx(4.0)
    assert {name: weight.item() for name, weight in weighting.weights().items()} == {"a": 0.75, "b": 0.25}
    assert not weighting.log_variances()
    assert not weighting.variances()
    assert not list(weighting.parameters())


@pytest.mark.parametrize("number", [1, 2, 3])
def test_equal_weighs_each_of_k_tasks_by_its_share(number: int) -> None:
    likelihoods = {f"task{i}": FORMS["vectors"] for i in range(number)}
    weighting = Equal(likelihoods)
    losses = {name: torch.tensor(6.0) for name in likelihoods}
    assert weighting(losses, everywhere(losses)).item() == pytest.approx(6.0)
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
    tempered = weighting.temper({"things": logits}, {"things": TRUE})["things"]
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


@pytest.mark.parametrize("make", [Uncertainty, Equal, LiebelKoerner, ImpartialLoss])
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
            total = weighting(losses, everywhere(losses), share=1 / num_parts)
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
    weighting(losses, everywhere(losses)).backward()
    assert all(s.grad < -1000 for s in weighting.log_variances().values())
    weighting.bound_gradients()
    for name, s in weighting.log_variances().items():
        assert s.grad.item() == -FORMS[name].penalty


@pytest.mark.parametrize("name", ["laplace", "gaussian"])
def test_bound_gradients_of_a_vector_is_the_sum_of_its_penalties(name: str) -> None:
    likelihood = REGRESSION[name].of_vector(2)
    weighting = Uncertainty({"vectors": likelihood}, initial_log_variance=-10.0)
    losses = {"vectors": torch.tensor(3.0)}
    weighting(losses, everywhere(losses)).backward()
    weighting.bound_gradients()
    assert weighting.log_variances()["vectors"].grad.item() == -2 * likelihood.penalty


def test_bound_gradients_leaves_the_way_down_alone() -> None:
    weighting = Uncertainty(FORMS, initial_log_variance=20.0)
    losses = {name: torch.tensor(3.0) for name in FORMS}
    weighting(losses, everywhere(losses)).backward()
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
    weighting(losses, everywhere(losses)).backward()
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


def test_liebel_koerner_total_and_gradients_hand_worked() -> None:
    weighting = LiebelKoerner(TWO)
    with torch.no_grad():
        weighting.s["things"].fill_(math.log(2))
        weighting.s["vectors"].fill_(math.log(4))
    losses = leaves(things=0.6, vectors=8.0)
    total = weighting(losses, everywhere(losses))
    assert total.item() == pytest.approx(0.6 / 2 + math.log(3) + 8 / (2 * 4) + math.log(5))
    total.backward()
    assert [losses[name].grad.item() for name in TWO] == pytest.approx([1 / 2, 1 / 8])
    assert listed(weighting) == pytest.approx([1 / 2, 1 / 8])
    # The derivative of log(1 + exp(s)) is sigma^2 / (1 + sigma^2).
    slopes = [weighting.s[name].grad.item() for name in TWO]
    assert slopes == pytest.approx([2 / 3 - 0.6 / 2, 4 / 5 - 8 / 8])
    assert {name: value.item() for name, value in weighting.variances().items()} == pytest.approx(
        {"things": 2, "vectors": 4}
    )


def test_imtl_l_total_and_gradients_hand_worked() -> None:
    weighting = ImpartialLoss(TWO)
    with torch.no_grad():
        weighting.s["things"].fill_(math.log(2))
        weighting.s["vectors"].fill_(math.log(0.25))
    losses = leaves(things=0.6, vectors=8.0)
    total = weighting(losses, everywhere(losses))
    assert total.item() == pytest.approx(2 * 0.6 - math.log(2) + 8 / 4 + math.log(4))
    total.backward()
    assert [losses[name].grad.item() for name in TWO] == pytest.approx([2, 0.25])
    assert [weighting.s[name].grad.item() for name in TWO] == pytest.approx([2 * 0.6 - 1, 8 / 4 - 1])
    assert listed(weighting) == pytest.approx([2, 0.25])
    assert not weighting.log_variances()


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_imtl_l_descends_to_weighted_losses_of_one(scale: float) -> None:
    weighting = ImpartialLoss(TWO)
    losses = {"things": torch.tensor(0.3 * scale), "vectors": torch.tensor(4.0 * scale)}
    for _ in _minimise(weighting, lambda: losses, steps=300, lr=0.3):
        pass
    weighted = [weight * loss.item() for weight, loss in zip(listed(weighting), losses.values(), strict=True)]
    assert weighted == pytest.approx([1, 1], rel=1e-2)


@pytest.mark.parametrize("loss", [0.1, 0.5])
def test_liebel_koerner_descends_to_the_optimum_of_a_constant_loss(loss: float) -> None:
    # With v = sigma^2 the derivative of L / v + log(1 + v) is zero where v^2 = L (1 + v).
    weighting = LiebelKoerner({"things": FORMS["things"]})
    for _ in _minimise(weighting, lambda: {"things": torch.tensor(loss)}, steps=300, lr=0.5):
        pass
    expected = (loss + math.sqrt(loss**2 + 4 * loss)) / 2
    assert math.exp(weighting.s["things"].item()) == pytest.approx(expected, rel=1e-2)


def test_liebel_koerner_penalises_each_component_of_a_vector() -> None:
    # At s = log 4 the loss weighs 1/8, and each penalty is log 5 with the derivative 4/5.
    for name, penalties in (("paper", 1), ("gaussian", 3)):
        weighting = LiebelKoerner({"vectors": REGRESSION[name].of_vector(3)})
        weighting.s["vectors"].data.fill_(math.log(4))
        losses = leaves(vectors=8.0)
        total = weighting(losses, everywhere(losses), share=0.5)
        assert total.item() == pytest.approx(8 / 8 + 0.5 * penalties * math.log(5))
        total.backward()
        assert weighting.s["vectors"].grad.item() == pytest.approx(0.5 * penalties * 4 / 5 - 1)
        weighting.s["vectors"].grad.fill_(-50)
        weighting.bound_gradients()
        assert weighting.s["vectors"].grad.item() == -penalties


@pytest.mark.parametrize(("make", "bounded"), [(LiebelKoerner, -1.0), (ImpartialLoss, 1.0)])
def test_bound_gradients_limits_the_steep_side(make: type[Weighting], bounded: float) -> None:
    weighting = make(FORMS)
    losses = {name: torch.tensor(300.0) for name in FORMS}
    weighting(losses, everywhere(losses)).backward()
    assert all(abs(s.grad) > 100 for s in weighting.parameters())
    weighting.bound_gradients()
    assert [s.grad.item() for s in weighting.parameters()] == [bounded] * len(FORMS)


@pytest.mark.parametrize("make", [LiebelKoerner, ImpartialLoss])
def test_learned_state_gives_the_same_next_weights(make: type[Weighting]) -> None:
    weighting, other = make(TWO), make(TWO)
    losses = {"things": torch.tensor(0.6), "vectors": torch.tensor(8.0)}
    for _ in _minimise(weighting, lambda: losses, steps=3, lr=0.1):
        pass
    other.load_state_dict(weighting.state_dict())
    assert listed(other) == listed(weighting) != listed(make(TWO))


@pytest.mark.parametrize("make", [LiebelKoerner, ImpartialLoss])
def test_learned_skips_an_absent_task_with_all_its_terms(make: type[Weighting]) -> None:
    weighting = make(TWO)
    losses = leaves(things=0.0, vectors=8.0)
    present = {"things": FALSE, "vectors": TRUE}
    total = weighting(losses, present)
    alone = make({"vectors": FORMS["vectors"]})
    assert total.item() == pytest.approx(alone({"vectors": losses["vectors"]}, {"vectors": TRUE}).item())
    total.backward()
    assert losses["things"].grad.item() == 0
    assert weighting.s["things"].grad.item() == 0
    assert weighting.s["vectors"].grad.item() != 0


@pytest.mark.parametrize("wanted", [1.0, 2.5])
@pytest.mark.parametrize("make", [Uncertainty, LiebelKoerner, ImpartialLoss])
def test_sum_scales_the_network_s_gradients_and_not_those_of_s(make: type[Weighting], wanted: float) -> None:
    plain, scaled = make(FORMS), make(FORMS, sum=wanted)
    values = {"things": 0.3, "vectors": -1.0, "metres": 2.0, "angles": 0.1}
    results = []
    for weighting in (plain, scaled):
        with torch.no_grad():
            for name, value in values.items():
                weighting.s[name].fill_(value)
        losses = leaves(things=0.6, vectors=8.0, metres=1.0, angles=3.0)
        total = weighting(losses, everywhere(losses))
        total.backward()
        slopes = [s.grad.item() for s in weighting.parameters()]
        results.append((total.item(), slopes, [loss.grad.item() for loss in losses.values()]))
    (total, slopes, weights), (scaled_total, scaled_slopes, scaled_weights) = results
    assert (scaled_total, scaled_slopes) == (pytest.approx(total), pytest.approx(slopes))
    assert scaled_weights == pytest.approx([weight * wanted / sum(weights) for weight in weights])
    assert listed(scaled) == pytest.approx(scaled_weights)


def test_sum_counts_the_tasks_that_are_present() -> None:
    weighting = Uncertainty(FORMS, sum=1.0)
    present = everywhere(FORMS) | {"metres": FALSE}
    losses = leaves(things=0.6, vectors=8.0, metres=0.0, angles=3.0)
    # At s = 0 the weights are 1, 1/2, 1 and 1/2.
    assert gradients(weighting, losses, present) == pytest.approx([1 / 2, 1 / 4, 0, 1 / 4])


def test_sum_with_nothing_present_is_zero() -> None:
    for weighting in (Uncertainty(TWO, sum=1.0), Equal(TWO, sum=1.0), Fixed(TWO, {"things": 0, "vectors": 1}, sum=1.0)):
        assert gradients(weighting, leaves(things=0.0, vectors=0.0), {"things": FALSE, "vectors": FALSE}) == [0, 0]


def test_sum_without_a_weight_above_zero_is_zero() -> None:
    weighting = Fixed(TWO, {"things": 0, "vectors": 1}, sum=1.0)
    assert gradients(weighting, leaves(things=2.0, vectors=0.0), {"things": TRUE, "vectors": FALSE}) == [0, 0]


def test_sum_rescales_fixed_weights_and_their_total() -> None:
    weighting = Fixed(TWO, {"things": 0.75, "vectors": 0.25}, sum=2.0)
    losses = leaves(things=2.0, vectors=10.0)
    assert weighting(losses, everywhere(losses)).item() == pytest.approx(1.5 * 2 + 0.5 * 10)
    assert listed(weighting) == pytest.approx([1.5, 0.5])
    assert gradients(weighting, losses) == pytest.approx([1.5, 0.5])


def test_sum_leaves_the_temperature_of_the_exact_softmax_alone() -> None:
    likelihoods = {**EXACT, "vectors": FORMS["vectors"]}
    truth, first = torch.randint(4, (7,)), torch.randn(7, 4)
    results = []
    for weighting in (Uncertainty(likelihoods, -0.5), Uncertainty(likelihoods, -0.5, sum=0.7)):
        logits, loss = first.clone().requires_grad_(), torch.tensor(3.0, requires_grad=True)
        present = everywhere(likelihoods)
        tempered = weighting.temper({"things": logits, "vectors": torch.zeros(1)}, present)["things"]
        losses = {"things": functional.cross_entropy(tempered, truth), "vectors": loss}
        weighting(losses, present).backward()
        results.append((logits.grad, loss.grad, *(s.grad for s in weighting.parameters())))
    (plain_logits, plain_loss, *slopes), (scaled_logits, scaled_loss, *scaled_slopes) = results
    torch.testing.assert_close(scaled_slopes, slopes)
    factor = 0.7 / (math.exp(0.5) * 1.5)
    torch.testing.assert_close(scaled_logits, plain_logits * factor)
    torch.testing.assert_close(scaled_loss, plain_loss * factor)


@pytest.mark.parametrize("wanted", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("make", [Uncertainty, Equal, LiebelKoerner])
def test_sum_that_makes_no_sense_is_refused(make: type[Weighting], wanted: float) -> None:
    with pytest.raises(ValueError, match=r"weighting\.sum: needed null or a number above zero, found"):
        make(FORMS, sum=wanted)
