"""Render a radiograph of an arm and an injury: framing, attenuation, exposure, borders, markers, all independent of the label.

A map of path lengths in millimetres is converted to grey by the law of attenuation, I = I0 exp(-sum mu t), with quantum noise,
scatter, blur and a display curve.
"""

import dataclasses

import numpy as np
from PIL import Image, ImageDraw, ImageFont  # markers, PNG files
from scipy import ndimage  # blur

from bones.data.phantoms.anatomy import flesh, shoulder, trunk
from bones.data.phantoms.injuries import broken_humerus, hardware

# Linear attenuation per millimetre at about 60 keV effective, close to NIST's X-ray mass attenuation tables (NISTIR 5632):
# muscle 0.021, cortical bone 0.060; metal is titanium; steel would look the same.
MU_SOFT, MU_BONE, MU_METAL = 0.021, 0.060, 0.35


@dataclasses.dataclass
class Framing:
    """Framing and display of a view; drawn independently of the label."""

    width: int  # pixels
    height: int
    pixel: float  # millimetres a pixel
    turn: float  # of the arm in the image, radians
    mirrored: bool
    centre: tuple  # of the image, (along, across) millimetres
    lateral: float  # 0 from the front, 1 from the side
    field: tuple | None  # (half height, half width, turn): exposed field as shares of the image, None covers all of it
    edges: tuple  # which of its four sides show a bright edge
    marker: str  # "", "L" or "R"
    marker_place: tuple  # shares of the image
    inverted: bool
    mode: str  # L or RGB
    seed: int  # of the texture, noise and exposure


def draw_framing(arm, place, side, size, zoom, rng):
    """A view's framing around a position on the arm, magnified by `zoom`. Returns: Framing."""
    field_of_view = rng.uniform(0.62, 1.15) * arm.length / zoom  # of the long side, millimetres
    long, short = size, int(size * rng.uniform(0.62, 1.0))
    across_film = rng.random() < 0.2  # arm lies across: the long side is the width
    width, height = (long, short) if across_film else (short, long)
    turn = rng.normal(0, 0.16) + (np.pi / 2 * rng.choice([-1, 1]) if across_film else np.pi * (rng.random() < 0.08))
    reach = 0.25 * field_of_view  # the position may be off-centre, but in the image
    pull = 0.35 / zoom  # from the position towards the middle of the arm
    centre = ((1 - pull) * place + pull * arm.length / 2 + rng.uniform(-0.4, 0.4) * reach, rng.uniform(-0.15, 0.35) * reach)
    bordered = rng.random() < 0.45
    field = (rng.uniform(0.86, 0.99), rng.uniform(0.86, 0.99), rng.normal(0, 0.07) * (rng.random() < 0.5)) if bordered else None
    return Framing(
        width=width,
        height=height,
        pixel=field_of_view / long,
        turn=turn,
        mirrored=side == "R",
        centre=centre,
        lateral=float(rng.random() < 0.4),
        field=field,
        edges=tuple(bool(edge) for edge in rng.random(4) < 0.6),
        marker=side if rng.random() < 0.6 else "",
        marker_place=(rng.uniform(0.06, 0.94), rng.choice([rng.uniform(0.05, 0.15), rng.uniform(0.85, 0.95)])),
        inverted=bool(rng.random() < 0.08),
        mode=str(rng.choice(["L", "RGB"], p=[0.7, 0.3])),
        seed=int(rng.integers(2**31)),
    )


def draw_film(arm, injury, framing):
    """One view.

    Returns: (grey, box): (height, width) uint8, and the (left, top, right, bottom) of the abnormality in pixels, None if
        there is none.
    """
    rng = np.random.default_rng(framing.seed)
    y, x = np.mgrid[: framing.height, : framing.width].astype(np.float32)
    y, x = (y - framing.height / 2) * framing.pixel, (x - framing.width / 2) * framing.pixel
    x = -x if framing.mirrored else x
    cos, sin = np.cos(framing.turn), np.sin(framing.turn)
    along, across = cos * y + sin * x + framing.centre[0], cos * x - sin * y + framing.centre[1]

    soft = flesh(arm, along, across, rng)
    chest, ribs = trunk(arm, along, across, rng)
    bone, near = broken_humerus(arm, injury, along, across, framing.lateral, framing.pixel)
    bone = bone + ribs + shoulder(arm, along, across)
    metal = hardware(arm, injury, along, across, framing.lateral)
    near |= metal > 0
    lines = clothing(along, across, arm, rng)
    depth = (
        MU_SOFT * np.maximum(soft, chest)
        + MU_BONE * bone * texture(bone.shape, framing.pixel, rng)
        + MU_METAL * (metal + lines)
    )
    grey = expose(depth, framing.pixel, rng)
    grey = frame(grey, near, framing, rng)
    rows, columns = np.nonzero(near)
    box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) if len(rows) else None
    return grey, box


def texture(shape, pixel, rng):
    """Trabecular texture of bone, a factor about 1 with a grain of about 1.5 mm."""
    grain = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), max(0.5, 0.7 / pixel))
    return 1 + 0.05 * grain / grain.std()


def clothing(along, across, arm, rng):
    """Path length through metal other than hardware: a chain or buttons over the trunk or beside the arm, in some images."""
    metal = np.zeros(along.shape, np.float32)
    for _ in range(rng.integers(1, 4) if rng.random() < 0.15 else 0):
        a, c = rng.uniform(-60, arm.length), arm.trunk + rng.uniform(-20, 60)
        metal += 5.0 * (np.hypot(along - a, across - c) < rng.uniform(2, 6))
    if rng.random() < 0.08:
        bend, start = rng.uniform(-0.004, 0.004), arm.trunk + rng.uniform(0, 30)
        metal += 2.0 * (np.abs(across - start - bend * (along - 60) ** 2) < 0.8)
    return metal


def expose(depth, pixel, rng):
    """From attenuation, the sum of mu t, to grey between 0 and 1.

    Scatter adds a blurred share of the light; quantum noise is higher at low exposure; the detector blurs; the display shows
    the logarithm through a sigmoid window.
    """
    light = np.exp(-depth)
    light = light + rng.uniform(0.01, 0.05) * ndimage.uniform_filter(light, int(25 / pixel) + 1)
    quanta = 10 ** rng.uniform(3.4, 4.4) * pixel**2
    light = light + np.sqrt(light / quanta) * rng.standard_normal(light.shape, dtype=np.float32)
    light = ndimage.gaussian_filter(light, rng.uniform(0.3, 0.7))
    depth = -np.log(np.clip(light, 1e-3, None))
    level, window = rng.uniform(1.5, 2.3), rng.uniform(0.45, 0.8)
    fog = rng.uniform(0.0, 0.12)
    return fog + (1 - fog) / (1 + np.exp(-(depth - level) / window))


def frame(grey, near, framing, rng):
    """Mask outside the exposed field with its bright edges, add the marker, invert. Returns: (height, width) uint8."""
    height, width = grey.shape
    if framing.field:
        half_height, half_width, turn = framing.field
        y, x = np.mgrid[:height, :width].astype(np.float32)
        y, x = y - height / 2, x - width / 2
        v, u = np.cos(turn) * y - np.sin(turn) * x, np.cos(turn) * x + np.sin(turn) * y
        inside = np.stack(
            [half_height * height / 2 - v, half_height * height / 2 + v, half_width * width / 2 - u, half_width * width / 2 + u]
        )
        thick = rng.uniform(0.002, 0.007) * max(height, width)
        for distance, bright in zip(inside, framing.edges, strict=True):
            if bright:
                grey = np.where(distance < thick, rng.uniform(0.75, 1.0), grey)
        grey = np.where(inside.min(0) < 0, 0.0, grey)
        near &= inside.min(0) >= 0
    image = Image.fromarray((np.clip(grey, 0, 1) * 255).astype(np.uint8))
    if framing.marker:
        place = tuple(int(share * side) for share, side in zip(framing.marker_place, (width, height), strict=True))
        font = ImageFont.load_default(max(8, int(0.055 * max(width, height))))
        ImageDraw.Draw(image).text(place, framing.marker, fill=255, font=font, anchor="mm")
    return 255 - np.asarray(image) if framing.inverted else np.asarray(image)
