import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from multitask.weighting import (
    DynamicAverage,
    Equal,
    Famo,
    GeometricMean,
    ImpartialLoss,
    LiebelKoerner,
    RandomWeights,
    SoftOptimal,
    Uncertainty,
    Weighting,
)
from multitask.weighting.famo import BETAS
from tests.weighting.forms import FALSE, FORMS, TRUE, TWO, everywhere, gradients, leaves, listed, never

ALL: list[type[Weighting]] = [
    DynamicAverage,
    Equal,
    Famo,
    GeometricMean,
    ImpartialLoss,
    LiebelKoerner,
    RandomWeights,
    SoftOptimal,
    Uncertainty,
]
VALUES = {"things": 0.5, "vectors": 4.0, "metres": 1.0, "angles": 3.0}


def _softmax(*values: float) -> list[float]:
    powers = [math.exp(value) for value in values]
    return [power / sum(powers) for power in powers]


def _step(weighting: Weighting, again: Callable[[], dict[str, Tensor]] = never, **values: float) -> list[float]:
    """A step as the trainer does it; returns the weights that it used."""
    losses = leaves(**values)
    used = gradients(weighting, losses)
    weighting.after_step({name: loss.detach() for name, loss in losses.items()}, everywhere(losses), again)
    return used


def _constant(**values: float) -> Callable[[], dict[str, Tensor]]:
    return lambda: {name: torch.tensor(value) for name, value in values.items()}


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_uw_so_weights_hand_worked(temperature: float) -> None:
    weighting = SoftOptimal(TWO, temperature=temperature)
    expected = _softmax(1 / 0.5 / temperature, 1 / 4 / temperature)
    losses = leaves(things=0.5, vectors=4.0)
    assert weighting(losses, everywhere(losses)).item() == pytest.approx(expected[0] * 0.5 + expected[1] * 4)
    assert gradients(weighting, losses) == pytest.approx(expected)
    assert listed(weighting) == pytest.approx(expected)


def test_uw_so_of_a_perfect_task_gives_it_all() -> None:
    assert gradients(SoftOptimal(TWO), leaves(things=0.0, vectors=4.0)) == [1, 0]


def test_gls_is_the_geometric_mean_with_its_gradient() -> None:
    weighting = GeometricMean(FORMS)
    losses, same = leaves(**VALUES), leaves(**VALUES)
    mean = torch.stack(list(same.values())).prod() ** (1 / 4)
    expected = [gradient.item() for gradient in torch.autograd.grad(mean, list(same.values()))]
    assert weighting(losses, everywhere(losses)).item() == pytest.approx((0.5 * 4 * 1 * 3) ** (1 / 4))
    assert gradients(weighting, losses) == pytest.approx(expected)
    assert listed(weighting) == pytest.approx(expected)


@pytest.mark.parametrize("factor", [0.01, 100.0])
def test_gls_does_not_mind_the_unit_of_a_loss(factor: float) -> None:
    # The gradient of each task's logarithm has the same part in the total's, whatever the units.
    weighting = GeometricMean(FORMS)
    first = gradients(weighting, leaves(**VALUES))
    second = gradients(weighting, leaves(**VALUES | {"vectors": VALUES["vectors"] * factor}))
    parts = [weight * value for weight, value in zip(first, VALUES.values(), strict=True)]
    changed = [value * (factor if name == "vectors" else 1) for name, value in VALUES.items()]
    others = [weight * value for weight, value in zip(second, changed, strict=True)]
    assert [part / parts[0] for part in parts] == pytest.approx([1] * 4, rel=1e-5)
    assert [part / others[0] for part in others] == pytest.approx([1] * 4, rel=1e-5)


def test_gls_normalised_has_the_wanted_sum_of_gradient_weights() -> None:
    plain = gradients(GeometricMean(FORMS), leaves(**VALUES))
    weighting = GeometricMean(FORMS, sum=3.0)
    assert gradients(weighting, leaves(**VALUES)) == pytest.approx([3 * weight / sum(plain) for weight in plain])
    assert sum(listed(weighting)) == pytest.approx(3)


def test_dwa_weights_hand_worked() -> None:
    weighting = DynamicAverage(TWO, temperature=2.0, period=2)
    means = []
    for period in range(4):
        for step in range(2):
            used = _step(weighting, things=1.0 + period + step, vectors=8.0 / (1 + period) + step)
            if period < 2:
                expected = [1.0, 1.0]
            else:
                (older, newer) = means[-2], means[-1]
                ratios = [new / old / 2 for new, old in zip(newer, older, strict=True)]
                expected = [2 * weight for weight in _softmax(*ratios)]
            assert used == pytest.approx(expected), (period, step)
        means.append([1.5 + period, 8 / (1 + period) + 0.5])
    assert listed(weighting)[0] > 1 > listed(weighting)[1]


def test_dwa_averages_over_the_steps_in_which_a_task_was_present() -> None:
    weighting = DynamicAverage(TWO, period=2)
    for things, present in ((6.0, TRUE), (0.0, FALSE), (3.0, TRUE), (3.0, TRUE)):
        weighting.after_step(
            {"things": torch.tensor(things), "vectors": torch.tensor(1.0)}, {"things": present, "vectors": TRUE}, never
        )
    assert (weighting.older.tolist(), weighting.newer.tolist()) == ([6, 1], [3, 1])


def test_rlw_draws_once_a_step_from_the_global_generator() -> None:
    weighting = RandomWeights(FORMS)
    torch.manual_seed(7)
    expected = [_softmax(*torch.randn(4).tolist()) for _ in range(2)]
    torch.manual_seed(7)
    assert gradients(weighting, leaves(**VALUES)) == pytest.approx(expected[0])
    assert _step(weighting, **VALUES) == pytest.approx(expected[0])
    assert listed(weighting) == pytest.approx(expected[0])
    assert gradients(weighting, leaves(**VALUES)) == pytest.approx(expected[1])


def test_rlw_does_not_draw_before_the_first_step() -> None:
    before = torch.get_rng_state()
    RandomWeights(FORMS).weights()
    assert torch.equal(torch.get_rng_state(), before)


def test_famo_first_weights_are_inverse_losses() -> None:
    # xi = 0: z is the same for all.
    weights = gradients(Famo(FORMS), leaves(**VALUES))
    inverse = [1 / value for value in VALUES.values()]
    assert weights == pytest.approx([value / sum(inverse) for value in inverse])


def test_famo_gradient_is_that_of_the_authors_total() -> None:
    weighting = Famo(FORMS)
    weighting.xi.copy_(torch.tensor([0.5, -1.0, 0.0, 2.0]))
    losses, same = leaves(**VALUES), leaves(**VALUES)
    stacked, z = torch.stack(list(same.values())), torch.softmax(weighting.xi, 0)
    total = (z * stacked.log()).sum() / (z / stacked).sum().detach()
    expected = [gradient.item() for gradient in torch.autograd.grad(total, list(same.values()))]
    assert gradients(weighting, losses) == pytest.approx(expected)
    assert sum(listed(weighting)) == pytest.approx(1)


def test_famo_moves_xi_as_adam_does() -> None:
    weighting = Famo(FORMS, lr=0.1, gamma=0.03)
    xi = torch.zeros(4, requires_grad=True)
    optimizer = torch.optim.Adam([xi], lr=0.1, weight_decay=0.03, betas=BETAS)
    for number in range(5):
        before = {name: torch.tensor(value + number) for name, value in VALUES.items()}
        after = {name: value * (0.9 - 0.1 * place) for place, (name, value) in enumerate(before.items())}
        fall = torch.stack(list(before.values())).log() - torch.stack(list(after.values())).log()
        optimizer.zero_grad()
        xi.grad = torch.autograd.grad(torch.softmax(xi, 0), xi, grad_outputs=fall)[0]
        optimizer.step()
        weighting.after_step(before, everywhere(before), lambda after=after: after)
        torch.testing.assert_close(weighting.xi, xi.detach(), rtol=1e-5, atol=1e-6)


def test_famo_gives_more_weight_to_the_task_that_falls_less() -> None:
    weighting = Famo(TWO)
    for _ in range(20):
        _step(weighting, _constant(things=0.9, vectors=0.5), things=1.0, vectors=1.0)
    assert listed(weighting)[0] > listed(weighting)[1]


def test_famo_leaves_an_absent_task_alone() -> None:
    weighting = Famo(TWO)
    _step(weighting, _constant(things=0.9, vectors=0.5), things=1.0, vectors=1.0)
    before = weighting.xi.clone()
    losses = {"things": torch.tensor(0.0), "vectors": torch.tensor(1.0)}
    weighting.after_step(losses, {"things": FALSE, "vectors": TRUE}, _constant(things=0.0, vectors=0.5))
    assert weighting.xi[0] == before[0]
    assert weighting.steps.tolist() == [1, 2]


def test_famo_s_numbers_are_no_optimiser_s() -> None:
    assert list(Famo(TWO).parameters()) == []


def _run(weighting: Weighting, steps: range) -> list[list[float]]:
    """The weights that each of these steps uses; the losses are a function of the step."""
    used = []
    for step in steps:
        values = {name: value * (1 + math.sin(place + step) / 2) for place, (name, value) in enumerate(VALUES.items())}
        again = {name: torch.tensor(value * (0.9 - place / 20)) for place, (name, value) in enumerate(values.items())}
        losses = leaves(**values)
        weighting.zero_grad()
        total = weighting(losses, everywhere(losses))
        total.backward()
        used.append([loss.grad.item() for loss in losses.values()])
        for parameter in weighting.parameters():
            parameter.data.sub_(0.1 * parameter.grad)
        weighting.after_step(
            {name: loss.detach() for name, loss in losses.items()}, everywhere(losses), lambda a=again: a
        )
    return used


def _make(kind: type[Weighting]) -> Weighting:
    return DynamicAverage(FORMS, period=3) if kind is DynamicAverage else kind(FORMS)


@pytest.mark.parametrize("stop", [1, 5, 8])
@pytest.mark.parametrize("kind", ALL)
def test_state_restored_gives_the_same_next_weights(kind: type[Weighting], stop: int) -> None:
    torch.manual_seed(0)
    whole = _run(_make(kind), range(12))
    torch.manual_seed(0)
    stopped, resumed = _make(kind), _make(kind)
    first = _run(stopped, range(stop))
    state, generator = stopped.state_dict(), torch.get_rng_state()
    torch.randn(3)
    resumed.load_state_dict(state)
    torch.set_rng_state(generator)
    assert first + _run(resumed, range(stop, 12)) == whole


STATE = {"things": 0.3, "vectors": 1.1, "metres": -0.4, "angles": 0.7}


def _moved(weighting: Weighting) -> Weighting:
    """The same with a state in which the tasks differ, as after some steps."""
    values = torch.tensor([STATE[name] for name in weighting.likelihoods])
    for name, value in {"newer": values.exp(), "older": values.square() + 0.5, "xi": values}.items():
        if hasattr(weighting, name):
            getattr(weighting, name).copy_(value)
    for name, parameter in weighting.named_parameters():
        parameter.data.fill_(STATE[name.rpartition(".")[2]])
    return weighting


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("absent", FORMS)
def test_absent_task_is_skipped_and_the_rest_is_weighed_alone(kind: type[Weighting], absent: str) -> None:
    losses = leaves(**VALUES | {absent: 0.0})
    present = everywhere(losses) | {absent: FALSE}
    total = _moved(kind(FORMS, sum=1.0))(losses, present)
    assert total.isfinite()
    total.backward()
    assert losses[absent].grad.item() == 0
    others = [losses[name].grad.item() for name in FORMS if name != absent]
    assert sum(others) == pytest.approx(1)
    if kind is not RandomWeights:
        alone = {name: likelihood for name, likelihood in FORMS.items() if name != absent}
        left = leaves(**{name: VALUES[name] for name in alone})
        assert others == pytest.approx(gradients(_moved(kind(alone, sum=1.0)), left))


@pytest.mark.parametrize("wanted", [None, 1.0])
@pytest.mark.parametrize("kind", ALL)
def test_nothing_present_is_zero_with_a_whole_graph(kind: type[Weighting], wanted: float | None) -> None:
    weighting = kind(FORMS, sum=wanted)
    losses = leaves(**dict.fromkeys(FORMS, 0.0))
    present = dict.fromkeys(FORMS, FALSE)
    total = weighting(losses, present)
    total.backward()
    assert total.item() == 0
    assert [loss.grad.item() for loss in losses.values()] == [0] * 4
    weighting.after_step(
        {name: loss.detach() for name, loss in losses.items()}, present, _constant(**dict.fromkeys(FORMS, 0.0))
    )
    assert all(value.isfinite().all() for value in weighting.state_dict().values())


@pytest.mark.parametrize("kind", [kind for kind in ALL if kind is not RandomWeights])
def test_order_of_the_tasks_does_not_matter(kind: type[Weighting]) -> None:
    turned = dict(reversed(FORMS.items()))
    first = dict(zip(FORMS, gradients(_moved(kind(FORMS)), leaves(**VALUES)), strict=True))
    losses = leaves(**{name: VALUES[name] for name in turned})
    assert dict(zip(turned, gradients(_moved(kind(turned)), losses), strict=True)) == pytest.approx(first)
    assert kind is Equal or len(set(first.values())) > 1


@pytest.mark.parametrize("kind", ALL)
def test_weights_equal_the_derivatives_of_the_total(kind: type[Weighting]) -> None:
    for wanted in (None, 2.0):
        weighting = kind(FORMS, sum=wanted)
        used = gradients(weighting, leaves(**VALUES))
        assert listed(weighting) == pytest.approx(used)
        assert wanted is None or sum(used) == pytest.approx(wanted)


@pytest.mark.parametrize("kind", [SoftOptimal, DynamicAverage])
@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_temperature_that_makes_no_sense_is_refused(kind: type[Weighting], temperature: float) -> None:
    with pytest.raises(ValueError, match=r"weighting\.temperature: needed a number above zero, found"):
        kind(TWO, temperature=temperature)


def test_dwa_period_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"weighting\.period: needed a whole number above zero, found 0"):
        DynamicAverage(TWO, period=0)


@pytest.mark.parametrize(("key", "value"), [("lr", 0.0), ("lr", -1.0), ("gamma", -0.1), ("gamma", float("nan"))])
def test_famo_numbers_that_make_no_sense_are_refused(key: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"weighting\.{key}: needed a number"):
        Famo(TWO, **{key: value})


def test_unit_of_the_losses_turns_uw_so_s_temperature() -> None:
    # Losses twice as large at half the temperature weigh the same.
    first = gradients(SoftOptimal(FORMS, temperature=2.0), leaves(**VALUES))
    doubled = leaves(**{name: 2 * value for name, value in VALUES.items()})
    assert gradients(SoftOptimal(FORMS, temperature=1.0), doubled) == pytest.approx(first)
