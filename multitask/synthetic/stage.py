"""The stage of a scene: placed objects, their labels, and the ground that they occupy."""

import math
from dataclasses import dataclass, field

import numpy as np

from multitask.data.classes import INSTANCE_BASE
from multitask.synthetic.cities import City
from multitask.synthetic.coding import CLASSES
from multitask.synthetic.mesh import Mesh
from multitask.synthetic.street import Street

Label = tuple[int, int]
"""Class id and instance id (the bare class id for stuff and groups)."""


@dataclass(frozen=True)
class Footprint:
    """Box that casts an object's shadow, in the object's coordinates, m; its middle is at (x, z)."""

    half_width: float
    half_length: float
    height: float
    x: float = 0.0
    z: float = 0.0


@dataclass(frozen=True)
class Prop:
    """A mesh placed in the world.

    Attributes:
        mesh: the mesh.
        position: x, y, z of its origin, m.
        heading: direction of its +z axis, rad from straight ahead, right positive.
        colors: (slots, 3) RGB in 0 to 1.
        labels: labels by owner, see `Mesh`.
        scale: factors along its x, y and z axes.
        footprint: box that casts its shadow; None for no shadow.
    """

    mesh: Mesh
    position: tuple[float, float, float]
    heading: float
    colors: np.ndarray
    labels: tuple[Label, ...]
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    footprint: Footprint | None = None


def stuff(name: str) -> Label:
    """Returns the label of an object of stuff, or of a group."""
    return CLASSES.class_id[name], CLASSES.class_id[name]


@dataclass
class Stage:
    """Collects the props of one scene, and draws random values for them.

    Attributes:
        rng: generator of the scene's content.
        city, street: city and street of the scene.
        props: the placed objects.
    """

    rng: np.random.Generator
    city: City
    street: Street
    props: list[Prop] = field(default_factory=list)
    _taken: list[tuple[float, float, float]] = field(default_factory=list)
    _counts: dict[int, int] = field(default_factory=dict)

    def instance(self, name: str) -> Label:
        """Returns the label of a new instance of a class."""
        class_id = CLASSES.class_id[name]
        number = self._counts.get(class_id, 0)
        self._counts[class_id] = number + 1
        return class_id, class_id * INSTANCE_BASE + number

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * float(self.rng.random())

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def pick(self, count: int) -> int:
        return int(self.rng.random() * count)

    def color(self, palette: str, jitter: float = 0.06) -> np.ndarray:
        return self.city.color(self.rng, palette, jitter)

    @staticmethod
    def sees(x: float, z: float, radius: float) -> bool:
        """Whether an object with this radius, m, at (x, z) can be in the picture."""
        return z > -radius and abs(x) < 0.46 * z + 1.3 * radius + 1.0

    def claim(self, x: float, z: float, heading: float, width: float, length: float) -> bool:
        """Occupies the ground below an object; returns False if some of it is occupied or too close to the camera."""
        radius = width / 2
        steps = max(1, math.ceil(length / width))
        circles = []
        for k in range(steps):
            along = (k + 0.5) / steps * length - length / 2
            circles.append((x + along * math.sin(heading), z + along * math.cos(heading)))
        for cx, cz in circles:
            if cx * cx + cz * cz < (radius + 3.2) ** 2:
                return False
            for tx, tz, reach in self._taken:
                if (cx - tx) ** 2 + (cz - tz) ** 2 < (radius + reach) ** 2:
                    return False
        self._taken += [(cx, cz, radius) for cx, cz in circles]
        return True

    def add(self, prop: Prop) -> None:
        self.props.append(prop)

    def ground_height(self, n: float) -> float:
        """Returns the height of the ground at the distance n from the axis, m."""
        side = self.street.right if n > 0 else self.street.left
        return side.kerb if side.walk and side.edge < abs(n) < side.border else 0.0
