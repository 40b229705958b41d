"""Places in which the runs of a comparison are executed: the share of CPUs and the GPU of each."""

import os
from collections.abc import Mapping, Sequence

import torch

from multitask.config.factories import Config
from multitask.data.parallel import num_cpus, num_loaders
from multitask.errors import UserError


def find_places(device: torch.device, parallel: int) -> list[dict[str, str]]:
    """Returns the environment variables of each place, one place for each run that can be executed at a time.

    Args:
        device: device of the runs.
        parallel: number of places on the CPUs or, with CUDA, on each visible GPU. They share the CPUs evenly.
    Raises:
        UserError: naming ``parallel``, if there are fewer CPUs than places.
    """
    gpus: list[dict[str, str]] = [{}]
    if device.type == "cuda":
        given = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = given.split(",") if given else [str(index) for index in range(torch.cuda.device_count())]
        gpus = [{"CUDA_VISIBLE_DEVICES": name} for name in names]
    most = max(1, num_cpus() // len(gpus))
    if not isinstance(parallel, int) or not 1 <= parallel <= most:
        a_gpu = f" for each of {len(gpus)} GPUs" if device.type == "cuda" else ""
        raise UserError(f"parallel: needed 1 to {most}, the CPUs at hand{a_gpu}, found {parallel!r}")
    places = gpus * parallel
    if len(places) == 1:
        return places
    return [{**place, "OMP_NUM_THREADS": str(_share(places))} for place in places]


def loader_overrides(config: Config, places: Sequence[Mapping[str, str]]) -> list[str]:
    """Returns the override that sets each run's number of data loader workers, if several runs share the CPUs.

    Args:
        config: configuration of a run. Only ``auto`` is overridden, not a given number.
        places: the result of `find_places`.
    """
    if len(places) == 1 or config["trainer"]["num_workers"] != "auto":
        return []
    return [f"trainer.num_workers={num_loaders(_share(places))}"]


def _share(places: Sequence[Mapping[str, str]]) -> int:
    """Number of CPUs of each place."""
    return max(1, num_cpus() // len(places))
