"""What a run refuses before it has written anything, or where another has been."""

from pathlib import Path

import pytest
from PIL import Image

from multitask.engine import checkpoint
from multitask.runs.paths import LAST
from multitask.runs.run import Run
from multitask.synthetic import write_dataset
from tests.compose import small
from tests.holding import held
from tests.trees import write_tree


def test_run_of_another_configuration_in_the_same_folder_is_refused(shared_tree: Path, whole: Path) -> None:
    with pytest.raises(ValueError, match=r"another configuration: optimizer\.lr was 0\.02, is 0\.5"):
        Run(small(shared_tree, whole, "optimizer.lr=0.5"))
    Run(small(shared_tree, whole, "trainer.log_every=3"))


def test_run_without_resume_in_a_used_folder_is_refused(shared_tree: Path, whole: Path) -> None:
    with pytest.raises(ValueError, match=r"trainer\.resume=null: output_dir=.*holds a run"):
        Run(small(shared_tree, whole, "trainer.resume=null"))


def test_run_into_a_folder_of_other_files_is_refused(shared_tree: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="found other files"):
        Run(small(shared_tree, tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_run_of_another_precision_or_weighting_is_refused(finished: Path, shared_tree: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"trainer\.precision: checkpoint=.* was trained in torch\.float32"):
        Run(small(shared_tree, finished, "trainer.precision=bf16"))
    given = f"trainer.resume={finished / LAST}"
    message = r"trainer\.resume=.*last\.pt: of another configuration: {}; model\.pretrained=.* starts a new run"
    with pytest.raises(ValueError, match=message.format(r"weighting\._target_ was .*Uncertainty', is .*Equal'")):
        Run(small(shared_tree, tmp_path / "other", given, "weighting=equal"))
    with pytest.raises(ValueError, match=message.format(r"optimizer\.lr was 0\.02, is 0\.5")):
        Run(small(shared_tree, tmp_path / "other", given, "optimizer.lr=0.5"))
    with pytest.raises(ValueError, match=message.format(r"tasks was .*, is \['depth', 'semantic'\]")):
        Run(small(shared_tree, tmp_path / "other", given, "tasks=[depth,semantic]"))
    state = checkpoint.load(finished / LAST)
    checkpoint.save(finished / LAST, {**state, "weighting": {}})
    with pytest.raises(ValueError, match=r"last\.pt: of another weighting or optimiser"):
        Run(small(shared_tree, tmp_path / "other", given))


def test_run_on_other_frames_is_refused(tmp_path: Path) -> None:
    few, more = (write_tree(tmp_path / str(number), {"train": number, "val": 2}) for number in (4, 5))
    Run(small(few, tmp_path / "run", "trainer.max_steps=1")).train()
    moved = few.rename(tmp_path / "moved")
    Run(small(moved, tmp_path / "run", "trainer.max_steps=1"))
    with pytest.raises(ValueError, match=r"last\.pt: was trained on 4 frames, names .*; data\.root=.* has 5 frames"):
        Run(small(more, tmp_path / "run", "trainer.max_steps=1"))


def test_a_second_run_in_the_same_folder_is_refused(shared_tree: Path, tmp_path: Path) -> None:
    config = small(shared_tree, tmp_path / "run", "trainer.max_steps=1")
    with (
        held(tmp_path / "run"),
        pytest.raises(ValueError, match=r"output_dir=.*run: another process is training here"),
    ):
        Run(config).train()
    Run(config).train()


@pytest.mark.parametrize("key", ["optimizer.encoder_lr_factor=0", "model.freeze_batch_norm=true"])
def test_run_that_freezes_a_random_encoder_is_refused(shared_tree: Path, tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match=rf"^{key}: needed model\.pretrained, .* found null$"):
        Run(small(shared_tree, tmp_path / "run", key))
    assert not (tmp_path / "run").exists()


def test_run_validates_on_the_split_that_is_named(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", {"train": 4})
    with pytest.raises(ValueError, match=r"needed split 'val', found \['train'\]"):
        Run(small(root, tmp_path / "run"))
    assert len(Run(small(root, tmp_path / "run", "data.val_split=train")).val_frames) == 4


def test_run_on_a_truncated_picture_is_refused_before_training(tree: Path, tmp_path: Path) -> None:
    path = next((tree / "leftImg8bit/train").rglob("*.png"))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match=rf"{path.name}: not a readable PNG, .*it has no end"):
        Run(small(tree, tmp_path / "run"))


def test_run_on_synthetic_frames_of_another_seed_or_number_is_refused(tmp_path: Path) -> None:
    write_dataset(tmp_path / "frames", {"train": 2, "val": 1}, size=(32, 64), seed=3, workers=1)
    given = "data.num_train=2", "data.num_val=1", "data.seed=3"
    assert Run(small(tmp_path / "frames", tmp_path / "run", *given)).trainer.step == 0
    with pytest.raises(ValueError, match=r"data\.seed=0: data\.root=.* was written with 3"):
        Run(small(tmp_path / "frames", tmp_path / "run", *given[:2]))
    with pytest.raises(ValueError, match=r"data\.num_train=5: data\.root=.* was written with 2"):
        Run(small(tmp_path / "frames", tmp_path / "run", *given, "data.num_train=5"))


BAD = [
    ("trainer.max_steps=-5", r"trainer\.max_steps: needed a whole number from 1 to 1000000000, found -5"),
    ("trainer.max_steps=many", r"trainer\.max_steps: needed int, found 'many'"),
    ("trainer.batch_size=0", r"trainer\.batch_size: needed .* found 0"),
    ("trainer.batch_size=1", r"trainer\.batch_size=1: needed two frames or more .* global pooling"),
    ("trainer.accumulate=3", r"trainer\.accumulate: needed a divisor of trainer\.batch_size=4, found 3"),
    ("trainer.accumulate=4", r"trainer\.batch_size=4: needed two frames or more in each of trainer\.accumulate=4"),
    ("trainer.device=tpu", r"trainer\.device: needed auto, cpu or cuda, found 'tpu'"),
    ("trainer.precision=int8", r"trainer\.precision: needed one of .*found 'int8'"),
    ("trainer.num_workers=-1", r"trainer\.num_workers: needed .* found -1"),
    ("trainer.resume=nowhere.pt", r"trainer\.resume=nowhere\.pt: needed auto, null or an existing checkpoint"),
    ("optimizer.lr=0", r"optimizer\.lr: needed a number above zero, found 0"),
    ("optimizer.momentum=1.5", r"optimizer\.momentum: needed a number from 0 to below 1, found 1\.5"),
    ("optimizer.encoder_lr_factor=-1", r"optimizer\.encoder_lr_factor: needed a number >= 0, found -1"),
    ("optimizer.warmup_steps=-1", r"optimizer\.warmup_steps: needed a whole number >= 0, found -1"),
    ("optimizer.warmup_steps=0.5", r"optimizer\.warmup_steps: needed int, found 0\.5"),
    ("model.freeze_batch_norm=1", r"model\.freeze_batch_norm: needed bool, found 1"),
    ("optimizer.weight_decay=-1", r"optimizer\.weight_decay: needed a number >= 0, found -1"),
    ("tasks=[semantic,smell]", r"tasks: needed some of .* found 'smell'"),
    ("tasks=[]", r"tasks: needed at least one"),
    ("model.encoder=vgg16", r"model\.encoder: needed one of .* found 'vgg16'"),
    ("task.depth.likelihood=poisson", r"task\.depth\.likelihood: needed one of .* found 'poisson'"),
    ("weighting=fixed", r"weighting\.weights\.semantic: needed a weight"),
    ("weighting.sum=0", r"weighting\.sum: needed null or a number above zero, found 0"),
    ("weighting.sum=one", r"weighting\.sum: needed .*found 'one'"),
    ("+weighting.temperature=1", r"weighting\.temperature: unknown key"),
    ("data.image_size=[32]", r"data\.image_size: needed two positive whole numbers \[H, W\], found \[32\]"),
    ("data.augmentation.scale=[2,1]", r"data\.augmentation\.scale: needed 0 < smallest <= .*64, found \[2, 1\]"),
    ("data.augmentation.crop=[0,8]", r"data\.augmentation\.crop: needed two positive whole numbers"),
    ("data.root=/nonexistent", r"data\.root=/nonexistent: no such folder"),
    ("data.augmentation.crop=[64,64]", r"data\.augmentation\.crop: needed at most \[32, 64\]"),
    ("seed=-1", r"seed: needed a whole number from 0 to 18446744073709551615, found -1"),
    ("seed=abc", r"seed: needed a whole number from 0 to 18446744073709551615, found 'abc'"),
    ("trainer.num_panels=two", r"trainer\.num_panels: needed int, found 'two'"),
    ("trainer.compile=nope", r"trainer\.compile: needed bool, found 'nope'"),
    ("trainer.resume=5", r"trainer\.resume: needed .*, found 5"),
    ("+trainer.max_step=5", r"trainer\.max_step: unknown key"),
    ("+weighting.speed=1", r"weighting\.speed: unknown key"),
    ("weighting._target_=os.system", r"weighting\._target_: needed a Weighting, found 'os\.system'"),
]


BAD_TOGETHER = [
    (["weighting=uw_so", "weighting.temperature=0"], r"weighting\.temperature: needed a number above zero, found 0"),
    (["weighting=dwa", "weighting.temperature=-1"], r"weighting\.temperature: needed a number above zero, found -1"),
    (["weighting=dwa", "weighting.period=0"], r"weighting\.period: needed a whole number above zero, found 0"),
    (["weighting=famo", "weighting.lr=0"], r"weighting\.lr: needed a number above zero, found 0"),
    (["weighting=jacobian", "weighting.aggregator=sum"], r"weighting\.aggregator: needed one of .* found 'sum'"),
    *(
        (
            [f"weighting={name}", "trainer.accumulate=2"],
            rf"trainer\.accumulate=2: needed 1 for weighting={kind}, which needs the losses of the whole step",
        )
        for name, kind in {
            "uw_so": "SoftOptimal",
            "gls": "GeometricMean",
            "famo": "Famo",
            "jacobian": "Jacobian",
        }.items()
    ),
    (["weighting=jacobian", "trainer.precision=fp16"], r"trainer\.precision: needed fp32 or bf16 for weighting=Jac"),
    (["weighting=jacobian", "trainer.compile=true"], r"trainer\.compile=true: needed false for weighting=Jacobian"),
]


@pytest.mark.parametrize(("overrides", "message"), BAD_TOGETHER, ids=[" ".join(given) for given, _ in BAD_TOGETHER])
def test_run_with_what_does_not_go_together_is_refused(
    shared_tree: Path, tmp_path: Path, overrides: list[str], message: str
) -> None:
    if "jacobian" in overrides[0]:
        pytest.importorskip("torchjd")
    with pytest.raises(ValueError, match=message):
        Run(small(shared_tree, tmp_path / "run", *overrides))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("override", "message"), BAD, ids=[override for override, _ in BAD])
def test_run_with_nonsense_is_refused_before_anything_is_written(
    shared_tree: Path, tmp_path: Path, override: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Run(small(shared_tree, tmp_path / "run", override))
    assert not (tmp_path / "run").exists()


def test_run_with_a_weight_for_a_task_that_is_off_is_refused(shared_tree: Path, tmp_path: Path) -> None:
    options = "tasks=[semantic]", "weighting=fixed", "weighting.weights.semantic=1", "weighting.weights.depth=1"
    with pytest.raises(ValueError, match=r"weighting\.weights\.depth=1: the task is off"):
        Run(small(shared_tree, tmp_path / "run", *options))


def test_run_with_all_weights_zero_is_refused(shared_tree: Path, tmp_path: Path) -> None:
    options = "tasks=[semantic]", "weighting=fixed", "weighting.weights.semantic=0"
    with pytest.raises(ValueError, match=r"weighting\.weights: needed one weight above zero"):
        Run(small(shared_tree, tmp_path / "run", *options))


def test_run_with_a_damaged_header_is_refused_before_training(tree: Path, tmp_path: Path) -> None:
    path = next((tree / "disparity/val").rglob("*.png"))
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=rf"{path.name}: not a readable PNG, found 0 bytes"):
        Run(small(tree, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_run_on_data_without_any_label_is_refused(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", {"train": 2, "val": 2}, kinds=("image",))
    with pytest.raises(ValueError, match="has no labels for any of tasks"):
        Run(small(root, tmp_path / "run"))


def test_run_on_disparity_that_is_all_invalid_stops_with_the_task_named(tree: Path, tmp_path: Path) -> None:
    for path in (tree / "disparity").rglob("*.png"):
        Image.new("I;16", (64, 32)).save(path)
    with pytest.raises(ValueError, match=r"task 'depth': not one valid pixel in the 3 frames of the training split"):
        Run(small(tree, tmp_path / "run")).train()


def test_weights_of_tasks_without_labels_are_refused_too(tmp_path: Path) -> None:
    """Their labels may arrive, and then the run is to be the one that it was."""
    root = write_tree(tmp_path / "data", {"train": 4, "val": 2}, kinds=("image", "class_ids"))
    given = "weighting=fixed", "weighting.weights.semantic=1"
    with pytest.raises(ValueError, match=r"weighting\.weights\.instance: needed a weight"):
        Run(small(root, tmp_path / "run", *given))
    with pytest.raises(ValueError, match=r"weighting\.weights\.depth: "):
        Run(small(root, tmp_path / "run", *given, "weighting.weights.instance=1", "weighting.weights.depth=-5"))
    assert not (tmp_path / "run").exists()
