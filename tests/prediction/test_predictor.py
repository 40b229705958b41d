import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import multitask
from multitask.config.trained import load_trained
from multitask.data.layout import read_png
from multitask.engine import checkpoint
from multitask.engine.compute import make_compute
from multitask.errors import UserError
from multitask.models.network import MultiTaskNetwork
from multitask.prediction import Predictor, Scene, load
from multitask.prediction.decoding import array_to_picture
from multitask.runs.run import LAST, Run
from tests.compose import ROOT, small
from tests.engine.test_checkpoint import Attack
from tests.prediction.made import photo, write_photo


def assert_same(one: Scene, other: Scene) -> None:
    assert one.size == other.size
    for kind in ("class_ids", "instance_ids"):
        np.testing.assert_array_equal(getattr(one, kind), getattr(other, kind))
    np.testing.assert_allclose(one.disparity, other.disparity, atol=1e-4)
    assert [x.class_id for x in one.instances] == [x.class_id for x in other.instances]


def test_predict_gives_a_scene_of_the_picture_s_size(predictor: Predictor) -> None:
    for size in ((24, 48), (100, 60), (9, 30), (300, 500)):
        scene = predictor.predict(photo(size))
        assert scene.size == size
        assert scene.class_ids is not None
        assert scene.instance_ids is not None
        assert scene.disparity is not None
        assert {layer.shape for layer in (scene.class_ids, scene.instance_ids, scene.disparity)} == {size}
        assert set(np.unique(scene.class_ids)) <= set(range(34))


def test_predict_is_the_network_on_the_frame(predictor: Predictor, trained: Path, shared_tree: Path) -> None:
    path = next((shared_tree / "leftImg8bit/val").rglob("*.png"))
    network = load_trained(trained).network.eval()
    image = torch.from_numpy(read_png(path, "image").astype(np.float32)).permute(2, 0, 1)
    mean, std = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    normal = (image / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    with torch.inference_mode():
        logits, _, disparity = network(normal[None]).values()
    scene = predictor.predict(path)
    train_ids = torch.tensor([7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33])
    np.testing.assert_array_equal(scene.class_ids, train_ids[logits[0].argmax(0)])
    np.testing.assert_allclose(scene.disparity, disparity[0, 0].clamp(min=0), atol=1e-4)


def test_predict_of_a_larger_picture_counts_disparity_in_its_px(predictor: Predictor) -> None:
    large = np.kron(photo((32, 64)), np.ones((4, 4, 1), dtype=np.uint8))
    once, four_times = predictor.predict(photo((32, 64))), predictor.predict(large)
    assert once.disparity is not None
    assert four_times.disparity is not None
    np.testing.assert_allclose(four_times.disparity[2::4, 2::4], once.disparity * 4, atol=2)
    np.testing.assert_array_equal(four_times.class_ids[::4, ::4], once.class_ids)


def test_predict_takes_paths_pillow_images_and_arrays(predictor: Predictor, tmp_path: Path) -> None:
    path = write_photo(tmp_path / "a.png")
    expected = predictor.predict(photo())
    for given in (path, str(path), Image.fromarray(photo()), photo().astype(np.uint16) * 257):
        assert_same(predictor.predict(given), expected)


def test_predict_of_several_is_predict_of_each(predictor: Predictor) -> None:
    photos = [photo(size, seed) for seed, size in enumerate([(24, 48), (48, 24), (24, 48), (40, 80), (24, 48)])]
    scenes = predictor.predict(photos)
    assert [scene.size for scene in scenes] == [image.shape[:2] for image in photos]
    for scene, image in zip(scenes, photos, strict=True):
        assert_same(scene, predictor.predict(image))
    assert predictor.predict([]) == []


def test_predictor_gives_the_network_at_most_a_batch_of_one_size(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = load(trained, device="cpu", precision="fp32", batch_size=2)
    seen: list[tuple[int, ...]] = []
    forward = MultiTaskNetwork.forward

    def watch(self: MultiTaskNetwork, images: torch.Tensor) -> dict[str, torch.Tensor]:
        seen.append(tuple(images.shape))
        return forward(self, images)

    monkeypatch.setattr(MultiTaskNetwork, "forward", watch)
    predictor.predict([photo((24, 48)), photo((64, 64)), photo((12, 24)), photo((48, 96))])
    assert sorted(seen) == [(1, 3, 32, 64), (1, 3, 64, 64), (2, 3, 32, 64)]


@pytest.mark.parametrize(("size", "needed"), [((24, 48), (32, 64)), ((50, 30), (107, 64)), ((31, 200), (10, 64))])
def test_prepare_keeps_the_training_width_and_the_shape(
    predictor: Predictor, size: tuple[int, int], needed: tuple[int, int]
) -> None:
    assert predictor.prepare("a", array_to_picture(photo(size))).image.shape == (3, *needed)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_predict_in_half_precision_is_nearly_the_same(trained: Path, predictor: Predictor, precision: str) -> None:
    exact, half = predictor.predict(photo()), load(trained, device="cpu", precision=precision).predict(photo())
    assert exact.disparity is not None
    assert half.disparity is not None
    assert (half.class_ids == exact.class_ids).mean() > 0.9
    np.testing.assert_allclose(half.disparity, exact.disparity, atol=0.1 * exact.disparity.max())
    assert half.disparity.dtype == np.float32


def test_load_with_a_size_resizes_every_picture_to_it(trained: Path) -> None:
    predictor = load(trained, device="cpu", size=[16, 40])
    assert predictor.prepare("a", array_to_picture(photo((24, 48)))).image.shape == (3, 16, 40)
    assert predictor.predict(photo((24, 48))).size == (24, 48)


def test_predict_refuses_what_is_smaller_than_the_stride(predictor: Predictor, tmp_path: Path) -> None:
    path = write_photo(tmp_path / "a.png", (7, 48))
    with pytest.raises(ValueError, match=r"a\.png: needed at least 8 x 8 px, the network's stride, found 7 x 48"):
        predictor.predict(path)
    with pytest.raises(ValueError, match="image: needed at least 8 x 8 px, the network's stride, found 48 x 7"):
        predictor.predict(photo((48, 7)))
    with pytest.raises(ValueError, match=r"needed at least 8 px of height at the network's width of 64, found 5"):
        predictor.predict(photo((8, 100)))
    with pytest.raises(ValueError, match="needed at most 16 times as high as wide, found 200 x 12"):
        predictor.predict(photo((200, 12)))


def test_predict_of_something_else_is_refused(predictor: Predictor) -> None:
    with pytest.raises(ValueError, match="image: needed a path, a Pillow image or an array, found int"):
        predictor.predict(3)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match=r"gone\.png: no such file"):
        predictor.predict(["gone.png"])


def test_predictor_says_which_picture_the_network_makes_nothing_of(trained: Path) -> None:
    state = checkpoint.load(trained)
    wrong = load_trained(trained)
    for value in wrong.network.decoders[state["tasks"][2]].output.parameters():
        value.data.fill_(float("nan"))
    predictor = Predictor(wrong, make_compute("cpu", "fp32", channels_last=False), None, 8)
    with pytest.raises(ValueError, match="image: disparity: needed finite numbers, found 2048 px where they are not"):
        predictor.predict(photo())


@pytest.mark.parametrize("tasks", ["semantic", "depth", "semantic,depth", "semantic,instance"])
def test_predict_leaves_out_what_was_not_trained(shared_tree: Path, tmp_path: Path, tasks: str) -> None:
    Run(small(shared_tree, tmp_path / "run", f"tasks=[{tasks}]", "trainer.max_steps=1")).train()
    scene = load(tmp_path / "run" / LAST, device="cpu").predict(photo())
    assert (scene.class_ids is None) == ("semantic" not in tasks)
    assert (scene.instance_ids is None) == ("instance" not in tasks)
    assert (scene.disparity is None) == ("depth" not in tasks)


def test_load_of_vectors_alone_is_refused(shared_tree: Path, tmp_path: Path) -> None:
    Run(small(shared_tree, tmp_path / "run", "tasks=[instance]", "trainer.max_steps=1")).train()
    with pytest.raises(ValueError, match=r"needed a network of classes or disparity, found \['instance'\]"):
        load(tmp_path / "run" / LAST)


def test_multitask_load_is_the_same() -> None:
    assert multitask.load is load
    with pytest.raises(AttributeError, match="module 'multitask' has no attribute 'lode'"):
        multitask.lode  # noqa: B018


def test_importing_the_package_loads_no_torch() -> None:
    command = "import sys, multitask; assert multitask.__version__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("plain_pickle", [True, False])
def test_load_refuses_a_checkpoint_with_code_and_does_not_run_it(
    trained: Path, tmp_path: Path, plain_pickle: bool
) -> None:
    state = {**torch.load(trained, weights_only=True), "extra": Attack(tmp_path / "attacked")}
    if plain_pickle:
        (tmp_path / "bomb.pt").write_bytes(pickle.dumps(state))
    else:
        torch.save(state, tmp_path / "bomb.pt")
    with pytest.raises(ValueError, match=r"checkpoint=.*bomb\.pt: not a readable checkpoint"):
        multitask.load(tmp_path / "bomb.pt")
    assert not (tmp_path / "attacked").exists()
    if plain_pickle:
        pickle.loads((tmp_path / "bomb.pt").read_bytes())
    else:
        torch.load(tmp_path / "bomb.pt", weights_only=False)
    assert (tmp_path / "attacked").exists(), "it would have run"


def test_load_of_a_newer_checkpoint_says_so(trained: Path, tmp_path: Path) -> None:
    state = {**torch.load(trained, weights_only=True), "version": checkpoint.VERSION + 1}
    del state["scaler"]  # it may lack what this version needs
    torch.save(state, tmp_path / "newer.pt")
    with pytest.raises(ValueError, match=rf"newer\.pt: needed version {checkpoint.VERSION} or older, found"):
        multitask.load(tmp_path / "newer.pt")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size: needed a whole number above zero, found 0"),
        ({"batch_size": True}, "batch_size: needed a whole number above zero, found True"),
        ({"size": [32]}, r"size: needed two positive whole numbers \[H, W\], found \[32\]"),
        ({"size": [4, 64]}, r"size: needed at least 8 x 8 px, the network's stride, found \[4, 64\]"),
        ({"device": "tpu"}, "^device: needed auto, cpu or cuda, found 'tpu'"),
        ({"precision": "int8"}, "^precision: needed one of .*, found 'int8'"),
    ],
)
def test_load_with_wrong_arguments_is_refused(
    trained: Path, arguments: dict[str, str | int | Sequence[int]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        load(trained, **{"device": "cpu", **arguments})  # type: ignore[arg-type]


def test_predict_names_pictures_that_the_memory_cannot_hold(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, most = MultiTaskNetwork.forward, 2

    def limited(self: MultiTaskNetwork, images: torch.Tensor) -> dict[str, torch.Tensor]:
        if len(images) > most:
            raise torch.OutOfMemoryError
        return forward(self, images)

    monkeypatch.setattr(MultiTaskNetwork, "forward", limited)
    assert len(predictor.predict([photo((32, 64))] * most)) == most
    with pytest.raises(ValueError, match=r"image: 3 pictures of 32 x 64 px .* needed a smaller batch_size, or size="):
        predictor.predict([photo((32, 64))] * 3)


def test_predict_names_pictures_of_whose_scenes_the_memory_cannot_hold_the_layers(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr("multitask.prediction.predictor.make_scenes", full)
    with pytest.raises(ValueError, match=r"image: 1 pictures of 32 x 64 px .* needed a smaller size="):
        predictor.predict(photo((32, 64)))


def test_predict_counts_no_fault_of_the_program_as_a_picture_s(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = MultiTaskNetwork.forward

    def narrower(self: MultiTaskNetwork, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {name: value[..., : 63 if value.shape[1] == 2 else 64] for name, value in forward(self, images).items()}

    monkeypatch.setattr(MultiTaskNetwork, "forward", narrower)
    with pytest.raises(ValueError, match=r"offsets: needed the shape \(2, 32, 64\) of the classes") as raised:
        predictor.predict(photo((32, 64)))
    assert not isinstance(raised.value, UserError)


def test_predict_takes_fewer_pictures_at_once_where_they_are_larger(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, sizes = MultiTaskNetwork.forward, []

    def noted(self: MultiTaskNetwork, images: torch.Tensor) -> dict[str, torch.Tensor]:
        sizes.append(tuple(images.shape))
        return forward(self, images)

    monkeypatch.setattr(MultiTaskNetwork, "forward", noted)
    predictor.predict([photo((96, 64))] * 3)
    assert {size[0] * size[2] * size[3] for size in sizes} <= {*range(4 * 32 * 64 + 1)}, (
        "more than a step of training had"
    )
    assert sum(size[0] for size in sizes) == 3
