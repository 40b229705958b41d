import pytest
import torch

from multitask.comparison.places import find_places, loader_overrides


def test_places_are_parts_of_the_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multitask.comparison.places.num_cpus", lambda: 5)
    cpu = torch.device("cpu")
    assert find_places(cpu, 1) == [{}]
    assert find_places(cpu, 2) == [{"OMP_NUM_THREADS": "2"}] * 2
    assert find_places(cpu, 5) == [{"OMP_NUM_THREADS": "1"}] * 5
    for parallel in (0, 6, 1.5, None):
        with pytest.raises(ValueError, match=f"parallel: needed 1 to 5, the CPUs at hand, found {parallel}"):
            find_places(cpu, parallel)  # type: ignore[arg-type]


def test_places_are_on_gpus_as_many_as_are_asked_for_on_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multitask.comparison.places.num_cpus", lambda: 13)
    gpu = torch.device("cuda")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-a")
    assert find_places(gpu, 1) == [
        {"CUDA_VISIBLE_DEVICES": "3", "OMP_NUM_THREADS": "6"},
        {"CUDA_VISIBLE_DEVICES": "GPU-a", "OMP_NUM_THREADS": "6"},
    ]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [place["CUDA_VISIBLE_DEVICES"] for place in find_places(gpu, 1)] == ["0", "1"]
    shared = find_places(gpu, 3)
    assert [place["CUDA_VISIBLE_DEVICES"] for place in shared] == ["0", "1", "0", "1", "0", "1"]
    assert {place["OMP_NUM_THREADS"] for place in shared} == {"2"}
    with pytest.raises(ValueError, match="parallel: needed 1 to 6, the CPUs at hand for each of 2 GPUs, found 7"):
        find_places(gpu, 7)
    monkeypatch.setattr("multitask.comparison.places.num_cpus", lambda: 1)
    assert [place["OMP_NUM_THREADS"] for place in find_places(gpu, 1)] == ["1", "1"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert find_places(gpu, 1) == [{"CUDA_VISIBLE_DEVICES": "0"}]


def test_runs_that_share_the_cpus_share_out_the_processes_that_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multitask.comparison.places.num_cpus", lambda: 16)
    auto = {"trainer": {"num_workers": "auto"}}
    assert loader_overrides(auto, [{}]) == []
    assert loader_overrides(auto, [{}] * 4) == ["trainer.num_workers=3"]
    assert loader_overrides(auto, [{}] * 16) == ["trainer.num_workers=1"]
    assert loader_overrides({"trainer": {"num_workers": 7}}, [{}] * 4) == []
