import math

import numpy as np
import pytest
import torch
from torch import Tensor

from multitask.data.layout import Camera
from multitask.data.sample import Sample, Target
from multitask.data.transforms import Augmentation, resize
from normals import WITHIN, AngularError, Normals, plane_normals
from tests.cityscapes import CITYSCAPES, ID, SKY_ID, UNSEEN_IDS

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
    value, valid = Normals(CITYSCAPES).encode(_sample(np.full(SIZE, 3.5)))
    assert torch.equal(valid, ~_corners(4))
    assert valid[4:-4].all()
    torch.testing.assert_close(value, torch.tensor([0.0, 0.0, -1.0]).view(3, 1, 1) * valid)


@pytest.mark.parametrize("pitch", [-0.05, 0.0, 0.1])
def test_road_faces_up_by_the_camera_s_pitch(pitch: float) -> None:
    # Height 1.2 m: (v - v0) / fy * cos(pitch) + sin(pitch) = 1.2 / Z, and d = baseline * fx / Z = 16 / Z.
    rows = np.arange(20, 44)[:, None]
    disparity = 16 / 1.2 * ((rows - 10) / 70 * math.cos(pitch) + math.sin(pitch)) * np.ones((1, 60))
    value, valid = Normals(CITYSCAPES, 2).encode(_sample(disparity, CAMERA.cropped(0, 20)))
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
    value, valid = Normals(CITYSCAPES).encode(_sample(disparity))
    assert valid.any()
    torch.testing.assert_close(value.norm(dim=0), valid.float())
    v, u = np.indices(SIZE)
    rays = np.stack([(u - CAMERA.u0) / CAMERA.fx, (v - CAMERA.v0) / CAMERA.fy, np.ones(SIZE)])
    assert ((value.numpy() * rays).sum(0)[valid.numpy()] < 0).all()


def test_noise_that_leaves_the_normal_in_doubt_does_not_count() -> None:
    rng = np.random.default_rng(2)
    noise = rng.normal(0, 1, SIZE)
    shares = [
        Normals(CITYSCAPES).encode(_sample(4 + level * noise)).valid[4:-4].float().mean() for level in (0, 0.02, 0.2, 2)
    ]
    assert shares[0] == shares[1] == 1
    assert shares[2] < 0.1
    assert shares[3] == 0


def test_edge_between_two_walls_does_not_count() -> None:
    disparity = np.full(SIZE, 3.0)
    disparity[:, 30:] = 6.0
    _, valid = Normals(CITYSCAPES, 2).encode(_sample(disparity))
    assert not valid[:, 28:32].any()
    assert valid[2:-2, :28].all()
    assert valid[2:-2, 32:].all()


@pytest.mark.parametrize("kind", ["class_ids", "instance_ids"])
def test_borders_of_labels_do_not_count(kind: str) -> None:
    layers = {"class_ids": np.full(SIZE, ID["car"], dtype=np.uint8)}
    layers["instance_ids"] = layers["class_ids"].astype(np.int32) * 1000
    layers[kind][:, 30:] += 1
    given = layers if kind == "instance_ids" else {kind: layers[kind]}
    _, valid = Normals(CITYSCAPES, 3).encode(_sample(np.full(SIZE, 3.0), **given))
    assert torch.equal(valid, torch.tensor([not 27 <= u < 33 for u in range(60)]) & ~_corners(3))


def test_sky_and_what_is_not_seen_or_measured_does_not_count() -> None:
    class_ids = np.full(SIZE, ID["road"], dtype=np.uint8)
    for column, label in enumerate((SKY_ID, *UNSEEN_IDS)):
        class_ids[:, 12 * column : 12 * column + 12] = label
    disparity = np.full(SIZE, 3.0)
    disparity[5] = np.nan
    disparity[6] = 0
    disparity[7] = np.inf
    value, valid = Normals(CITYSCAPES, 1).encode(_sample(disparity, class_ids=class_ids))
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
    value, valid = Normals(CITYSCAPES).encode(sample)
    assert (value.shape, valid.shape) == ((3, *SIZE), SIZE)
    assert not valid.any()
    assert missing in Normals.layers


def test_flipped_frame_has_the_mirrored_normals() -> None:
    rng = np.random.default_rng(3)
    disparity = _plane(_unit(rng), 3.0) + rng.normal(0, 0.02, SIZE)
    disparity[rng.random(SIZE) < 0.05] = np.nan
    disparity[:, 40:] += 2
    sample = _sample(disparity)
    value, valid = Normals(CITYSCAPES).encode(sample)
    flipped, flipped_valid = Normals(CITYSCAPES).encode(Augmentation(flip=1.0)(sample, rng))
    assert valid.float().mean() > 0.3
    assert torch.equal(flipped_valid.flip(1), valid)
    mirrored = flipped.flip(2) * torch.tensor([-1.0, 1.0, 1.0]).view(3, 1, 1)
    torch.testing.assert_close(mirrored, value, atol=1e-5, rtol=1e-5)


def test_scaled_and_cropped_frames_have_the_same_normals() -> None:
    normal = np.array([0.0, 0.8, 0.6])
    sample = _sample(_plane(normal, 2.0, size=(48, 120)))
    for scaled in (resize(sample, (24, 60)), Augmentation(crop=(24, 60))(sample, np.random.default_rng(0))):
        value, valid = Normals(CITYSCAPES).encode(scaled)
        assert torch.equal(valid, ~_corners(4))
        torch.testing.assert_close(value[:, valid].mean(1), torch.tensor([0, -0.8, -0.6]), atol=0.01, rtol=0)


def test_radius_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"task\.normals\.radius: needed a whole number above zero, found 0"):
        Normals(CITYSCAPES, 0)


def test_loss_is_one_less_the_cosine_and_leaves_out_the_length() -> None:
    value = torch.tensor([0.0, 0.0, -1.0]).view(1, 3, 1, 1).expand(1, 3, 1, 4)
    vectors = [(0, 0, -7), (0, 5, 0), (0, 0, 0.2), (0, 3, -3)]
    prediction = torch.tensor(vectors).float().T.view(1, 3, 1, 4)
    expected = torch.tensor([0, 1, 2, 1 - 0.5**0.5]).view(1, 1, 4)
    torch.testing.assert_close(Normals(CITYSCAPES).pixel_loss(prediction, value), expected)
    torch.testing.assert_close(Normals(CITYSCAPES).pixel_loss(100 * prediction, value), expected)


def test_loss_of_a_prediction_of_zero_has_a_finite_gradient() -> None:
    prediction = torch.zeros(1, 3, 2, 2, requires_grad=True)
    target = Target(torch.ones(1, 3, 2, 2) / 3**0.5, torch.ones(1, 2, 2, dtype=torch.bool))
    Normals(CITYSCAPES).loss(prediction, target)[0].backward()
    assert prediction.grad is not None
    assert prediction.grad.isfinite().all()


def test_ideal_has_no_loss_and_no_error() -> None:
    value, valid = Normals(CITYSCAPES).encode(_sample(_plane(_unit(np.random.default_rng(4)), 4.0)))
    target = Target(value.unsqueeze(0), valid.unsqueeze(0))
    ideal = Normals(CITYSCAPES).ideal(target.value)
    assert Normals(CITYSCAPES).loss(ideal, target)[0].item() == pytest.approx(0, abs=1e-3)
    metric = Normals(CITYSCAPES).metric()
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
    metric = Normals(CITYSCAPES).metric()
    target = Target(torch.ones(1, 3, 1, 1), torch.ones(1, 1, 1, dtype=torch.bool))
    metric.update(target.value, target)
    assert [figure.key for figure in Normals.figures] == list(metric.compute())
    assert len(Normals.figures) == 1 + len(WITHIN)


def test_render_and_legend_say_the_directions() -> None:
    legend = dict(Normals(CITYSCAPES).legend(256))
    assert legend == {
        "faces the camera": (128, 128, 255),
        "faces up": (128, 255, 128),
        "faces left": (0, 128, 128),
        "faces right": (255, 128, 128),
    }
    road = torch.tensor([0.0, -9.0, 0.0]).view(3, 1, 1).expand(3, 1, 2)
    picture = Normals(CITYSCAPES).render(road, torch.tensor([[True, False]]))
    assert picture.dtype == np.uint8
    assert picture.tolist() == [[[128, 255, 128], [0, 0, 0]]]
