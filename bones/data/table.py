"""What a table of views is: one row a view, with these columns; the currency of the whole repository.

It stands alone because bones.scores imports nothing else of bones.data.
"""

COLUMNS = ["path", "split", "study_type", "patient", "study", "view", "label"]
STUDY = ["study_type", "patient", "study"]  # those that together name one study
