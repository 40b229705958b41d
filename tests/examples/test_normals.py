import ast
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import multitask
from multitask.data.labels import ID, SKY_ID, UNSEEN_IDS
from multitask.data.layout import Camera
from multitask.data.sample import Sample, Target
from multitask.data.synthetic import write_dataset
from multitask.data.transforms import Augmentation, resize
from multitask.engine import checkpoint
from multitask.engine.tracking import read_history
from normals import WITHIN, AngularError, Normals, VonMisesFisher, plane_normals
from tests.compose import ROOT, SMALL

CAMERA = Camera(baseline=0.2, fx=80.0, fy=70.0, u0=30.0, v0=10.0)
SIZE = (24, 60)


def _sample(disparity: np.ndarray, camera: Camera | None = CAMERA, **layers: np.ndarray) -> Sample:
    image = np.zeros((*disparity.shape, 3), dtype=np.uint8)
    return Sample("a_0_0", image, disparity=disparity.astype(np.float32), camera=camera, **layers)


def _plane(normal: np.ndarray, distance: float, camera: Camera = CAMERA, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Disparity of the plane ``normal . (x, y, z) = distance`` (m), by intersecting each pixel's ray with it."""
    v, u = np.indices(size)
    rays = np.stack([(u - camera.u0) / camera.fx, (v - camera.v0) / camera.fy, np.ones(size)])
    depth = distance / np.tensordot(normal, rays, 1)
    return camera.baseline * camera.fx / depth


def _corners(radius: int, size: tuple[int, int] = SIZE) -> Tensor:
    """Where half of the window around a pixel or more is outside the picture."""
    inside = [
        torch.tensor([min(place, radius) + 1 + min(side - 1 - place, radius) for place in range(side)]) for side in size
    ]
    return inside[0][:, None] * inside[1] <= (2 * radius + 1) ** 2 / 2


def _unit(rng: np.random.Generator) -> np.ndarray:
    """A normal of a plane that the whole picture sees in front of it."""
    normal = np.array([*rng.uniform(-0.6, 0.6, 2), 1.0])
    return np.asarray(normal / np.linalg.norm(normal))


def test_wall_straight_ahead_faces_the_camera() -> None:
    value, valid = Normals().encode(_sample(np.full(SIZE, 3.5)))
    assert torch.equal(valid, ~_corners(4))
    assert valid[4:-4].all()
    torch.testing.assert_close(value, torch.tensor([0.0, 0.0, -1.0]).view(3, 1, 1) * valid)


@pytest.mark.parametrize("pitch", [-0.05, 0.0, 0.1])
def test_road_faces_up_by_the_camera_s_pitch(pitch: float) -> None:
    # Height 1.2 m: (v - v0) / fy * cos(pitch) + sin(pitch) = 1.2 / Z, and d = baseline * fx / Z = 16 / Z.
    rows = np.arange(20, 44)[:, None]
    disparity = 16 / 1.2 * ((rows - 10) / 70 * math.cos(pitch) + math.sin(pitch)) * np.ones((1, 60))
    value, valid = Normals(2).encode(_sample(disparity, CAMERA.cropped(0, 20)))
    assert torch.equal(valid, ~_corners(2))
    expected = torch.tensor([0, -math.cos(pitch), -math.sin(pitch)]).view(3, 1, 1)
    torch.testing.assert_close(value, expected * valid, atol=1e-4, rtol=0)


@pytest.mark.parametrize("radius", [1, 2, 4])
@pytest.mark.parametrize("seed", range(5))
def test_planes_are_exact_with_and_without_holes(seed: int, radius: int) -> None:
    rng = np.random.default_rng(seed)
    normal = _unit(rng)
    disparity = torch.from_numpy(_plane(normal, rng.uniform(2, 20)))
    measured = torch.from_numpy(rng.random(SIZE) < 0.9)
    value, valid = plane_normals(disparity * measured, measured, CAMERA, radius)
    assert not (valid & ~measured).any()
    # Holes leave few windows less than half full, but some.
    inside = slice(radius, -radius), slice(radius, -radius)
    assert valid[inside].sum() > 0.98 * measured[inside].sum()
    expected = torch.from_numpy(-normal).view(3, 1, 1).expand_as(value)
    torch.testing.assert_close(value[:, valid], expected[:, valid], atol=1e-5, rtol=0)


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.1])
def test_normals_have_length_one_and_face_the_camera(noise: float) -> None:
    rng = np.random.default_rng(1)
    disparity = _plane(_unit(rng), 3.0) + rng.normal(0, noise, SIZE)
    value, valid = Normals().encode(_sample(disparity))
    assert valid.any()
    torch.testing.assert_close(value.norm(dim=0), valid.float())
    v, u = np.indices(SIZE)
    rays = np.stack([(u - CAMERA.u0) / CAMERA.fx, (v - CAMERA.v0) / CAMERA.fy, np.ones(SIZE)])
    assert ((value.numpy() * rays).sum(0)[valid.numpy()] < 0).all()


def test_noise_that_leaves_the_normal_in_doubt_does_not_count() -> None:
    rng = np.random.default_rng(2)
    noise = rng.normal(0, 1, SIZE)
    shares = [Normals().encode(_sample(4 + level * noise)).valid[4:-4].float().mean() for level in (0, 0.02, 0.2, 2)]
    assert shares[0] == shares[1] == 1
    assert shares[2] < 0.1
    assert shares[3] == 0


def test_edge_between_two_walls_does_not_count() -> None:
    disparity = np.full(SIZE, 3.0)
    disparity[:, 30:] = 6.0
    _, valid = Normals(2).encode(_sample(disparity))
    assert not valid[:, 28:32].any()
    assert valid[2:-2, :28].all()
    assert valid[2:-2, 32:].all()


@pytest.mark.parametrize("kind", ["class_ids", "instance_ids"])
def test_borders_of_labels_do_not_count(kind: str) -> None:
    layers = {"class_ids": np.full(SIZE, ID["car"], dtype=np.uint8)}
    layers["instance_ids"] = layers["class_ids"].astype(np.int32) * 1000
    layers[kind][:, 30:] += 1
    given = layers if kind == "instance_ids" else {kind: layers[kind]}
    _, valid = Normals(3).encode(_sample(np.full(SIZE, 3.0), **given))
    assert torch.equal(valid, torch.tensor([not 27 <= u < 33 for u in range(60)]) & ~_corners(3))


def test_sky_and_what_is_not_seen_or_measured_does_not_count() -> None:
    class_ids = np.full(SIZE, ID["road"], dtype=np.uint8)
    for column, label in enumerate((SKY_ID, *UNSEEN_IDS)):
        class_ids[:, 12 * column : 12 * column + 12] = label
    disparity = np.full(SIZE, 3.0)
    disparity[5] = np.nan
    disparity[6] = 0
    disparity[7] = np.inf
    value, valid = Normals(1).encode(_sample(disparity, class_ids=class_ids))
    assert value.isfinite().all()
    assert not valid[:, :48].any()
    assert not valid[5:8].any()
    assert valid[10:, 50:-1].all()


@pytest.mark.parametrize("missing", ["disparity", "camera"])
def test_frame_without_disparity_or_camera_has_nothing_valid(missing: str) -> None:
    camera = None if missing == "camera" else CAMERA
    sample = _sample(np.full(SIZE, 3.0), camera)
    if missing == "disparity":
        sample = Sample("a_0_0", sample.image, camera=camera)
    value, valid = Normals().encode(sample)
    assert (value.shape, valid.shape) == ((3, *SIZE), SIZE)
    assert not valid.any()
    assert missing in Normals.layers


def test_flipped_frame_has_the_mirrored_normals() -> None:
    rng = np.random.default_rng(3)
    disparity = _plane(_unit(rng), 3.0) + rng.normal(0, 0.02, SIZE)
    disparity[rng.random(SIZE) < 0.05] = np.nan
    disparity[:, 40:] += 2
    sample = _sample(disparity)
    value, valid = Normals().encode(sample)
    flipped, flipped_valid = Normals().encode(Augmentation(flip=1.0)(sample, rng))
    assert valid.float().mean() > 0.3
    assert torch.equal(flipped_valid.flip(1), valid)
    mirrored = flipped.flip(2) * torch.tensor([-1.0, 1.0, 1.0]).view(3, 1, 1)
    torch.testing.assert_close(mirrored, value, atol=1e-5, rtol=1e-5)


def test_scaled_and_cropped_frames_have_the_same_normals() -> None:
    normal = np.array([0.0, 0.8, 0.6])
    sample = _sample(_plane(normal, 2.0, size=(48, 120)))
    for scaled in (resize(sample, (24, 60)), Augmentation(crop=(24, 60))(sample, np.random.default_rng(0))):
        value, valid = Normals().encode(scaled)
        assert torch.equal(valid, ~_corners(4))
        torch.testing.assert_close(value[:, valid].mean(1), torch.tensor([0, -0.8, -0.6]), atol=0.01, rtol=0)


def test_radius_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"task\.normals\.radius: needed a whole number above zero, found 0"):
        Normals(0)


def test_loss_is_one_less_the_cosine_and_leaves_out_the_length() -> None:
    value = torch.tensor([0.0, 0.0, -1.0]).view(1, 3, 1, 1).expand(1, 3, 1, 4)
    vectors = [(0, 0, -7), (0, 5, 0), (0, 0, 0.2), (0, 3, -3)]
    prediction = torch.tensor(vectors).float().T.view(1, 3, 1, 4)
    expected = torch.tensor([0, 1, 2, 1 - 0.5**0.5]).view(1, 1, 4)
    torch.testing.assert_close(Normals().pixel_loss(prediction, value), expected)
    torch.testing.assert_close(Normals().pixel_loss(100 * prediction, value), expected)


def test_loss_of_a_prediction_of_zero_has_a_finite_gradient() -> None:
    prediction = torch.zeros(1, 3, 2, 2, requires_grad=True)
    target = Target(torch.ones(1, 3, 2, 2) / 3**0.5, torch.ones(1, 2, 2, dtype=torch.bool))
    Normals().loss(prediction, target)[0].backward()
    assert prediction.grad is not None
    assert prediction.grad.isfinite().all()


def test_ideal_has_no_loss_and_no_error() -> None:
    value, valid = Normals().encode(_sample(_plane(_unit(np.random.default_rng(4)), 4.0)))
    target = Target(value.unsqueeze(0), valid.unsqueeze(0))
    ideal = Normals().ideal(target.value)
    assert Normals().loss(ideal, target)[0].item() == pytest.approx(0, abs=1e-3)
    metric = Normals().metric()
    metric.update(ideal, target)
    assert metric.compute()["mean_error_deg"] == pytest.approx(0, abs=1e-4)


def _turned(degrees: float) -> list[float]:
    return [math.sin(math.radians(degrees)), 0.0, -math.cos(math.radians(degrees))]


def test_metric_hand_worked() -> None:
    value = torch.tensor([0.0, 0.0, -1.0]).view(1, 3, 1, 1).expand(2, 3, 1, 3)
    angles = torch.tensor([_turned(angle) for angle in (0, 11, 12, 25, 180, 90)])
    prediction = 3 * angles.view(2, 1, 3, 3).permute(0, 3, 1, 2)
    valid = torch.tensor([True, True, True, True, True, False]).view(2, 1, 3)
    whole = AngularError()
    whole.update(prediction, Target(value, valid))
    parts = AngularError()
    for frame in range(2):
        parts.update(prediction[frame : frame + 1], Target(value[:1], valid[frame : frame + 1]))
    for metric in (whole, parts):
        assert metric.compute() == pytest.approx(
            {"mean_error_deg": (11 + 12 + 25 + 180) / 5, "within_11.25": 0.4, "within_22.5": 0.6, "within_30": 0.8}
        )


def test_metric_without_a_valid_pixel_says_nothing() -> None:
    metric = AngularError()
    metric.update(torch.ones(1, 3, 2, 2), Target(torch.ones(1, 3, 2, 2), torch.zeros(1, 2, 2, dtype=torch.bool)))
    assert metric.compute() == {}


def test_figures_are_what_the_metric_computes() -> None:
    metric = Normals().metric()
    target = Target(torch.ones(1, 3, 1, 1), torch.ones(1, 1, 1, dtype=torch.bool))
    metric.update(target.value, target)
    assert [figure.key for figure in Normals.figures] == list(metric.compute())
    assert len(Normals.figures) == 1 + len(WITHIN)


def test_render_and_legend_say_the_directions() -> None:
    legend = dict(Normals().legend(256))
    assert legend == {
        "faces the camera": (128, 128, 255),
        "faces up": (128, 255, 128),
        "faces left": (0, 128, 128),
        "faces right": (255, 128, 128),
    }
    road = torch.tensor([0.0, -9.0, 0.0]).view(3, 1, 1).expand(3, 1, 2)
    picture = Normals().render(road, torch.tensor([[True, False]]))
    assert picture.dtype == np.uint8
    assert picture.tolist() == [[[128, 255, 128], [0, 0, 0]]]


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


def test_package_does_not_know_the_example() -> None:
    for path in Path(multitask.__file__).parent.rglob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text()))
        assert not any(isinstance(node, ast.Constant) and node.value == Normals.name for node in nodes), path


def _run(script: str, *arguments: object, cwd: Path, example: bool = True) -> subprocess.CompletedProcess[str]:
    """A command as the example's README has it, or without the example on Python's path."""
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    folder = str(ROOT / "examples/normals")
    path = [entry for entry in inherited if entry and entry != folder] + ([folder] if example else [])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    command = [sys.executable, str(ROOT / "scripts" / script), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All four tasks trained on synthetic frames by the command."""
    folder = tmp_path_factory.mktemp("normals")
    counts = {"train": 8, "val": 3, "test": 2}
    write_dataset(folder / "frames", counts, size=(64, 128), seed=0, workers=1)
    given = [*SMALL, *(f"data.num_{split}={count}" for split, count in counts.items()), f"data.root={folder}/frames"]
    given += ["data.image_size=[64,128]", "trainer.max_steps=8", "trainer.val_every=8", f"output_dir={folder}/run"]
    example = "--config-dir", ROOT / "examples/normals", "experiment=normals"
    result = _run("train.py", *example, *given, cwd=folder)
    assert result.returncode == 0, result.stderr
    assert "| normals " in result.stdout
    assert "sigma^2 of semantic, instance, depth, normals = (" in result.stdout
    return folder / "run"


@pytest.mark.slow
def test_command_trains_four_tasks_and_learns_the_fourth_sigma(run: Path) -> None:
    history = [entry for entry in read_history(run) if "loss/normals" in entry]
    assert len(history) == 8
    assert {key.split("/")[1] for key in history[-1] if key.startswith("log_variance/")} == {
        "semantic", "instance", "depth", "normals",
    }  # fmt: skip
    s = 0.0
    for step, entry in enumerate(history):
        kappa = math.exp(-s)
        slope = 1 - 2 * kappa / math.expm1(2 * kappa) - kappa * entry["loss/normals"]
        s -= 0.115 * (1 - step / 8) ** 0.9 * max(slope, -1)
        assert entry["log_variance/normals"] == pytest.approx(s, abs=1e-4)
    assert abs(s) > 0.01
    for entry in history:
        assert entry["weight/normals"] == pytest.approx(math.exp(-entry["log_variance/normals"]), rel=1e-4)
    figures = json.loads((run / "metrics.json").read_text())
    assert 0 < figures["normals/mean_error_deg"] < 180
    assert {f"position_prior/normals/within_{angle:g}" for angle in WITHIN} <= figures.keys()
    assert "semantic/iou_class" in figures


@pytest.mark.slow
def test_command_shows_the_fourth_task_in_its_panels(run: Path) -> None:
    with Image.open(next((run / "panels").glob("*.png"))) as panel:
        assert panel.width == 5 * (512 + 4) - 4


@pytest.mark.slow
def test_command_evaluates_the_fourth_task(run: Path, tmp_path: Path) -> None:
    given = f"checkpoint={run / 'checkpoints/last.pt'}", f"output_dir={tmp_path / 'out'}"
    result = _run("evaluate.py", *given, "split=test", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "within 11.25 degrees, %" in result.stdout
    figures = json.loads((tmp_path / "out/metrics.json").read_text())
    assert 0 < figures["normals/mean_error_deg"] < 180


@pytest.mark.slow
def test_checkpoint_without_the_example_says_what_is_missing(run: Path, tmp_path: Path) -> None:
    result = _run("evaluate.py", f"checkpoint={run / 'checkpoints/last.pt'}", cwd=tmp_path, example=False)
    assert result.returncode == 2
    error = "error: task.normals._target_: needed the dotted name of a class, found 'normals.Normals' (No module named"
    assert error in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_checkpoint_of_four_tasks_has_all_their_parameters(run: Path) -> None:
    state = checkpoint.load(run / "checkpoints/last.pt")
    output: Tensor = state["network"]["decoders.normals.output.weight"]
    assert output.shape[0] == Normals.channels
    assert state["tasks"] == ["semantic", "instance", "depth", "normals"]
    assert state["config"]["task"]["normals"] == {"_target_": "normals.Normals", "radius": 4}
