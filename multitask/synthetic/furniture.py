"""Meshes of street furniture: poles, lamps, traffic lights, signs, and objects without an evaluated class."""

from functools import cache

from multitask.synthetic.mesh import Mesh, MeshBuilder, Point, Quad, circle, panel
from multitask.synthetic.textures import BOARDS, GLASS, GLOW, METAL, PLASTER

STEEL, HOUSING, RED, AMBER, GREEN, FIELD, EDGE, SYMBOL, BACK = range(9)
"""Colour slots: pole, lamp housing, the three lights, a sign's field, rim, symbol and reverse."""

POLE_OWNER, LIGHT_OWNER, SIGN_OWNER = range(3)
"""Label indices (owners) of a furniture mesh's parts."""

SIGN_SHAPES: tuple[str, ...] = ("disc", "triangle", "yield", "board", "diamond", "octagon", "tall", "arrow")

_ACROSS: Point = (1.0, 0.0, 0.0)
_UP: Point = (0.0, 1.0, 0.0)


def _rectangle(x0: float, x1: float, y0: float, y1: float, z: float) -> list[Point]:
    return [(x0, y0, z), (x1, y0, z), (x1, y1, z), (x0, y1, z)]


def _outline(shape: str, y: float, z: float, size: float, grow: float) -> list[Point]:
    """Returns the outline of a sign centred at height ``y``, ``size`` m across, scaled by ``grow`` about its centre."""
    r = size / 2 * grow
    centre = (0.0, y, z)
    if shape == "disc":
        return circle(centre, r, _ACROSS, _UP, 16)
    if shape == "octagon":
        return circle(centre, r * 1.05, _ACROSS, _UP, 8)
    if shape in ("triangle", "yield"):
        flip = 1.0 if shape == "triangle" else -1.0
        return [(-r, y - flip * r * 0.75, z), (r, y - flip * r * 0.75, z), (0.0, y + flip * r * 1.0, z)]
    if shape == "diamond":
        return [(-r, y, z), (0.0, y - r, z), (r, y, z), (0.0, y + r, z)]
    if shape == "arrow":
        low, high = y - 0.4 * r, y + 0.4 * r
        return [(-1.4 * r, low, z), (1.1 * r, low, z), (1.6 * r, y, z), (1.1 * r, high, z), (-1.4 * r, high, z)]
    wide = 1.6 if shape == "board" else 0.75
    return _rectangle(-r * wide, r * wide, y - r * 1.1, y + r * 1.1, z)


def _sign(m: MeshBuilder, shape: str, y: float, size: float, symbol: int) -> None:
    """Adds a sign that faces -z, with rim, field, symbol and a plain reverse."""
    m.owner, behind, before = SIGN_OWNER, (0.0, y, 0.0), (0.0, y, -0.2)
    m.layer = 2
    m.polygon(_outline(shape, y, -0.1, size, 1.0), EDGE, inside=behind)
    m.polygon(_outline(shape, y, -0.06, size, 1.0), BACK, inside=before)
    m.layer = 3
    m.polygon(_outline(shape, y, -0.1, size, 0.78), FIELD, inside=behind)
    m.layer = 4
    r = size * 0.22
    if symbol == 1:
        m.polygon(_rectangle(-r * 1.2, r * 1.2, y - r * 0.3, y + r * 0.3, -0.1), SYMBOL, inside=behind)
    elif symbol == 2:
        m.polygon(_rectangle(-r * 0.3, r * 0.3, y - r, y + r * 0.7, -0.1), SYMBOL, inside=behind)
    elif symbol == 3:
        m.polygon(circle((0.0, y, -0.1), r * 0.8, _ACROSS, _UP, 8), SYMBOL, inside=behind)
    m.layer, m.owner = 0, POLE_OWNER


@cache
def sign_post(shapes: tuple[str, ...], size: float, low: float, symbol: int, posts: int = 1) -> Mesh:
    """Returns signs above each other on one or two posts, facing -z."""
    m = MeshBuilder()
    y = low + size / 2
    for k, shape in enumerate(shapes):
        _sign(m, shape, y, size, (symbol + k) % 4)
        y += size * 1.15
    spread = 0.0 if posts == 1 else size * 0.7
    for x in (-spread, spread)[:posts]:
        m.bar((x, 0.0, 0.0), (x, y - size * 0.55, 0.0), 0.055, 0.055, STEEL, material=METAL)
    return m.build()


def _light_head(m: MeshBuilder, x: float, y: float, scale: float, lit: int) -> None:
    """Adds a head with three lights facing -z: housing 0.4 x 1.1 m, backboard, and lenses, of which ``lit`` glows."""
    m.owner, m.layer = LIGHT_OWNER, 2
    w, h = 0.2 * scale, 0.55 * scale
    faces = m.box((x - w, y - h, -0.25), (x + w, y + h, -0.02), HOUSING)
    m.layer = 3
    inside = (x, y, 0.0)
    for k, slot in enumerate((GREEN, AMBER, RED)):
        cy = y + (k - 1) * 0.34 * scale
        lens = circle((x, cy, -0.25), 0.145 * scale, _ACROSS, _UP, 10)
        m.polygon(lens, slot if k == lit else BACK, inside=inside, material=GLOW)
    m.polygon(panel(faces["front"], 0.2, 0.8, 0.1, 0.9), BACK, inside=(x, y, -0.2))
    m.owner, m.layer = POLE_OWNER, 0


@cache
def traffic_light(lit: int, arm: bool, sign: bool, pedestrian: bool) -> Mesh:
    """Returns a traffic light on a pole, facing -z; an ``arm`` carries a second head over the road (towards -x)."""
    m = MeshBuilder()
    top = 5.6 if arm else 3.5
    m.bar((0.0, 0.0, 0.0), (0.0, top, 0.0), 0.1, 0.08, STEEL, material=METAL)
    _light_head(m, 0.0, 2.9, 1.15, lit)
    if arm:
        m.bar((0.0, 5.5, 0.0), (-3.8, 5.7, 0.0), 0.07, 0.06, STEEL, material=METAL)
        _light_head(m, -3.6, 5.3, 1.1, lit)
    if pedestrian:
        m.owner, m.layer = LIGHT_OWNER, 2
        m.box((-0.35, 2.1, -0.2), (-0.08, 2.75, 0.2), HOUSING)
        m.owner, m.layer = POLE_OWNER, 0
    if sign:
        _sign(m, "disc" if lit % 2 else "diamond", 4.0, 0.65, 2)
        m.bar((0.0, 3.4, 0.0), (0.0, 4.0, 0.0), 0.07, 0.07, STEEL)
    return m.build()


@cache
def lamp(height: float, arm: float) -> Mesh:
    """Returns a street lamp whose arm reaches ``arm`` m towards -x; all of it is labelled as a pole."""
    m = MeshBuilder()
    m.bar((0.0, 0.0, 0.0), (0.0, 0.9, 0.0), 0.13, 0.12, STEEL, material=METAL)
    m.bar((0.0, 0.5, 0.0), (0.0, height, 0.0), 0.095, 0.06, STEEL, material=METAL)
    if arm > 0:
        m.bar((0.0, height, 0.0), (-arm, height + 0.35, 0.0), 0.06, 0.05, STEEL)
        m.bar((-arm, height + 0.33, 0.0), (-arm - 0.7, height + 0.36, 0.0), 0.1, 0.07, HOUSING)
    else:
        m.bar((0.0, height, 0.0), (0.0, height + 0.45, 0.0), 0.2, 0.28, HOUSING, rounded=True)
    return m.build()


@cache
def plain_pole(height: float, radius: float) -> Mesh:
    """Returns a mast or a bollard."""
    m = MeshBuilder()
    m.bar((0.0, 0.0, 0.0), (0.0, height, 0.0), radius, radius * 0.85, STEEL, material=METAL)
    if height < 1.5:
        m.bar((0.0, height * 0.75, 0.0), (0.0, height * 0.88, 0.0), radius, radius, SYMBOL)
    return m.build()


def _bench(m: MeshBuilder) -> None:
    for x in (-0.8, 0.8):
        m.bar((x, 0.0, 0.0), (x, 0.45, 0.0), 0.05, 0.05, STEEL)
    m.box((-1.0, 0.4, -0.25), (1.0, 0.48, 0.25), FIELD, material=BOARDS)
    m.polygon(((-1.0, 0.55, -0.3), (1.0, 0.55, -0.3), (1.0, 0.9, -0.35), (-1.0, 0.9, -0.35)), FIELD, material=BOARDS)


def _shelter(m: MeshBuilder) -> None:
    m.box((-2.0, 2.35, -0.7), (2.0, 2.5, 0.9), STEEL)
    for x in (-1.9, 1.9):
        for z in (-0.6, 0.7):
            m.bar((x, 0.0, z), (x, 2.4, z), 0.05, 0.05, STEEL)
    wall: Quad = ((-1.9, 0.3, 0.7), (1.9, 0.3, 0.7), (1.9, 2.2, 0.7), (-1.9, 2.2, 0.7))
    m.polygon(wall, BACK, material=GLASS, sheer=True)
    m.polygon(panel(wall, 0.65, 1.0, 0.0, 1.0), FIELD)
    m.polygon(panel(wall, 0.0, 1.0, 0.96, 1.0), STEEL)


def _pram(m: MeshBuilder) -> None:
    for z in (-0.35, 0.35):
        m.bar((0.0, 0.1, z), (0.0, 0.2, z), 0.16, 0.16, EDGE, rounded=True)
    m.bar((0.0, 0.55, -0.4), (0.0, 0.6, 0.4), 0.2, 0.22, FIELD, rounded=True)
    m.bar((0.0, 0.6, 0.3), (0.0, 0.95, 0.15), 0.26, 0.2, SYMBOL, rounded=True)
    m.bar((0.0, 0.5, -0.3), (0.0, 1.0, -0.65), 0.03, 0.03, STEEL)


@cache
def clutter(kind: str) -> Mesh:
    """Returns an object of no evaluated class: bin, box, cabinet, column, bench, shelter, pram, barrier or debris."""
    m = MeshBuilder()
    if kind == "bin":
        m.box((-0.3, 0.1, -0.35), (0.3, 1.0, 0.35), FIELD)
        m.box((-0.33, 1.0, -0.4), (0.33, 1.1, 0.4), EDGE)
    elif kind == "box":
        m.box((-0.5, 0.0, -0.4), (0.5, 0.8, 0.4), FIELD, material=BOARDS)
    elif kind == "cabinet":
        m.box((-0.6, 0.0, -0.25), (0.6, 1.3, 0.25), FIELD, material=PLASTER)
    elif kind == "column":
        m.bar((0.0, 0.0, 0.0), (0.0, 2.9, 0.0), 0.65, 0.65, BACK, material=PLASTER)
        m.bar((0.0, 0.5, 0.0), (0.0, 2.5, 0.0), 0.655, 0.655, FIELD, material=PLASTER)
        m.bar((0.0, 2.85, 0.0), (0.0, 3.1, 0.0), 0.72, 0.5, EDGE)
    elif kind == "bench":
        _bench(m)
    elif kind == "shelter":
        _shelter(m)
    elif kind == "pram":
        _pram(m)
    elif kind == "barrier":
        m.box((-1.0, 0.6, -0.04), (1.0, 0.9, 0.04), EDGE)
        for k in range(4):
            m.polygon(_rectangle(-1.0 + 0.5 * k, -0.75 + 0.5 * k, 0.6, 0.9, -0.05), SYMBOL)
        for x in (-0.8, 0.8):
            m.bar((x, 0.0, 0.0), (x, 1.0, 0.0), 0.05, 0.05, STEEL)
    else:
        m.polygon(circle((0.0, 0.02, 0.0), 0.4, _ACROSS, (0.0, 0.0, 1.0), 7), FIELD)
        m.box((-0.2, 0.0, -0.1), (0.15, 0.2, 0.15), EDGE)
    return m.build()
