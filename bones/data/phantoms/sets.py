"""Draws synthetic upper-arm radiographs in MURA's layout: data to run everything on where MURA is not at hand.

    python phantom.py --out data/phantom --train-studies 400 --held-out-studies 120 --seed 0

A film is a map of path lengths in millimetres through soft tissue, bone and metal, turned into grey by the law of attenuation,
I = I0 exp(-sum mu t), with quantum noise, scatter, blur and a display curve. Positive studies have a fracture (transverse,
oblique, spiral or displaced) or hardware (plate and screws, nail). All else (anatomy, framing, exposure, markers, borders,
inversion, colour mode) is drawn from a stream of random numbers that does not know the label. `truth.csv` beside train/ and
valid/ tells what was drawn where. Numbers measured on phantoms say that code works, nothing about patients.
"""

import argparse
import dataclasses
import json
import shlex
import shutil
import sys
from pathlib import Path

if __name__ == "__main__":
    from bones.system import scripts as interrupts

    interrupts.quit_at_once()

import joblib  # drawing on all cores
import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont  # markers, PNG files
from scipy import ndimage  # blur
from tqdm import tqdm  # progress bar

from bones.data import images
from bones.system.errors import DataError, PhantomError

VERSION = 1  # of the drawing; raise it when films of the same seed come out differently
STUDY_TYPE = "XR_HUMERUS"
NOTE = "PHANTOM.json"  # marks a data root as drawn, and says how

# Linear attenuation per millimetre at about 60 keV effective, close to NIST's X-ray mass attenuation tables (NISTIR 5632):
# muscle 0.021, cortical bone 0.060; metal is titanium, steel is beyond what a film tells apart.
MU_SOFT, MU_BONE, MU_METAL = 0.021, 0.060, 0.35

KINDS = ("transverse", "oblique", "spiral", "displaced", "plate", "nail")
TRUTH_COLUMNS = [
    "path",
    "label",
    "kind",
    "left",
    "top",
    "right",
    "bottom",
    "mode",
    "width",
    "height",
    "border",
    "marker",
    "inverted",
]


# Of the options of a set: least and most.
RANGES = {
    "train_studies": (2, 10**6),
    "held_out_studies": (0, 10**6),
    "size": (32, 4096),
    "severity": (0, 10),
    "zoom": (0.2, 10),
    "seed": (0, 2**31),
}


# ---------------------------------------------------------------------------------------------------------------------
# Anatomy: path lengths in millimetres. `along` runs down the humerus from the centre of its head, `across` is positive
# towards the trunk; both are (height, width) maps in millimetres.


@dataclasses.dataclass
class Arm:
    """One patient's upper arm, millimetres."""

    length: float  # of the humerus
    shaft: float  # radius of its shaft
    cortex: float  # thickness of its wall in mid-shaft
    flesh: float  # radius of the arm
    growth_plate: bool  # a child's, open: a dark line that is no fracture
    flexion: float  # of the elbow, radians
    trunk: float  # distance from the humerus to the flank


def draw_arm(rng):
    """A patient's arm. Returns: Arm."""
    child = rng.random() < 0.15
    scale = rng.uniform(0.62, 0.82) if child else rng.uniform(0.92, 1.08)
    return Arm(
        length=305 * scale,
        shaft=11.0 * scale * rng.uniform(0.9, 1.1),
        cortex=4.2 * scale * rng.uniform(0.75, 1.15),
        flesh=46 * scale * rng.uniform(0.8, 1.25),
        growth_plate=child,
        flexion=rng.uniform(0, 1.4),
        trunk=rng.uniform(50, 95) * scale,
    )


def rod(radius, distance):
    """Path length through a cylinder, seen from the side, at a distance from its axis."""
    return 2 * np.sqrt(np.clip(radius**2 - distance**2, 0, None))


def capsule(along, across, start, end, radius, wall):
    """Path length of bone through a hollow rod with round ends from start to end, each (along, across)."""
    (a0, c0), (a1, c1) = start, end
    da, dc = a1 - a0, c1 - c0
    t = np.clip(((along - a0) * da + (across - c0) * dc) / (da**2 + dc**2), 0, 1)
    distance = np.hypot(along - a0 - t * da, across - c0 - t * dc)
    return rod(radius, distance) - 0.85 * rod(max(radius - wall, 0), distance)


def humerus(arm, along, across, lateral):
    """Path length of bone through the humerus: a hollow shaft that widens into the head and the two epicondyles."""
    unit = arm.length / 305
    s = along / unit
    width = np.interp(
        s, [-25, -18, -5, 8, 25, 45, 80, 215, 255, 280, 295, 306], [0, 15, 23, 24, 21, 15, 11.5, 11, 17, 28, 27, 12]
    )
    elbow = np.interp(s, [215, 290], [0, 1])
    width = width * (1 - 0.4 * elbow * lateral)  # from the side the elbow is narrow
    width = width * np.interp(s, [40, 100, 200, 260], [unit, arm.shaft / 11.0, arm.shaft / 11.0, unit])
    middle = np.interp(s, [-25, 20, 60], [9, 5, 0]) * unit * (1 - 0.5 * lateral)  # the head sits towards the trunk
    wall = np.interp(s, [-20, 20, 80, 200, 260], [0.25, 0.3, 1, 1, 0.35]) * arm.cortex
    hollow = np.interp(s, [-20, 30, 80, 210, 260], [0.78, 0.82, 0.96, 0.96, 0.78])  # spongy bone fills the ends
    flat = np.interp(s, [200, 270], [1, 0.55 + 0.3 * lateral])  # the elbow end is flat, seen from the front
    distance = across - middle
    bone = flat * (rod(width, distance) - hollow * rod(np.clip(width - wall, 0, None), distance))
    if arm.growth_plate:
        bone *= 1 - 0.8 * np.exp(-(((s - 24 + 0.02 * across**2) / 1.6) ** 2))
    fossa = np.exp(-(((s - 278) / 8) ** 2) - (across / (9 * unit)) ** 2)
    return np.clip(bone * (1 - 0.5 * fossa * (1 - lateral)), 0, None)


def forearm(arm, along, across):
    """Path length of bone through the ends of ulna and radius at the elbow."""
    down, side = np.cos(arm.flexion), -np.sin(arm.flexion)
    unit, elbow = arm.length / 305, arm.length
    bone = 0
    for offset, radius, start in ((7, 8.0, -14), (-9, 7.0, 6)):
        a, c = elbow + start * unit * down, offset * unit + start * unit * side
        end = (a + 240 * unit * down, c + 240 * unit * side)
        bone = bone + capsule(along, across, (a, c), end, radius * unit, 3.0 * unit)
    return bone


def shoulder(arm, along, across):
    """Path length of bone through clavicle, acromion, glenoid and the border of the shoulder blade."""
    unit = arm.length / 305
    parts = (
        ((-34, 2), (-30, 34), 8, 3),
        ((-34, 20), (-48, 150), 6.5, 2.6),
        ((2, 33), (28, 36), 9, 2),
        ((20, 40), (120, 75), 4, 2),
    )
    return sum(
        capsule(along / unit, across / unit, start, end, radius, wall) * unit * 0.8 for start, end, radius, wall in parts
    )


def trunk(arm, along, across, rng):
    """(soft, bone): path lengths through the chest wall, its lung and its ribs."""
    edge = arm.trunk + 14 * np.sin(along / 120 + rng.uniform(0, 6))
    depth = np.clip((across - edge) / 60, 0, 1)
    below_neck = np.clip((along + 70) / 40, 0, 1)
    lung = np.exp(-(((along - 110) / 95) ** 4) - ((across - edge - 85) / 60) ** 4)
    soft = 150 * np.sqrt(depth) * below_neck * (1 - 0.55 * lung)
    inward = across - edge
    ribs = 0
    for slope, thickness in ((-0.45, 5.0), (0.25, 2.5)):  # ribs in front and behind run down in opposite ways
        phase = (along - slope * inward + 0.004 * slope * inward**2) / (28 + 5 * slope) + rng.uniform(0, 1)
        ribs = ribs + thickness * np.clip(np.cos(2 * np.pi * phase) - 0.55, 0, 0.3) / 0.3
    ribs = ribs * (depth > 0) * np.sqrt(depth) * np.clip((along + 20) / 30, 0, 1)
    return soft, ribs


def flesh(arm, along, across, rng):
    """Path length of soft tissue through upper arm and forearm, with a muscle edge and a fold or two in some."""
    unit = arm.length / 305
    radius = arm.flesh * np.interp(along / unit, [-90, -55, -20, 40, 150, 290, 330], [0.1, 0.75, 1.15, 1.1, 0.95, 0.85, 0.8])
    soft = rod(radius, across - 6 * unit)
    end = (arm.length + 260 * unit * np.cos(arm.flexion), -260 * unit * np.sin(arm.flexion))
    (a1, c1), a0 = end, arm.length
    t = np.clip(((along - a0) * (a1 - a0) + across * c1) / ((a1 - a0) ** 2 + c1**2), 0, 1)
    soft = np.maximum(soft, rod(arm.flesh * 0.82, np.hypot(along - a0 - t * (a1 - a0), across - t * c1)))
    for _ in range(rng.integers(0, 3)):  # folds of skin cross bone and flesh alike
        place, slope = rng.uniform(0, arm.length), rng.uniform(-0.6, 0.6)
        soft = soft + rng.uniform(2, 7) * np.exp(-(((along - place - slope * across) / rng.uniform(1, 4)) ** 2)) * (soft > 0)
    return soft


# ---------------------------------------------------------------------------------------------------------------------
# Pathology


@dataclasses.dataclass
class Injury:
    """What makes a study positive; lengths in millimetres, angles in radians."""

    kind: str  # of KINDS, or "none"
    place: float  # along the humerus, its middle
    gap: float = 0.0  # between the fragments
    slope: float = 0.0  # of the line, along per across
    twist: float = 0.0  # half the height that a spiral climbs
    shift: tuple = (0.0, 0.0)  # of the lower fragment, along and across
    angle: float = 0.0  # of the lower fragment
    seed: int = 0  # of the jagged line and of where the screws sit


def draw_injury(kind, place, arm, severity, rng):
    """An injury of a kind at a place of an arm; `severity` stretches gaps, and up to 1.5 shifts and angles. Returns: Injury."""
    sign, shift = rng.choice([-1, 1]), min(severity, 1.5)  # a fragment shifted further would leave the film
    injury = Injury(kind, place, seed=int(rng.integers(2**31)))
    injury.gap = severity * rng.uniform(1.6, 4.0)
    if kind == "transverse":
        injury.slope, injury.angle = rng.uniform(-0.25, 0.25), shift * sign * rng.uniform(0.0, 0.12)
    elif kind == "oblique":
        injury.slope, injury.shift = sign * rng.uniform(0.8, 1.6), (0.0, shift * sign * rng.uniform(0, 3))
    elif kind == "spiral":
        injury.twist, injury.shift = sign * rng.uniform(20, 38), (0.0, shift * rng.uniform(-3, 3))
    elif kind == "displaced":
        across = shift * sign * arm.shaft * rng.uniform(0.6, 1.9)
        injury.slope, injury.shift = rng.uniform(-0.5, 0.5), (shift * rng.uniform(-16, 3), across)
        injury.angle = shift * rng.uniform(-0.4, 0.4)
    else:  # hardware holds a fracture that has healed in half of the studies
        injury.gap *= 0.5 * rng.integers(0, 2)
    return injury


def broken_humerus(arm, injury, along, across, lateral, pixel):
    """(bone, near): path length through both fragments of humerus and the forearm below, and a mask of where the injury shows.

    Args:
        pixel: millimetres a pixel; edges of the line are as soft as that.
    """
    if injury.kind == "none":
        return humerus(arm, along, across, lateral) + forearm(arm, along, across), np.zeros(along.shape, bool)
    # Where the lower fragment was before it moved: undo the shift, then turn back about the fracture.
    a, c = along - injury.place - injury.shift[0], across - injury.shift[1]
    cos, sin = np.cos(injury.angle), np.sin(injury.angle)
    lower_along, lower_across = cos * a + sin * c + injury.place, cos * c - sin * a
    above = along - fracture_line(arm, injury, across)
    below = lower_along - fracture_line(arm, injury, lower_across)
    upper = humerus(arm, along, across, lateral) * np.clip(0.5 - (above + injury.gap / 2) / pixel, 0, 1)
    lower = humerus(arm, lower_along, lower_across, lateral) * np.clip(0.5 + (below - injury.gap / 2) / pixel, 0, 1)
    near = (np.abs(above) < injury.gap / 2 + 5) | (np.abs(below) < injury.gap / 2 + 5)
    near &= (np.abs(across) < arm.shaft + 2) | (np.abs(lower_across) < arm.shaft + 2)
    return upper + lower + forearm(arm, lower_along, lower_across), near if injury.gap else np.zeros(along.shape, bool)


def fracture_line(arm, injury, across):
    """`along` of the fracture at each `across`: straight or spiral, and jagged."""
    teeth = np.random.default_rng(injury.seed).uniform(-1.3, 1.3, 60)
    jag = np.interp(across, np.linspace(-60, 60, 60), teeth)
    climb = injury.twist * (2 / np.pi) * np.arcsin(np.clip(across / (arm.shaft * 1.05), -1, 1))
    return injury.place + injury.slope * across + climb + jag


def hardware(arm, injury, along, across, lateral):
    """Path length of metal: a plate with screws, seen from its edge or its face, or a nail with locking screws."""
    rng = np.random.default_rng(injury.seed)
    if injury.kind == "nail":
        inside = (along > -14) & (along < 0.82 * arm.length)
        metal = rod(0.42 * arm.shaft, across) * inside
        places = [8, 22, 0.76 * arm.length, 0.8 * arm.length]
        return np.maximum(metal, screws(along, across, places, -1.9 * arm.shaft, 1.3 * arm.shaft))
    if injury.kind != "plate":
        return np.zeros(along.shape)
    half, side = rng.uniform(32, 55), rng.choice([-1, 1])
    spacing = rng.uniform(11, 15)
    places = injury.place + np.arange(-half + 6, half - 4, spacing)
    inside = np.abs(along - injury.place) < half
    if lateral > 0.5:  # face on: wide, thin, with a screw head in each hole
        hole = np.abs((along - injury.place + half - 6 + spacing / 2) % spacing - spacing / 2)
        plate = 3.5 * (inside & (np.abs(across) < 5.5)) * ~(np.hypot(hole, across) < 2.8)
        return plate + 8.0 * (inside & (np.hypot(hole, across) < 2.0))
    plate = 9.0 * (inside & (np.abs(across - side * (arm.shaft + 1.8)) < 1.9))
    reach = sorted((side * (arm.shaft + 2), -side * (arm.shaft + rng.uniform(-1, 3))))
    return np.maximum(plate, screws(along, across, places, *reach))


def screws(along, across, places, start, end):
    """Path length through screws that cross the bone at right angles, 3.5 mm thick."""
    inside = (across > start) & (across < end)
    distance = np.min([np.abs(along - place) for place in places], axis=0)
    return rod(1.75, distance) * inside


# ---------------------------------------------------------------------------------------------------------------------
# Film


@dataclasses.dataclass
class Framing:
    """How a view is taken and shown; drawn without knowledge of the label."""

    width: int  # pixels
    height: int
    pixel: float  # millimetres a pixel
    turn: float  # of the arm on the film, radians
    mirrored: bool
    centre: tuple  # of the film, (along, across) millimetres
    lateral: float  # 0 from the front, 1 from the side
    field: tuple | None  # (half height, half width, turn): exposed field as shares of the film, None covers all of it
    edges: tuple  # which of its four sides show a bright edge
    marker: str  # "", "L" or "R"
    marker_place: tuple  # shares of the film
    inverted: bool
    mode: str  # L or RGB
    seed: int  # of the texture, noise and exposure


def draw_framing(arm, place, side, size, zoom, rng):
    """A view's framing around a place of the arm, which `zoom` magnifies. Returns: Framing."""
    field_of_view = rng.uniform(0.62, 1.15) * arm.length / zoom  # of the long side, millimetres
    long, short = size, int(size * rng.uniform(0.62, 1.0))
    across_film = rng.random() < 0.2  # arm lies across: the long side is the width
    width, height = (long, short) if across_film else (short, long)
    turn = rng.normal(0, 0.16) + (np.pi / 2 * rng.choice([-1, 1]) if across_film else np.pi * (rng.random() < 0.08))
    reach = 0.25 * field_of_view  # the place may lie off-centre, but on the film
    pull = 0.35 / zoom  # from the place towards the middle of the arm
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

    Returns: (grey, box): (height, width) uint8, and the (left, top, right, bottom) of what is abnormal in pixels, None if
        nothing is.
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
    """Path length through metal that is no hardware: a chain or buttons over the trunk or beside the arm, in some films."""
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

    Scatter adds a blurred share of the light; the quanta that arrive are noisy, the fewer the more; the detector blurs; the
    display shows the logarithm through a window with a toe and a shoulder.
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
    """Cut to the exposed field with its bright edges, put the marker, invert. Returns: (height, width) uint8."""
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


# ---------------------------------------------------------------------------------------------------------------------
# Set


def draw_study(root, folder, patient, study, label, kind, size, severity, zoom, seed):
    """Draw one study's views into `root`. Returns: rows of truth.csv."""
    # Two streams: what the label decides must not move what it may not decide.
    neutral = np.random.default_rng([seed, patient, study, 0])
    arm = draw_arm(np.random.default_rng([seed, patient]))
    place, side = neutral.uniform(0.16, 0.84) * arm.length, str(neutral.choice(["L", "R"]))
    framings = [
        draw_framing(arm, place, side, size, zoom, neutral)
        for _ in range(neutral.choice([1, 2, 3, 4], p=[0.2, 0.55, 0.17, 0.08]))
    ]
    injury = (
        draw_injury(kind, place, arm, severity, np.random.default_rng([seed, patient, study, 1]))
        if label
        else Injury("none", place)
    )
    name = f"{folder}/{STUDY_TYPE}/patient{patient:05d}/study{study}_{'positive' if label else 'negative'}"
    (Path(root) / name).mkdir(parents=True)
    rows = []
    for view, framing in enumerate(framings, start=1):
        grey, box = draw_film(arm, injury, framing)
        path = f"{name}/image{view}.png"
        Image.fromarray(grey).convert(framing.mode).save(Path(root) / path)
        notes = framing.mode, framing.width, framing.height, framing.field is not None, framing.marker, framing.inverted
        rows.append((path, label, injury.kind, *(box or (None,) * 4), *notes))
    return rows


def plan(train_studies, held_out_studies, seed):
    """[(folder, patient, study, label, kind)]: who gets what. Half are positive, one patient in twelve has two studies."""
    rng = np.random.default_rng(seed)
    studies, patient = [], 0
    for folder, count in (("train", train_studies), ("valid", held_out_studies)):
        labels = rng.permutation(np.arange(count) % 2)
        kinds = rng.permutation(np.resize(KINDS, count))
        second = False
        for label, kind in zip(labels.tolist(), kinds.tolist(), strict=True):
            second = not second and bool(studies) and studies[-1][0] == folder and rng.random() < 1 / 12
            patient += not second
            studies.append((folder, patient, 2 if second else 1, label, kind))
    return studies


def draw_set(out, train_studies=400, held_out_studies=120, size=512, severity=1.0, zoom=1.0, seed=0):
    """Draw a data root.

    Args:
        out: folder to make; it must not exist.
        train_studies, held_out_studies: how many; about 2.1 views each, half of the studies positive.
        size: long side of a film, pixels.
        severity: factor on gaps of fractures, and up to 1.5 on shifts and angles: below 1 they are harder to see.
        zoom: above 1 a film shows less of the arm, and what is abnormal is larger on it.
        seed: the same seed and options give the same pixels.
    Returns: pandas.DataFrame, truth.csv.
    Raises: PhantomError when `out` exists.
    """
    out = Path(out)
    if out.exists():
        raise PhantomError(f"{out} exists; phantoms are drawn into a new folder. Remove it, or pass another --out.")
    options = {
        "train_studies": train_studies,
        "held_out_studies": held_out_studies,
        "size": size,
        "severity": severity,
        "zoom": zoom,
        "seed": seed,
    }
    for name, (least, most) in RANGES.items():
        if not least <= options[name] <= most:
            raise PhantomError(f"{name.replace('_', ' ')} is {options[name]}; expected {least} to {most:,}.")
    partial = out.with_name(f".{out.name}.partial")  # renamed at the end: a kill never leaves half a set under the real name
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    studies = plan(train_studies, held_out_studies, seed)
    # An absolute path: workers are kept between calls, and so is their working directory.
    jobs = (joblib.delayed(draw_study)(str(partial.absolute()), *study, size, severity, zoom, seed) for study in studies)
    drawn = joblib.Parallel(n_jobs=-1, return_as="generator")(jobs)
    rows = [
        row for study in tqdm(drawn, total=len(studies), desc="Drawing phantoms", unit="study", disable=None) for row in study
    ]
    truth = pd.DataFrame(rows, columns=TRUTH_COLUMNS)
    truth.to_csv(partial / "truth.csv", index=False)
    (partial / NOTE).write_text(json.dumps({"version": VERSION, **options}, indent=2) + "\n")
    partial.rename(out)
    return truth


def contact_sheet(root, file, columns=6, side=200):
    """Draw two films of each kind of injury and as many without, side by side, into one picture.

    Args:
        root: a phantom data root.
        file: .png to write.
        columns: films a row.
        side: pixels that a film is fitted into.
    """
    truth = pd.read_csv(Path(root) / "truth.csv")
    rows = [truth[truth["kind"] == kind].head(2) for kind in KINDS]
    rows.append(truth[truth["kind"] == "none"].head(2 * len(KINDS)))
    films = pd.concat(rows)
    paths = [Path(root) / path for path in films["path"]]
    images.contact_sheet([images.read_grey(path) for path in paths], films["kind"], columns, side).save(file)


def describe(root):
    """One line on a phantom data root, or None for any other."""
    note = Path(root) / NOTE
    if not note.is_file():
        return None
    return "phantom, " + ", ".join(f"{name} {value}" for name, value in json.loads(note.read_text()).items())


def boxes(root, paths):
    """Where views are abnormal, as truth.csv has it.

    Returns: (boxes, sides): what `draw_film` gives as box, (n, 4) left, top, right, bottom as shares of the film's sides, or
        nan; and the films' widths and heights, (n, 2) pixels.
    Raises: DataError when the root is no phantom set.
    """
    truth = Path(root) / "truth.csv"
    if not truth.is_file():
        raise DataError(f"{root} holds no truth.csv: only phantoms (phantom.py) say where what is abnormal lies.")
    found = pd.read_csv(truth).set_index("path").loc[[Path(path).relative_to(root).as_posix() for path in paths]]
    sides = found[["width", "height"]].to_numpy()
    return found[["left", "top", "right", "bottom"]].to_numpy() / np.tile(sides, 2), sides


# Many plain films rather than few hard ones: what a network learns from scratch in three minutes.
DEMO_SET = {"train_studies": 1100, "held_out_studies": 100, "size": 128, "severity": 4.0, "zoom": 2.0}


def ensure(demo=False):
    """The set that is used where no data is given, drawn on first use. Returns: its root, a Path."""
    out = Path("data/phantom_demo" if demo else "data/phantom")
    if not out.exists():
        draw_set(out, **(DEMO_SET if demo else {}))
    note = out / NOTE
    if not note.is_file() or json.loads(note.read_text()).get("version") != VERSION:
        raise PhantomError(f"{out} was not drawn by this version of phantom.py. Remove it, and it is drawn anew.")
    return out


def main(argv=None):
    """Draw a set as the command line says; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="data/phantom", help="data root to make (default %(default)s)")
    parser.add_argument("--train-studies", type=int, default=400, metavar="N", help="studies in train/ (default %(default)s)")
    parser.add_argument(
        "--held-out-studies", type=int, default=120, metavar="N", help="studies in valid/ (default %(default)s)"
    )
    parser.add_argument("--size", type=int, default=512, metavar="PX", help="long side of a film, pixels (default %(default)s)")
    parser.add_argument(
        "--severity",
        type=float,
        default=1.0,
        metavar="X",
        help="factor on gaps and shifts; lower is harder (default %(default)s)",
    )
    parser.add_argument(
        "--zoom", type=float, default=1.0, metavar="X", help="magnification; higher is easier (default %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="draws the set (default %(default)s)")
    parser.add_argument("--sheet", metavar="FILE", help="also draw some of the films side by side into a .png")
    options = vars(parser.parse_args(argv))
    sheet, out = options.pop("sheet"), options["out"]
    if sheet and not sheet.endswith(".png"):
        parser.error(f"--sheet {sheet}: expected a name that ends in .png")
    try:
        truth = draw_set(**options)
        if sheet:
            contact_sheet(out, sheet)
    except OSError as error:
        print(f"phantom.py: {out} cannot be written ({error.strerror}). Make room, or pass another --out.", file=sys.stderr)
        return 1
    except PhantomError as fault:
        print(f"phantom.py: {fault}", file=sys.stderr)
        return 1
    print(f"Drew {len(truth)} views ({truth['label'].sum()} positive) into {out}.")
    print(f"Next: python mura.py --data {shlex.quote(out)} --weights none")
    return 0


if __name__ == "__main__":
    sys.exit(interrupts.run(main))
