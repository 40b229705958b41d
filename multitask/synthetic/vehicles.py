"""Meshes of cars and buses, and parts that other vehicles share; forward is +z.

The colour slots of all vehicles are `BODY` and the names after it.
"""

from dataclasses import dataclass
from functools import cache

from multitask.synthetic.mesh import Mesh, MeshBuilder, Point, Quad, circle, panel
from multitask.synthetic.textures import GLASS, GLOW, METAL

BODY, TRIM, WINDOW, TYRE, HUB, HEADLIGHT, TAILLIGHT, PLATE, SECOND, ROOF = range(10)
"""Colour slots: main paint, dark plastic, glass, tyre, wheel rim, lamps, number plate, second paint, roof."""

_UP: Point = (0.0, 1.0, 0.0)
_FORWARD: Point = (0.0, 0.0, 1.0)


@dataclass(frozen=True)
class CarShape:
    """Side view of a car, m; z values are given from the rear bumper as fractions of the length.

    Attributes:
        length, width, height: outer size.
        belt: height of the windows' lower edge.
        nose: height of the bonnet's front edge.
        rear_base, rear_top, front_top, front_base: lower and upper ends of rear window and windscreen.
        windows: number of windows per side.
        inset: inset of the roof on each side.
    """

    length: float
    width: float
    height: float
    belt: float
    nose: float
    rear_base: float
    rear_top: float
    front_top: float
    front_base: float
    windows: int = 2
    inset: float = 0.14


CAR_SHAPES: tuple[CarShape, ...] = (
    CarShape(3.9, 1.68, 1.47, 0.90, 0.68, 0.02, 0.10, 0.52, 0.70),
    CarShape(4.6, 1.80, 1.43, 0.92, 0.68, 0.17, 0.30, 0.55, 0.70, 2, 0.18),
    CarShape(4.7, 1.80, 1.48, 0.92, 0.70, 0.02, 0.09, 0.56, 0.71, 3, 0.15),
    CarShape(4.5, 1.88, 1.70, 1.06, 0.86, 0.02, 0.08, 0.58, 0.72, 3, 0.13),
    CarShape(2.8, 1.58, 1.54, 0.95, 0.72, 0.02, 0.12, 0.62, 0.86, 1, 0.12),
    CarShape(4.3, 1.82, 1.30, 0.86, 0.62, 0.20, 0.38, 0.52, 0.66, 1, 0.20),
    CarShape(4.8, 1.92, 1.92, 1.10, 0.92, 0.01, 0.03, 0.70, 0.86, 3, 0.09),
    CarShape(5.0, 1.95, 1.98, 1.15, 0.95, 0.01, 0.03, 0.68, 0.84, 1, 0.08),
    CarShape(4.2, 1.80, 1.62, 1.00, 0.80, 0.02, 0.07, 0.60, 0.80, 2, 0.12),
)
"""Shapes: hatchback, saloon, estate, off-roader, micro car, coupe, people carrier, delivery van, compact van."""


def add_wheel(m: MeshBuilder, x: float, z: float, radius: float, width: float = 0.2) -> None:
    """Adds a wheel whose outer face is at ``x``; its tread, seen from the ends, is painted before the body."""
    outwards = 1.0 if x > 0 else -1.0
    base, behind = m.layer, (x - outwards * width, radius, z)
    m.layer = -1
    for end in (-1.0, 1.0):
        face: Quad = (
            (x - outwards * width, 0.0, z + end * radius * 0.7),
            (x, 0.0, z + end * radius * 0.7),
            (x, radius * 1.3, z + end * radius * 0.95),
            (x - outwards * width, radius * 1.3, z + end * radius * 0.95),
        )
        m.polygon(face, TYRE, inside=(x - outwards * width / 2, radius, z))
    m.layer = base
    m.polygon(circle((x, radius, z), radius, _FORWARD, _UP), TYRE, inside=behind)
    m.layer = base + 1
    m.polygon(circle((x, radius, z), radius * 0.62, _FORWARD, _UP, 10), HUB, inside=behind, material=METAL)
    m.layer = base


def add_ends(m: MeshBuilder, front: Quad, back: Quad, inside: Point) -> None:
    """Adds lamps, grille, bumpers and plates to the two end faces."""
    for u0, u1 in ((0.03, 0.24), (0.76, 0.97)):
        m.polygon(panel(front, u0, u1, 0.62, 0.92), HEADLIGHT, inside=inside, material=GLASS)
        m.polygon(panel(back, u0 - 0.01, u1 - 0.02, 0.55, 0.90), TAILLIGHT, inside=inside)
    m.polygon(panel(front, 0.27, 0.73, 0.55, 0.85), TRIM, inside=inside)
    m.polygon(panel(front, 0.02, 0.98, 0.0, 0.25), TRIM, inside=inside)
    m.polygon(panel(back, 0.02, 0.98, 0.0, 0.22), TRIM, inside=inside)
    m.polygon(panel(front, 0.36, 0.64, 0.26, 0.42), PLATE, inside=inside)
    m.polygon(panel(back, 0.35, 0.65, 0.45, 0.65), PLATE, inside=inside)


def _car_body(m: MeshBuilder, s: CarShape) -> None:
    w, rear, front = s.width / 2, -s.length / 2, s.length / 2
    base = front - (1 - s.front_base) * s.length
    deck = rear + s.rear_base * s.length
    inside = (0.0, 0.5, 0.0)
    m.layer = -2
    for z in (rear + 0.5, front - 0.5):
        m.polygon(((-w + 0.1, 0.08, z), (w - 0.1, 0.08, z), (w - 0.1, 0.4, z), (-w + 0.1, 0.4, z)), TYRE, inside=inside)
    m.layer = 0
    front_face: Quad = ((w, 0.2, front), (-w, 0.2, front), (-w, s.nose, front), (w, s.nose, front))
    back_face: Quad = ((-w, 0.25, rear), (w, 0.25, rear), (w, s.belt, rear), (-w, s.belt, rear))
    m.polygon(front_face, BODY, inside=inside, material=METAL)
    m.polygon(back_face, BODY, inside=inside, material=METAL)
    bonnet: Quad = ((w, s.nose, front), (-w, s.nose, front), (-w, s.belt, base), (w, s.belt, base))
    m.polygon(bonnet, BODY, inside=inside, material=METAL)
    lid: Quad = ((-w, s.belt, rear), (w, s.belt, rear), (w, s.belt, deck), (-w, s.belt, deck))
    m.polygon(lid, BODY, inside=inside, material=METAL)
    m.layer = 1
    add_ends(m, front_face, back_face, inside)
    for x in (-w, w):
        m.layer = 2
        outline = [(x, 0.22, rear), (x, 0.2, front), (x, s.nose, front), (x, s.belt, base), (x, s.belt, rear)]
        m.polygon(outline, BODY, inside=inside, material=METAL)
        m.layer = 3
        m.polygon(((x, 0.2, rear), (x, 0.2, front), (x, 0.33, front), (x, 0.33, rear)), TRIM, inside=inside)
        for share in (0.38, 0.62)[: s.windows]:
            z = rear + share * s.length
            m.polygon(((x, 0.33, z), (x, 0.33, z + 0.04), (x, s.belt, z + 0.04), (x, s.belt, z)), TRIM, inside=inside)
        m.polygon(
            ((x, s.nose - 0.17, front), (x, s.nose - 0.02, front), (x, s.nose - 0.02, front - 0.3)),
            HEADLIGHT,
            inside=inside,
        )
        for z in (rear + 0.2 * s.length, front - 0.19 * s.length):
            add_wheel(m, x * 1.01, z, 0.17 + s.height * 0.1)


def _car_cabin(m: MeshBuilder, s: CarShape) -> None:
    w, rear = s.width / 2, -s.length / 2
    t = w - s.inset
    z0, z1, z2, z3 = (rear + f * s.length for f in (s.rear_base, s.rear_top, s.front_top, s.front_base))
    inside = (0.0, s.belt, (z0 + z3) / 2)
    screen: Quad = ((w, s.belt, z3), (-w, s.belt, z3), (-t, s.height, z2), (t, s.height, z2))
    back: Quad = ((-w, s.belt, z0), (w, s.belt, z0), (t, s.height, z1), (-t, s.height, z1))
    m.layer = 4
    m.polygon(screen, BODY, inside=inside, material=METAL)
    m.polygon(back, BODY, inside=inside, material=METAL)
    m.polygon(((-t, s.height, z1), (t, s.height, z1), (t, s.height, z2), (-t, s.height, z2)), ROOF, inside=inside)
    m.layer = 5
    m.polygon(panel(screen, 0.06, 0.94, 0.04, 0.9), WINDOW, inside=inside, material=GLASS)
    m.polygon(panel(back, 0.1, 0.9, 0.15, 0.88), WINDOW, inside=inside, material=GLASS)
    for sign in (-1.0, 1.0):
        m.layer = 6
        wall: Quad = (
            (sign * w, s.belt, z0),
            (sign * w, s.belt, z3),
            (sign * t, s.height, z2),
            (sign * t, s.height, z1),
        )
        m.polygon(wall, BODY, inside=inside, material=METAL)
        m.layer = 7
        first = 0.5 if s.windows == 1 and s.rear_base < 0.1 else 0.1
        step = (0.93 - first) / s.windows
        for k in range(s.windows):
            pane = panel(wall, first + k * step, first + (k + 0.9) * step, 0.08, 0.84)
            m.polygon(pane, WINDOW, inside=inside, material=GLASS)
        m.bar(
            (sign * (w + 0.02), s.belt + 0.1, z3 - 0.35), (sign * (w + 0.18), s.belt + 0.1, z3 - 0.35), 0.08, 0.08, TRIM
        )


@cache
def car(shape: int) -> Mesh:
    """Returns car number ``shape`` of `CAR_SHAPES`."""
    m = MeshBuilder()
    _car_body(m, CAR_SHAPES[shape])
    _car_cabin(m, CAR_SHAPES[shape])
    return m.build()


def add_window_row(m: MeshBuilder, wall: Quad, count: int, low: float, high: float, inside: Point, gap: float) -> None:
    """Adds ``count`` windows between the heights ``low`` and ``high`` of a wall, in its own coordinates."""
    for k in range(count):
        pane = panel(wall, 0.03 + 0.94 * (k + gap) / count, 0.03 + 0.94 * (k + 1 - gap) / count, low, high)
        m.polygon(pane, WINDOW, inside=inside, material=GLASS)


@cache
def bus(length: float, height: float, decks: int) -> Mesh:
    """Returns a city bus: long window band, doors on the right, lit destination above the windscreen."""
    m = MeshBuilder()
    w, half = 1.25, length / 2
    inside = (0.0, 1.5, 0.0)
    faces = m.box((-w, 0.3, -half), (w, height, half), BODY, material=METAL, top=ROOF)
    m.layer = 1
    for side in ("left", "right"):
        wall = faces[side]
        m.polygon(panel(wall, 0.0, 1.0, 0.0, 0.14), SECOND, inside=inside)
        for deck in range(decks):
            low = (1.35 + 2.0 * deck) / height
            add_window_row(m, wall, max(4, int(length / 1.6)), low, low + 0.95 / height, inside, 0.04)
        for z in (-half + 0.25 * length, half - 2.6):
            add_wheel(m, (-w if side == "left" else w) * 1.01, z, 0.5, 0.3)
    for u in (0.42, 0.84):
        m.polygon(panel(faces["right"], u, u + 0.10, 0.05, 0.72), TRIM, inside=inside)
        m.polygon(panel(faces["right"], u + 0.01, u + 0.09, 0.12, 0.7), WINDOW, inside=inside, material=GLASS)
    m.layer = 2
    add_ends(m, panel(faces["front"], 0, 1, 0, 0.3), panel(faces["back"], 0, 1, 0, 0.4), inside)
    m.polygon(panel(faces["front"], 0.05, 0.95, 0.34, 0.84), WINDOW, inside=inside, material=GLASS)
    m.polygon(panel(faces["front"], 0.15, 0.85, 0.87, 0.97), TRIM, inside=inside)
    m.polygon(panel(faces["back"], 0.12, 0.88, 0.52, 0.85), WINDOW, inside=inside, material=GLASS)
    m.layer = 3
    m.polygon(panel(faces["front"], 0.25, 0.75, 0.89, 0.95), PLATE, inside=inside, material=GLOW)
    return m.build()
