"""Meshes of lorries, trams, caravans and trailers; colour slots as in `vehicles`."""

from functools import cache

from multitask.synthetic.mesh import Mesh, MeshBuilder, Quad, panel
from multitask.synthetic.textures import BOARDS, GLASS, GLOW, METAL
from multitask.synthetic.vehicles import (
    BODY,
    HEADLIGHT,
    PLATE,
    ROOF,
    SECOND,
    TAILLIGHT,
    TRIM,
    WINDOW,
    add_ends,
    add_wheel,
    add_window_row,
)

TRUCK_LOADS: tuple[str, ...] = ("box", "tipper", "flat", "tank")


def _cab(m: MeshBuilder, z0: float, z1: float, height: float) -> None:
    """Adds a driver's cab with a nearly upright windscreen."""
    w = 1.15
    inside = (0.0, 1.4, (z0 + z1) / 2)
    faces = m.box((-w, 0.5, z0), (w, height, z1), BODY, material=METAL)
    m.layer = 1
    m.polygon(panel(faces["front"], 0.05, 0.95, 0.5, 0.85), WINDOW, inside=inside, material=GLASS)
    m.polygon(panel(faces["front"], 0.15, 0.85, 0.2, 0.42), TRIM, inside=inside)
    m.polygon(panel(faces["front"], 0.0, 1.0, 0.0, 0.17), TRIM, inside=inside)
    for u in (0.03, 0.8):
        m.polygon(panel(faces["front"], u, u + 0.17, 0.05, 0.15), HEADLIGHT, inside=inside)
    for side, u0 in (("left", 0.08), ("right", 0.42)):
        m.polygon(panel(faces[side], u0, u0 + 0.5, 0.5, 0.83), WINDOW, inside=inside, material=GLASS)
        x = -w if side == "left" else w
        add_wheel(m, x * 1.02, z1 - 0.9, 0.48, 0.3)
        m.bar((x * 1.15, height * 0.6, z1 + 0.05), (x * 1.15, height * 0.8, z1 + 0.05), 0.12, 0.12, TRIM)
    m.layer = 0


def _load(m: MeshBuilder, load: str, z0: float, z1: float, height: float) -> None:
    w, floor = 1.25, 0.95
    inside = (0.0, floor, (z0 + z1) / 2)
    high = {"box": height, "tipper": 2.1, "flat": 1.35, "tank": height * 0.8}[load]
    low = 0.5 if load == "tank" else floor
    faces = m.box((-w, low, z0), (w, high, z1), SECOND, material=BOARDS if load == "tipper" else METAL, top=ROOF)
    m.layer = 1
    m.polygon(panel(faces["back"], 0.48, 0.52, 0.0, 1.0), TRIM, inside=inside)
    for u in (0.0, 0.82):
        m.polygon(panel(faces["back"], u, u + 0.18, 0.0, 0.08), TAILLIGHT, inside=inside)
    if load == "box":
        for side in ("left", "right"):
            m.polygon(panel(faces[side], 0.2, 0.7, 0.35, 0.75), PLATE, inside=inside)
    m.polygon(((-w, 0.5, z0), (w, 0.5, z0), (w, floor, z0), (-w, floor, z0)), TRIM, inside=inside)
    for x in (-w, w):
        m.polygon(((x, 0.6, z0), (x, 0.6, z1), (x, floor, z1), (x, floor, z0)), TRIM, inside=inside)
        for z in (z0 + 0.9, z0 + 2.0):
            add_wheel(m, x * 1.01, z, 0.48, 0.35)
    m.layer = 0


@cache
def truck(length: float, height: float, load: str) -> Mesh:
    """Returns a lorry: a cab in front, and one of `TRUCK_LOADS` behind it."""
    m = MeshBuilder()
    half = length / 2
    _load(m, load, -half, half - 2.3, height)
    m.part = 1
    _cab(m, half - 2.0, half, min(height, 2.3 + 0.1 * length))
    return m.build()


def _tram_front(m: MeshBuilder, z: float, reach: float, height: float) -> None:
    """Adds a tapered nose from ``z`` over the (signed) length ``reach``."""
    w, t = 1.25, 0.85
    end = z + reach
    inside = (0.0, 1.5, z - reach)
    face: Quad = ((t, 0.35, end), (-t, 0.35, end), (-t, height * 0.8, end), (t, height * 0.8, end))
    m.polygon(face, BODY, inside=inside, material=METAL)
    crown: Quad = ((-t, height * 0.8, end), (t, height * 0.8, end), (w, height, z), (-w, height, z))
    m.polygon(crown, ROOF, inside=inside)
    for sign in (-1.0, 1.0):
        cheek: Quad = (
            (sign * w, 0.3, z),
            (sign * t, 0.35, end),
            (sign * t, height * 0.8, end),
            (sign * w, height, z),
        )
        m.polygon(cheek, BODY, inside=inside, material=METAL)
    m.layer = 1
    m.polygon(panel(face, 0.06, 0.94, 0.4, 0.97), WINDOW, inside=inside, material=GLASS)
    for u in (0.08, 0.72):
        m.polygon(panel(face, u, u + 0.2, 0.16, 0.26), HEADLIGHT, inside=inside, material=GLOW)
    m.polygon(panel(face, 0.0, 1.0, 0.0, 0.12), TRIM, inside=inside)
    m.polygon(panel(crown, 0.25, 0.75, 0.15, 0.6), PLATE, inside=inside, material=GLOW)
    m.layer = 0


@cache
def tram(sections: int, length: float, height: float) -> Mesh:
    """Returns a tram: sections with bellows between them, skirts down to the rails, tapered ends and a pantograph."""
    m = MeshBuilder()
    total = sections * length + (sections - 1) * 0.6
    for k in range(sections):
        m.part = 2 * k
        z0 = -total / 2 + k * (length + 0.6)
        inside = (0.0, 1.5, z0 + length / 2)
        faces = m.box((-1.25, 0.25, z0), (1.25, height, z0 + length), BODY, material=METAL, top=ROOF)
        m.layer = 1
        for side in ("left", "right"):
            m.polygon(panel(faces[side], 0, 1, 0, 0.3), SECOND, inside=inside)
            m.polygon(panel(faces[side], 0, 1, 0.84, 0.9), SECOND, inside=inside)
            add_window_row(m, faces[side], 5, 0.38, 0.78, inside, 0.05)
            m.polygon(panel(faces[side], 0.42, 0.58, 0.04, 0.8), WINDOW, inside=inside, material=GLASS)
        m.layer = 0
        if k == 0:
            _tram_front(m, z0, -1.1, height)
        if k == sections - 1:
            _tram_front(m, z0 + length, 1.1, height)
        else:
            m.part = 2 * k + 1
            m.box((-1.1, 0.4, z0 + length), (1.1, height - 0.2, z0 + length + 0.6), TRIM, material=BOARDS)
    m.layer, m.part = 2, 2 * (sections // 2)
    m.bar((0.0, height, 0.0), (0.0, height + 0.6, 0.8), 0.05, 0.05, TRIM)
    m.bar((0.0, height + 0.6, 0.8), (0.0, height + 1.2, 0.0), 0.05, 0.05, TRIM)
    m.bar((-0.8, height + 1.2, 0.0), (0.8, height + 1.2, 0.0), 0.05, 0.05, TRIM)
    return m.build()


@cache
def caravan(is_caravan: bool) -> Mesh:
    """Returns a parked caravan or a small open trailer."""
    m = MeshBuilder()
    low, high, half = (0.35, 2.4, 2.3) if is_caravan else (0.5, 1.0, 1.3)
    inside = (0.0, low, 0.0)
    faces = m.box((-1.0, low, -half), (1.0, high, half), BODY, material=METAL, top=ROOF)
    m.layer = 1
    for x in (-1.0, 1.0):
        add_wheel(m, x * 1.02, 0.0, 0.3)
    for name, quad in faces.items():
        if is_caravan and name != "top":
            m.polygon(panel(quad, 0.2, 0.8, 0.5, 0.8), WINDOW, inside=inside, material=GLASS)
            m.polygon(panel(quad, 0.0, 1.0, 0.2, 0.3), SECOND, inside=inside)
    add_ends(m, panel(faces["front"], 0, 1, 0, 0.01), panel(faces["back"], 0, 1, 0, 0.4), inside)
    m.bar((0.0, 0.45, half), (0.0, 0.45, half + 0.9), 0.06, 0.05, TRIM)
    return m.build()
