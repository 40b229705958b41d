"""Where the runs of a comparison work, and what each has of the machine."""

import os
from collections.abc import Mapping, Sequence

import torch

from multitask.config.factories import Config
from multitask.data.parallel import num_cpus, num_loaders
from multitask.errors import UserError


def find_places(device: torch.device, parallel: int) -> list[dict[str, str]]:
    """Where runs can work at one time: what each place adds to the environment of its runs.

    Args:
        device: of the runs.
        parallel: how many places there are on the CPUs or, with CUDA, on each GPU that this process sees. They share
            the CPUs evenly.
    Raises:
        UserError: naming ``parallel``, if there are fewer CPUs.
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
    """What each run is given for the processes that load its frames, where several runs share the CPUs.

    Args:
        config: of a run. A number in it is left alone: ``auto`` is replaced.
        places: of `find_places`.
    """
    if len(places) == 1 or config["trainer"]["num_workers"] != "auto":
        return []
    return [f"trainer.num_workers={num_loaders(_share(places))}"]


def _share(places: Sequence[Mapping[str, str]]) -> int:
    """CPUs of each place."""
    return max(1, num_cpus() // len(places))
