"""Columns of a table of views, which has one row a view.

A module of its own because bones.scores imports nothing else of bones.data.
"""

COLUMNS = ["path", "split", "study_type", "patient", "study", "view", "label"]
STUDY = ["study_type", "patient", "study"]  # columns that identify a study


def root_of(patient):
    """Name of a patient's data root; empty where there is a single one, see bones.data.roots."""
    return patient.rpartition("/")[0]
