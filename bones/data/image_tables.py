"""Data sets as a table: a .csv file with a path and a label in each row, and what else is known of the image."""

import collections
import functools
import itertools
import os
import re
from pathlib import Path

import numpy as np

from bones.data.class_names import class_labels, in_words
from bones.data.layouts import SPLITS, Root, directly, ends_of, in_both, single_type, types_in_words
from bones.data.table import COLUMNS
from bones.system.errors import DataError
from bones.system.files import printable, read_table, separator

FORM = "Expected columns path (relative to the file) and label, and if known patient, study, split and study_type."
KNOWN = ("path", "label", "patient", "study", "split", "study_type")
IN_COLUMN = {**SPLITS, **dict.fromkeys(("held-out", "held_out", "heldout"), "held-out"), "tuning": "tuning", "dev": "tuning"}
AS_INTEGER = (r"^([01])\.0+$", r"\1")  # how a label that a spreadsheet made a decimal number reads
SHOWN = 5  # maximum rows that a message names


class ImageTable(Root):
    """A table of images. Rows of validation are for tuning where there are rows of a test, too, and held out otherwise."""

    has_study_folders = False

    def __init__(self, path, positive=None, unsplit="train"):
        """Args: path: .csv file; positive: see `class_labels`; unsplit: split of all rows where there is no such column."""
        self.path, self.folder = Path(path), Path(path).parent
        self.positive, self.unsplit = positive, unsplit

    @functools.cached_property
    def rows(self):
        """Its rows as text, by line number, with the columns that it has of KNOWN. Raises: FileError, DataError."""
        table = read_table(self.path, [], FORM, sep=separator(self.path), dtype=str, na_filter=False, skip_blank_lines=False)
        table.columns = [str(name).strip().lower().replace(" ", "_") for name in table.columns]
        table.index += 2  # lines of the file
        table = table.apply(lambda column: column.str.strip())
        table = table[(table != "").any(axis=1)]
        missing = [name for name in ("path", "label") if name not in table]
        twice = [name for name in KNOWN if list(table).count(name) > 1]
        if twice:
            raise DataError(f"{self.path} has several columns {', '.join(twice)}. Keep one of each.")
        if missing:
            raise DataError(f"{self.path} has no column {' and no column '.join(missing)}; it has {', '.join(table)}. {FORM}")
        if table.empty:
            raise DataError(f"{self.path} has no rows. {FORM}")
        for name in ("path", "label", *(name for name in ("patient", "split", "study_type") if name in table)):
            self.refuse(table[table[name] == ""], f"without a {name.replace('_', ' ')}")
        self.other_columns = [name for name in table if name not in KNOWN]
        return self.resolved(table[[name for name in KNOWN if name in table]])

    def resolved(self, table):
        """The rows with whole paths, labels as numbers, splits as `find_views` has them, and `file`, paths from the folder."""
        files = [self.file(path) for path in table["path"]]
        is_absent = np.array([not os.path.isfile(path) for path in files])
        is_garbled = np.array([any("\udc80" <= sign <= "\udcff" for sign in path) for path in files])
        self.refuse(table[[os.path.isdir(path) for path in files]], "whose path is a folder; name its images")
        self.refuse(
            table[is_absent & is_garbled], "whose file does not exist, and the table is not UTF-8; save it as CSV UTF-8"
        )
        self.refuse(table[is_absent], "whose file does not exist")
        table = table.assign(file=[os.path.normpath(path) for path in table["path"].str.replace("\\", "/")], path=files)
        self.check_once(table)
        words = table["label"].str.replace(*AS_INTEGER, regex=True)
        positive = self.positive and re.sub(*AS_INTEGER, self.positive)
        self.labels = class_labels([*words.unique()], positive, f"{self.path}, column label")
        table = table.assign(label=words.map(self.labels))
        if "split" in table:
            splits = table["split"].str.lower().map(IN_COLUMN)
            self.refuse(table[splits.isna()], f"with a split other than {', '.join(IN_COLUMN)}")
            has_test = (splits == "held-out").any()
            table = table.assign(split=splits if has_test else splits.replace("tuning", "held-out"))
        return table

    def file(self, path):
        """The whole path of a row's image, relative to the table's folder; a backslash separates folders where that exists."""
        found = os.path.join(self.folder, path)
        return found if "\\" not in path or os.path.exists(found) else os.path.join(self.folder, path.replace("\\", "/"))

    def refuse(self, rows, fault):
        """Raise DataError on rows with a fault, if there are any."""
        if len(rows):
            lines = "; ".join(f"line {line}: {printable(path)[:200]}" for line, path in rows["path"].head(SHOWN).items())
            lines += f"; and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
            raise DataError(f"{self.path}: {len(rows)} row{'s' * (len(rows) > 1)} {fault} ({lines}). {FORM}")

    def check_once(self, table):
        """Raise DataError where two rows name one file."""
        first = {}
        for line, path, label in zip(table.index, table["path"], table["label"], strict=True):
            other, other_label = first.setdefault(os.path.realpath(path), (line, label))
            if other != line:
                labels = f"with the labels {other_label} and {label}" if label != other_label else "with the same label"
                raise DataError(
                    f"{self.path}, lines {other} and {line}: both name {printable(path)}, {labels}. Keep one row of each file."
                )

    @functools.cached_property
    def views(self):
        """All rows as a table of views."""
        rows, names = self.rows, self.rows["file"].str.replace("/", ":")  # a slash would end the name of a root
        given = rows["study"].where(rows["study"] != "", names).str.replace("/", ":") if "study" in rows else names
        patient = rows["patient"].str.replace("/", ":") if "patient" in rows else given
        study = given if self.has_studies else names
        split, kind = rows.get("split", self.unsplit), rows.get("study_type", "")
        view = [os.path.basename(path) for path in rows["path"]] if not self.has_studies else names
        return rows[["path", "label"]].assign(split=split, study_type=kind, patient=patient, study=study, view=view)[COLUMNS]

    @functools.cached_property
    def line_of(self):
        """{real path of an image: line}."""
        return {os.path.realpath(path): line for line, path in self.rows["path"].items()}

    @functools.cached_property
    def files(self):
        """Paths of its images from `folder` on."""
        return {*self.rows["file"]}

    @property
    def has_patients(self):
        return "patient" in self.rows

    @functools.cached_property
    def has_studies(self):
        """Whether images of one study are scored together: they have one label."""
        return "study" in self.rows and self.mixed == 0

    @functools.cached_property
    def mixed(self):
        """Number of studies with images of both labels."""
        keys = [name for name in ("study_type", "patient", "study") if name in self.rows]
        studies = self.rows[self.rows["study"] != ""].groupby(keys) if "study" in keys else None
        return 0 if studies is None else int((studies["label"].nunique() > 1).sum())

    @property
    def notes(self):
        """What missing columns mean."""
        rows, found = self.rows, in_words(self.labels)
        if "patient" not in rows:
            one = "study" if "study" in rows else "image"
            found.append(f"no column patient: patients are unknown, and each {one} counts as a patient of its own")
        if self.mixed:
            found.append(f"{self.mixed} studies have images of both labels, so each image counts as a study of its own")
        elif "study" not in rows:
            found.append("no column study: each image counts as a study of its own")
        if "split" not in rows:
            found.append(
                f"no column split: all {len(rows)} images are {'for training' if self.unsplit == 'train' else 'scored'}"
            )
        elif (rows["split"] == "tuning").any():
            found.append("rows of validation are for tuning, in place of --tuning-fraction")
        if "study_type" not in rows:
            found.append("no column study_type: all images are of one type")
        if self.other_columns:
            found.append(f"columns without effect: {', '.join(map(printable, self.other_columns))}")
        return found

    def has(self, split):
        return bool((self.views["split"] == split).any())

    def types(self, split):
        return [*self.views["study_type"].unique()] if "study_type" in self.rows else []

    def place(self, split):
        return f"{self.path} ({split} rows)"

    def find(self, split, study_types, attempt=directly):
        views = self.views[self.views["split"].isin(("train", "tuning") if split == "train" else (split,))]
        if "study_type" not in self.rows:
            views = views.assign(study_type=single_type(self.path, study_types))
        elif "all" not in study_types:
            views = views[views["study_type"].isin(study_types)]
        return views.reset_index(drop=True)

    def check(self, views, split, study_types):
        if views.empty:
            counts = collections.Counter(self.views["split"] + " " + self.views["study_type"])
            found = ", ".join(f"{count} {words.strip()}" for words, count in counts.items())
            raise DataError(
                f"{self.path} has no {split} rows of {types_in_words(study_types)} (found: {found}).\n"
                "Check its columns split and study_type, and --study-type"
                f"{', or pass --split tuning to score the tuning images' if split == 'held-out' else ''}."
            )
        splits = self.views.groupby("patient")["split"].nunique()
        both = sorted(splits.index[splits > 1])
        if both:
            raise DataError(in_both(both, f"splits of {self.path}"))

    def locate(self, parts, exists):
        return next((end for end in ends_of(parts) if end in self.files), None)


@functools.lru_cache(8)  # roots are opened many times, and tables that have passed stay the same
def check_apart(tables):
    """Raise DataError where two of some ImageTables name one file, or have a patient in different splits."""
    for one, other in itertools.combinations(tables, 2):
        both = [path for path in one.line_of if path in other.line_of]
        if both:
            first, second = (table.line_of[both[0]] for table in (one, other))
            raise DataError(
                f"{one}, line {first}, and {other}, line {second}: both name {printable(both[0])}"
                f"{f', and {len(both) - 1} more are in both' * (len(both) > 1)}. Keep one row of each file."
            )
        splits = [table.views.groupby("split")["patient"].agg(set) for table in (one, other) if table.has_patients]
        for here, there in itertools.product(*(part.items() for part in splits)) if len(splits) == 2 else ():
            shared = sorted(here[1] & there[1]) if here[0] != there[0] else []
            if shared:
                places = f"{one} ({here[0]} rows) and {other} ({there[0]} rows)"
                raise DataError(f"{in_both(shared, places)} Or give different people different names.")
