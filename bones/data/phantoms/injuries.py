"""Abnormalities of positive phantom studies: a fracture of the humerus, or the hardware that fixes one."""

import dataclasses

import numpy as np

from bones.data.phantoms.anatomy import forearm, humerus, rod

KINDS = ("transverse", "oblique", "spiral", "displaced", "plate", "nail")


@dataclasses.dataclass
class Injury:
    """The abnormality of a positive study; lengths in millimetres, angles in radians."""

    kind: str  # of KINDS, or "none"
    place: float  # along the humerus, its middle
    gap: float = 0.0  # between the fragments
    slope: float = 0.0  # of the line, along per across
    twist: float = 0.0  # half the height that a spiral climbs
    shift: tuple = (0.0, 0.0)  # of the lower fragment, along and across
    angle: float = 0.0  # of the lower fragment
    seed: int = 0  # of the jagged line and of the positions of the screws


def draw_injury(kind, place, arm, severity, rng):
    """An injury of a kind at a place of an arm; `severity` scales gaps, and up to 1.5 shifts and angles. Returns: Injury."""
    sign, shift = rng.choice([-1, 1]), min(severity, 1.5)  # a fragment shifted further would leave the image
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
    else:  # in half of the studies with hardware the fracture has healed
        injury.gap *= 0.5 * rng.integers(0, 2)
    return injury


def broken_humerus(arm, injury, along, across, lateral, pixel):
    """(bone, near): path length through both fragments of humerus and the forearm below, and a mask of where the injury shows.

    Args:
        pixel: millimetres a pixel; the edges of the line are blurred by that much.
    """
    if injury.kind == "none":
        return humerus(arm, along, across, lateral) + forearm(arm, along, across), np.zeros(along.shape, bool)
    # Position of the lower fragment before it moved: undo the shift, then turn back about the fracture.
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
