"""Small tables of views and of studies, with labels and probabilities."""

import numpy as np
import pandas as pd

RNG = np.random.default_rng(0)
LABEL = RNG.integers(0, 2, 60)
PROBABILITY = np.round(np.clip(0.3 * LABEL + RNG.random(60), 0, 1), 2)  # rounded: with ties


def table(label=LABEL, probability=PROBABILITY, patient=None):
    """A table of studies, two a patient unless told."""
    patient = np.arange(len(label)) // 2 if patient is None else patient
    return pd.DataFrame({"patient": patient, "label": label, "probability": probability})


def predictions(label=LABEL, probability=PROBABILITY):
    """A table of views: one study a patient, three views a study."""
    number = np.arange(len(label)) // 3
    return pd.DataFrame(
        {
            "study_type": "XR_HUMERUS",
            "patient": [f"p{one}" for one in number],
            "study": "s1",
            "view": [f"image{one}" for one in np.arange(len(label)) % 3],
            "label": np.asarray(label)[number * 3],
            "probability": probability,
        }
    )
