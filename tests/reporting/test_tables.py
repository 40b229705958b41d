import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from multitask.console import markdown
from multitask.data.loader import Batch, EncodedFrames, Loader, in_order
from multitask.data.sample import Sample
from multitask.evaluation.scoring import figure_groups
from multitask.reporting.panels import _columns, panel
from multitask.reporting.plots import canvas, plot_weights
from multitask.reporting.tables import brief, class_table, results_text, table, weights_line
from multitask.tasks.base import FigureOfMerit, Task
from multitask.tasks.depth import Depth
from multitask.tasks.instance import Instance
from multitask.tasks.semantic import Semantic
from tests.cityscapes import CITYSCAPES
from tests.trees import random_layers

TASKS: dict[str, Task] = {task.name: task for task in (Semantic(CITYSCAPES), Instance(CITYSCAPES), Depth(CITYSCAPES))}
SEMANTIC, INSTANCE, DEPTH = TASKS
RATIO = "network / position prior"
SIZE = (64, 512)  # as wide as pictures are drawn, so that nothing is enlarged


class _Frames:
    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Sample:
        layers = random_layers(np.random.default_rng(index), SIZE)
        layers["image"] = layers["image"].astype(np.uint8)
        return Sample(f"frame{index}", **layers)


@pytest.fixture(scope="module")
def batch() -> Batch:
    (only,) = Loader(EncodedFrames(_Frames(), TASKS), in_order(2, 2), 0, pin=False)
    return only


def _predictions(size: tuple[int, int] = SIZE) -> dict[str, Tensor]:
    return {name: 5 * torch.randn(2, task.channels, *size) for name, task in TASKS.items()}


def _cells(text: str) -> list[list[str]]:
    """Of every line but the rule."""
    lines = text.splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[:1] + lines[2:]]


def _contains(sheet: np.ndarray, picture: np.ndarray) -> bool:
    """Whether ``picture`` lies anywhere in ``sheet``, pixel by pixel."""
    height, width = picture.shape[:2]
    rows, columns = sheet.shape[0] - height + 1, sheet.shape[1] - width + 1
    possible = np.ones((rows, columns), dtype=bool)
    bright = np.argwhere(picture.any(-1))  # black pixels tell little: much of the sheet is black
    for y, x in bright[:: max(1, len(bright) // 40)]:
        possible &= (sheet[y : y + rows, x : x + columns] == picture[y, x]).all(-1)
    return any(np.array_equal(sheet[y : y + height, x : x + width], picture) for y, x in np.argwhere(possible))


def test_markdown_aligns_columns() -> None:
    assert markdown([["", "error", "b"], ["network", "1.5", "22.75"], ["x", "-", "3"]]) == "\n".join(
        [
            "|         | error |     b |",
            "|---------|------:|------:|",
            "| network |   1.5 | 22.75 |",
            "| x       |     - |     3 |",
        ]
    )


def test_table_shows_fractions_in_per_cent_and_errors_in_px() -> None:
    row = {f"{DEPTH}/mean_error_px": 0.5222, f"{DEPTH}/delta_1.25": 0.8768, f"{DEPTH}/rms_error_m": 5.0}
    header, values = _cells(table(DEPTH, TASKS[DEPTH].figures, {"network": row}))
    assert header == ["depth", "mean error, px", "RMS depth error, m", "depth within 1.25, %"]
    assert values == ["network", "0.522", "5.000", "87.7"]


def test_table_shows_missing_figures_as_a_dash() -> None:
    rows = {
        "one": {f"{SEMANTIC}/iou_class": 0.5, "unknown/figure": 3.0},
        "two": {f"{SEMANTIC}/iou_category": 0.0, f"{INSTANCE}/iou_class": 1.0},
    }
    cells = _cells(table(SEMANTIC, TASKS[SEMANTIC].figures, rows))
    assert cells[1:] == [["one", "50.0", "-"], ["two", "-", "0.0"]]


def test_table_ratio_is_of_two_rows() -> None:
    rows = {
        "network": {f"{DEPTH}/mean_error_px": 0.32, f"{DEPTH}/rms_error_px": 1.0, f"{DEPTH}/abs_rel": 4.0},
        "prior": {f"{DEPTH}/mean_error_px": 0.2, f"{DEPTH}/rms_error_px": 4e-4},
    }
    last = _cells(table(DEPTH, TASKS[DEPTH].figures, rows, ("network", "prior")))[-1]
    # No ratio to what is shown as zero, nor to what is missing.
    assert last == ["network / prior", "1.60", "-", "-"]


def test_table_ratio_of_zero_is_zero() -> None:
    rows = {"a": {f"{DEPTH}/mean_error_px": 0.0}, "b": {f"{DEPTH}/mean_error_px": 2.0}}
    assert _cells(table(DEPTH, TASKS[DEPTH].figures, rows, ("a", "b")))[-1] == ["a / b", "0.00"]


def test_table_lines_are_of_one_width() -> None:
    row = {f"{INSTANCE}/{figure.key}": 0.123 for figure in TASKS[INSTANCE].figures}
    lines = table(INSTANCE, TASKS[INSTANCE].figures, {"a": row, "a much longer title": row}).splitlines()
    assert len({len(line) for line in lines}) == 1
    bars = [[i for i, char in enumerate(line) if char == "|"] for line in lines]
    assert all(positions == bars[0] for positions in bars)


def test_table_without_figures_is_empty() -> None:
    assert table(DEPTH, TASKS[DEPTH].figures, {"network": {f"{SEMANTIC}/iou_class": 0.5}}) == ""


def test_table_without_room_for_all_figures_goes_on_below() -> None:
    row = {f"{DEPTH}/{figure.key}": 0.5 for figure in TASKS[DEPTH].figures}
    text = table(DEPTH, TASKS[DEPTH].figures, {"network": row, "position prior": row}, ("network", "position prior"))
    assert max(len(line) for line in text.splitlines()) <= 140
    parts = [_cells(part) for part in text.split("\n\n")]
    assert [part[0][0] for part in parts] == [DEPTH, DEPTH]
    assert [title for part in parts for title in part[0][1:]] == [figure.title for figure in TASKS[DEPTH].figures]
    assert [value for part in parts for value in part[1][1:]] == ["0.500"] * 4 + ["50.0"] * 3 + ["0.500"] * 2
    assert all([line[0] for line in part[1:]] == ["network", "position prior", RATIO] for part in parts)


def test_table_goes_on_below_only_where_it_must() -> None:
    def heights(title: str, columns: int, width: int) -> list[int]:
        figures = [FigureOfMerit(f"f{i}", "x" * width, higher_is_better=True) for i in range(columns)]
        text = table("g", figures, {title: {f"g/{figure.key}": 1.0 for figure in figures}})
        return [len(part.splitlines()) for part in text.split("\n\n")]

    # Bars and spaces are 4 of a line and 3 more of each column after the first.
    assert heights("n" * (140 - 4 - 5 * 23), columns=5, width=20) == [3]
    assert heights("n" * (141 - 4 - 5 * 23), columns=5, width=20) == [3, 3]
    assert heights("n", columns=2, width=200) == [3, 3]


def test_results_text_has_a_table_for_each_group_that_has_figures() -> None:
    figures = {f"{DEPTH}/mean_error_px": 1.0, "panoptic/pq": 0.25, f"{INSTANCE}/ap": 0.125}
    figures |= {f"position_prior/{DEPTH}/mean_error_px": 2.0, f"{INSTANCE}/ap/car": 0.375}
    first, second, third = results_text(figures, figure_groups(TASKS)).split("\n\n")
    assert _cells(first) == [[INSTANCE, "AP, %"], ["network", "12.5"], ["position prior", "-"], [RATIO, "-"]]
    assert _cells(second)[1:] == [["network", "1.000"], ["position prior", "2.000"], [RATIO, "0.50"]]
    assert _cells(third)[:2] == [["panoptic", "PQ, %"], ["network", "25.0"]]
    assert _cells(results_text(figures, figure_groups(TASKS), classes=True).split("\n\n")[-1])[1] == ["car", "37.5"]
    assert "prior" not in results_text({f"{DEPTH}/mean_error_px": 1.0}, figure_groups(TASKS))


def test_brief_follows_the_order_of_the_groups() -> None:
    figures = {f"{DEPTH}/mean_error_px": 1.0, f"{SEMANTIC}/iou_class": 0.5, f"{SEMANTIC}/iou/car": 0.5}
    assert brief(figures, figure_groups(TASKS)) == "semantic IoU class, % 50.0, depth mean error, px 1.000"


def test_class_table_has_a_line_for_each_class() -> None:
    figures = {"semantic/iou/road": 0.987, "semantic/iou/car": 0.5, "semantic/iou_class": 0.7, "instance/ap/car": 0.25}
    assert _cells(class_table(figures)) == [
        ["%", "semantic/iou", "instance/ap"],
        ["road", "98.7", "-"],
        ["car", "50.0", "25.0"],
    ]
    assert class_table({"semantic/iou_class": 0.7}) == ""


def test_panel_contains_the_picture_and_every_truth_and_prediction(batch: Batch) -> None:
    predictions = _predictions()
    for frame in range(2):
        sheet = panel(batch, frame, predictions, TASKS)
        assert sheet.dtype == np.uint8
        assert _contains(sheet, batch.images[frame].permute(1, 2, 0).numpy())
        for name, task in TASKS.items():
            value, valid = batch.targets[name]
            assert _contains(sheet, task.render(task.ideal(value)[frame], valid[frame]))
            part = valid[frame] if task.sparse else None
            assert _contains(sheet, task.render(predictions[name][frame], part))


def test_panel_is_of_one_frame(batch: Batch) -> None:
    sheet = panel(batch, 0, _predictions(), TASKS)
    assert not _contains(sheet, batch.images[1].permute(1, 2, 0).numpy())


def test_panel_has_a_column_for_each_task_and_two_rows(batch: Batch) -> None:
    sheets = [panel(batch, 0, _predictions(), dict(list(TASKS.items())[:number])) for number in (1, 2, 3)]
    widths = [sheet.shape[1] for sheet in sheets]
    assert all(sheet.shape[0] == sheets[0].shape[0] >= 2 * SIZE[0] for sheet in sheets)
    assert widths[1] - widths[0] == widths[2] - widths[1] >= SIZE[1]
    assert widths[0] >= 2 * SIZE[1]
    assert all(sheet.shape[2] == 3 for sheet in sheets)


def test_panel_that_is_tall_has_a_row_for_each_task_and_two_columns(batch: Batch) -> None:
    predictions = _predictions()
    wide, tall = (panel(batch, 0, predictions, TASKS, tall=tall) for tall in (False, True))
    assert len(TASKS) == 3
    # Four columns became two and two rows four, but for the gaps between them.
    assert 0 <= wide.shape[1] - 2 * tall.shape[1] < 20
    assert 0 <= tall.shape[0] - 2 * wide.shape[0] < 20
    assert _contains(tall, batch.images[0].permute(1, 2, 0).numpy())
    assert set(map(tuple, tall.reshape(-1, 3).tolist())) == set(map(tuple, wide.reshape(-1, 3).tolist()))


def test_panel_enlarges_small_pictures_without_blurring(batch: Batch) -> None:
    small = Batch(
        batch.names,
        batch.images[..., :128],
        {name: type(target)(*(tensor[..., :128] for tensor in target)) for name, target in batch.targets.items()},
    )
    sheet = panel(small, 0, _predictions((64, 128)), TASKS)
    assert _contains(sheet, small.images[0].permute(1, 2, 0).numpy().repeat(4, 0).repeat(4, 1))


def test_panel_shows_the_colours_of_the_legend(batch: Batch) -> None:
    sheet = panel(batch, 0, _predictions(), {DEPTH: TASKS[DEPTH]})
    colors = set(map(tuple, sheet.reshape(-1, 3).tolist()))
    assert {color for _, color in TASKS[DEPTH].legend(SIZE[1])} <= colors


def test_panel_leaves_predictions_as_they_are(batch: Batch) -> None:
    predictions = _predictions()
    before = {name: prediction.clone() for name, prediction in predictions.items()}
    panel(batch, 1, predictions, TASKS)
    assert all(torch.equal(predictions[name], before[name]) for name in TASKS)


def test_weights_line_hand_worked() -> None:
    values = {
        "step": 500.0,
        "sigma2/semantic": 0.6,
        "sigma2/instance": 62.5,
        "sigma2/depth": 13.5,
        "weight/semantic": 1 / 0.6,
        "weight/instance": 1 / 62.5,
        "weight/depth": 1 / 2 / 13.5,
    }
    # Figure 7 of the paper after 500 iterations.
    assert weights_line(values, [SEMANTIC, INSTANCE, DEPTH]) == (
        "step 500: sigma^2 of semantic, instance, depth = (0.6, 62.5, 13.5), inverse 22.5 : 0.216 : 1; "
        "weights 45 : 0.432 : 1"
    )


def _history(slope: float) -> list[dict[str, float]]:
    return [
        {"step": step, "loss/a": 1.0, "log_variance/a": slope * step, "weight/a": 0.5, "lr": 0.1}
        for step in (0.0, 10.0, 20.0)
    ]


def test_plot_weights_writes_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    fixed = [{"step": 10.0, "weight/a": 1.0}]
    two = [{**entry, "log_variance/b": 1.0, "weight/b": 0.3} for entry in _history(0.2)]
    path = tmp_path / "new" / "folder" / "weights.png"
    plot_weights({"one": _history(0.1), "two": two, "fixed": fixed}, path)
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        colors = picture.convert("RGB").getcolors(10**6)
    assert colors is not None
    assert len(colors) > 20


def test_plot_weights_has_a_column_for_each_task(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    two = [{**entry, "log_variance/b": 1.0, "weight/b": 0.3} for entry in _history(0.2)]
    widths = []
    for name, history in {"one": _history(0.1), "two": two}.items():
        plot_weights({name: history}, tmp_path / f"{name}.png")
        with Image.open(tmp_path / f"{name}.png") as picture:
            widths.append(picture.width)
    assert widths[1] == 2 * widths[0]


def test_plot_weights_of_a_laplace_likelihood_shows_the_variance_s_logarithm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    plot = canvas(4, 5)
    monkeypatch.setattr("multitask.reporting.plots.canvas", lambda *size: plot)
    # As older versions logged it: log b, whose variance is 2 b^2.
    history = [entry | {"sigma2/a": 2 * math.exp(2 * entry["log_variance/a"])} for entry in _history(0.1)]
    plot_weights({"laplace": history, "paper": _history(0.1)}, tmp_path / "weights.png")
    top = plot[0].axes[0]
    assert top.get_ylabel() == "log sigma^2"
    laplace, paper = (line.get_ydata() for line in top.get_lines())
    assert laplace == pytest.approx([math.log(2) + 2 * s for s in (0, 1, 2)])
    assert paper == pytest.approx([0, 1, 2])


@pytest.mark.parametrize("runs", [{}, {"empty": []}, {"fixed": [{"step": 1.0, "weight/a": 1.0}]}])
def test_plot_weights_without_learned_weights_is_refused(
    tmp_path: Path, runs: dict[str, list[dict[str, float]]]
) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match=rf"runs: .*learned weights, found none in \[{', '.join(map(repr, runs))}\]"):
        plot_weights(runs, tmp_path / "weights.png")
    assert not (tmp_path / "weights.png").exists()


def test_plot_weights_without_matplotlib_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ValueError, match=r"\.\[plots\]"):
        plot_weights({"one": _history(0.1)}, tmp_path / "weights.png")


def test_legend_keeps_what_belongs_together() -> None:
    classes, directions = (
        [("semantic", None), *((f"class {i}", (i, 0, 0)) for i in range(19))],
        [("a", None), ("b", None)],
    )
    # Drawn, the columns are but places of letters in a picture.
    columns = _columns([classes, directions], 10)
    assert [len(column) for column in columns] == [10, 10, 2]
    assert _columns([directions, directions], 4) == [[*directions, *directions]]
    assert _columns([directions, directions], 3) == [directions, directions]
