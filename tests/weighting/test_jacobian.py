import builtins
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from multitask.weighting import Equal, Jacobian, Weighting
from multitask.weighting.jacobian import AGGREGATORS
from tests.weighting.forms import FALSE, FORMS, everywhere

pytest.importorskip("torchjd")

NAMES = ("things", "vectors", "metres")


class Network(nn.Module):
    """A shared encoder and a decoder for each task."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.encoder = nn.Sequential(nn.Linear(5, 4), nn.Tanh())
        self.decoders = nn.ModuleDict({name: nn.Linear(4, 2) for name in names})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.encoder(x)
        return {name: decoder(features) for name, decoder in self.decoders.items()}


def _losses(network: Network) -> dict[str, Tensor]:
    """Each task wants something else of the same features."""
    x = torch.linspace(-1, 1, 40).reshape(8, 5)
    return {
        name: (prediction - 3 * torch.sin(torch.tensor(2.0 + 5 * place))).square().mean()
        for place, (name, prediction) in enumerate(network(x).items())
    }


def _backward(weighting: Weighting, network: Network, absent: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """Gradients of every parameter, by its name; a task that is absent has a loss of zero."""
    weighting.watch(network)
    losses = {name: loss * (name not in absent) for name, loss in _losses(network).items()}
    present = everywhere(losses) | dict.fromkeys(absent, FALSE)
    total = weighting(losses, present)
    weighting.backward(total, losses, present)
    return {name: parameter.grad for name, parameter in network.named_parameters()}


def _task_gradients(names: tuple[str, ...]) -> Tensor:
    """[K, P]: those of each loss by the encoder."""
    network = Network(names)
    shared = list(network.encoder.parameters())
    rows = [torch.autograd.grad(loss, shared, retain_graph=True) for loss in _losses(network).values()]
    return torch.stack([parameters_to_vector(row) for row in rows])


def _forms(names: tuple[str, ...]) -> dict[str, Any]:
    return {name: FORMS[name] for name in names}


def _shared(gradients: dict[str, Tensor]) -> Tensor:
    return parameters_to_vector([value for name, value in gradients.items() if name.startswith("encoder")])


@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_one_task_has_its_own_gradient(aggregator: str) -> None:
    weighting = Jacobian(_forms(NAMES[:1]), aggregator)
    found = _backward(weighting, Network(NAMES[:1]))
    for name, gradient in _backward(Equal(_forms(NAMES[:1])), Network(NAMES[:1])).items():
        assert torch.equal(found[name], gradient)
    assert weighting.weights() == {"things": 1.0}


@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_one_task_present_has_its_own_gradient(aggregator: str) -> None:
    weighting = Jacobian(_forms(NAMES), aggregator)
    found = _backward(weighting, Network(NAMES), absent=("things", "metres"))
    torch.testing.assert_close(_shared(found), _task_gradients(NAMES)[1])
    assert weighting.weights() == {"things": 0.0, "vectors": 1.0, "metres": 0.0}
    for name, gradient in found.items():
        assert bool(gradient.any()) == ("things" not in name and "metres" not in name)
    again = _backward(weighting, Network(NAMES))  # Nash-MTL's next problem starts from what it had before
    assert all(gradient.isfinite().all() for gradient in again.values())


@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_decoders_have_the_gradients_of_their_own_losses(aggregator: str) -> None:
    found = _backward(Jacobian(_forms(NAMES), aggregator), Network(NAMES))
    network = Network(NAMES)
    torch.stack(list(_losses(network).values())).sum().backward()
    for name, parameter in network.named_parameters():
        if name.startswith("decoders"):
            torch.testing.assert_close(found[name], parameter.grad)


@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_shared_gradient_is_the_weighted_sum_that_is_reported(aggregator: str) -> None:
    weighting = Jacobian(_forms(NAMES), aggregator)
    found = _shared(_backward(weighting, Network(NAMES)))
    weights = torch.stack(list(weighting.weights().values()))
    torch.testing.assert_close(found, weights @ _task_gradients(NAMES), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("aggregator", ["upgrad", "mgda"])
def test_conflicting_gradients_are_aggregated_without_conflict(aggregator: str) -> None:
    rows = _task_gradients(NAMES)
    assert (rows @ rows.T).min() < 0, "the losses of this test have to conflict"
    found = _shared(_backward(Jacobian(_forms(NAMES), aggregator), Network(NAMES)))
    assert (rows @ found).min() >= -1e-3 * rows.norm(dim=1).max() * found.norm()


def test_nash_mtl_solves_the_bargaining_problem() -> None:
    """The gain of each task is the inverse of its weight (Navon et al. 2022, claim 3.1), up to the norm of 1."""
    weighting, rows = Jacobian(_forms(NAMES), "nash_mtl"), _task_gradients(NAMES)
    network = Network(NAMES)
    for _ in range(20):  # each step's problem is solved from the last one's solution
        network.zero_grad()
        found = _shared(_backward(weighting, network))
    weights = torch.stack(list(weighting.weights().values()))
    gains = weights * (rows @ found)
    torch.testing.assert_close(gains, gains.mean().expand(3), rtol=0.05, atol=0)
    assert gains.min() > 0
    torch.testing.assert_close(found.norm(), torch.tensor(1.0), rtol=1e-3, atol=0)


@pytest.mark.parametrize(("aggregator", "factor"), [("upgrad", 1.0), ("pcgrad", 2.0), ("mgda", 1.0), ("cagrad", 1.4)])
def test_identical_gradients_keep_their_direction(aggregator: str, factor: float) -> None:
    network, weighting = Network(NAMES[:2]), Jacobian(_forms(NAMES[:2]), aggregator)
    network.decoders["vectors"].load_state_dict(network.decoders["things"].state_dict())
    weighting.watch(network)
    predictions = network(torch.linspace(-1, 1, 40).reshape(8, 5))
    losses = {name: value.square().mean() for name, value in predictions.items()}
    one = torch.autograd.grad(losses["things"], list(network.encoder.parameters()), retain_graph=True)
    weighting.backward(weighting(losses, everywhere(losses)), losses, everywhere(losses))
    found = parameters_to_vector([parameter.grad for parameter in network.encoder.parameters()])
    torch.testing.assert_close(found, factor * parameters_to_vector(one), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_absent_task_has_no_row_and_a_decoder_with_gradients_of_zero(aggregator: str) -> None:
    torch.manual_seed(0)
    weighting = Jacobian(_forms(NAMES), aggregator)
    found = _backward(weighting, Network(NAMES), absent=("vectors",))
    assert weighting.weights()["vectors"] == 0
    for name, gradient in found.items():
        assert gradient.isfinite().all()
        assert bool(gradient.any()) == ("vectors" not in name)
    rows = _task_gradients(NAMES)
    weights = torch.stack(list(weighting.weights().values()))
    torch.testing.assert_close(_shared(found), weights @ rows, rtol=1e-4, atol=1e-5)


def test_features_of_a_validation_are_not_kept() -> None:
    network, weighting = Network(tuple(FORMS)), Jacobian(FORMS, "mgda")
    weighting.watch(network)
    seen: list[weakref.ref[torch.Tensor]] = []
    network.encoder.register_forward_hook(lambda module, given, features: seen.append(weakref.ref(features)))
    network.eval()
    _losses(network)
    network.train()
    _losses(network)
    assert [features() is None for features in seen] == [True, False]


def test_nothing_present_leaves_gradients_of_zero() -> None:
    found = _backward(Jacobian(_forms(NAMES)), Network(NAMES), absent=NAMES)
    assert all(gradient is not None and not gradient.any() for gradient in found.values())


@pytest.mark.parametrize("aggregator", ["pcgrad", "nash_mtl"])
def test_state_restored_gives_the_same_next_weights(aggregator: str) -> None:
    def steps(weighting: Jacobian, network: Network, number: int) -> list[dict[str, float]]:
        weighting.watch(network)
        weights = []
        for _ in range(number):
            network.zero_grad()
            losses = _losses(network)
            weighting.backward(weighting(losses, everywhere(losses)), losses, everywhere(losses))
            for parameter in network.parameters():
                parameter.data.sub_(0.1 * parameter.grad)
            weights.append({name: weight.item() for name, weight in weighting.weights().items()})
        return weights

    forms = _forms(NAMES)
    network = Network(NAMES)
    torch.manual_seed(0)
    whole = steps(Jacobian(forms, aggregator), network, 4)
    stopped, resumed, network = Jacobian(forms, aggregator), Jacobian(forms, aggregator), Network(NAMES)
    torch.manual_seed(0)
    first = steps(stopped, network, 2)
    generator = torch.get_rng_state()
    other = Network(NAMES)
    other.load_state_dict(network.state_dict())
    torch.set_rng_state(generator)
    resumed.load_state_dict(stopped.state_dict())
    again = first + steps(resumed, other, 2)
    for step, expected in zip(again, whole, strict=True):
        assert step == pytest.approx(expected, rel=1e-6)


def test_unknown_aggregator_is_refused() -> None:
    with pytest.raises(ValueError, match=r"weighting\.aggregator: needed one of \['upgrad', .*found 'sum'"):
        Jacobian(FORMS, "sum")


@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_missing_library_is_named(aggregator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("torchjd"):
            raise ImportError(name)
        return found(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match=rf"weighting\.aggregator={aggregator}: .*pip install -e '\.\[jacobian\]'"):
        Jacobian(FORMS, aggregator)
