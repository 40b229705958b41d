"""Where the runs of a comparison work, and what each has of the machine."""

import os
from collections.abc import Mapping, Sequence

import torch

from multitask.build import Config
from multitask.data.parallel import num_cpus, num_loaders
from multitask.errors import UserError


def find_places(device: torch.device, parallel: int) -> list[dict[str, str]]:
    """Where runs can work at one time: what each place adds to the environment of its runs.

    Args:
        device: of the runs.
        parallel: how many places there are on the CPUs or, with CUDA, on each GPU that this process sees. They share
            the CPUs out evenly.
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
    if parallel == 1:
        return gpus
    share = {"OMP_NUM_THREADS": str(num_cpus() // (parallel * len(gpus)))}
    # A run goes to the GPU that has fewest.
    return [{**gpu, **share} for _ in range(parallel) for gpu in gpus]


def shared_loaders(config: Config, places: Sequence[Mapping[str, str]]) -> list[str]:
    """What each run is told of the processes that load its frames, where several runs share the CPUs.

    Args:
        config: of a run. What it says of them is left as it is, unless it leaves it to the number of CPUs.
        places: of `find_places`.
    """
    if len(places) == 1 or config["trainer"]["num_workers"] != "auto":
        return []
    return [f"trainer.num_workers={num_loaders(num_cpus() // len(places))}"]
