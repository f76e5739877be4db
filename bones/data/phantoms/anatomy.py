"""Anatomy of an upper arm: path lengths of X-rays in millimetres through bone and soft tissue.

`along` runs down the humerus from the centre of its head, `across` is positive towards the trunk; both are (height, width) maps
in millimetres.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass
class Arm:
    """One patient's upper arm, millimetres."""

    length: float  # of the humerus
    shaft: float  # radius of its shaft
    cortex: float  # thickness of its wall in mid-shaft
    flesh: float  # radius of the arm
    growth_plate: bool  # a child's, open: a dark line, not a fracture
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
    middle = np.interp(s, [-25, 20, 60], [9, 5, 0]) * unit * (1 - 0.5 * lateral)  # the head is closer to the trunk
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
    for slope, thickness in ((-0.45, 5.0), (0.25, 2.5)):  # anterior and posterior ribs slope in opposite directions
        phase = (along - slope * inward + 0.004 * slope * inward**2) / (28 + 5 * slope) + rng.uniform(0, 1)
        ribs = ribs + thickness * np.clip(np.cos(2 * np.pi * phase) - 0.55, 0, 0.3) / 0.3
    ribs = ribs * (depth > 0) * np.sqrt(depth) * np.clip((along + 20) / 30, 0, 1)
    return soft, ribs


def flesh(arm, along, across, rng):
    """Path length of soft tissue through upper arm and forearm, with a muscle edge and in some up to two skin folds."""
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
