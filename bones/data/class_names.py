"""Which names of classes mean positive: normal and fractured, 0 and 1, or those that the user names."""

import itertools
import re

from bones.system.errors import DataError
from bones.system.files import printable

NEGATIVE = {"0", "negative", "neg", "normal", "healthy", "intact", "not", "non", "no", "without", "false", "unremarkable"}
NEGATIONS = {"not", "non", "no", "without"}
POSITIVE = {"1", "positive", "pos", "abnormal", "yes", "true", "fracture", "fractured", "fractures", "broken", "injured"}


def label_of_name(name):
    """1 or 0 where a class's name says it, and None otherwise: "Non_fractured" 0, "abnormal" 1, "group A" None.

    What a negation denies is the word after it: "Non-displaced fracture" says nothing.
    """
    words = [word for word in re.split(r"[\W_]+", name.strip().lower()) if word]
    others = [after for word, after in itertools.pairwise(words) if word in NEGATIONS and after not in POSITIVE]
    if others and any(word in POSITIVE for word in words):
        return None
    if any(word in NEGATIVE or re.match(r"(non?|un|not)(fractur|broken|injur)", word) for word in words):
        return 0
    return 1 if any(word in POSITIVE for word in words) else None


def class_labels(names, positive, where):
    """The labels of classes.

    Args:
        names: of the classes that were found.
        positive: name of the positive class as the user gave it, or None.
        where: where they are, for messages.
    Returns: {name: 1 positive or 0 negative}. Of two classes, one that is negative by its name makes the other positive.
    Raises: DataError when the names do not say it.
    """
    shown = ", ".join(printable(name)[:40] for name in sorted(names)[:8]) + ", ..." * (len(names) > 8)
    if positive is not None:
        labels = {name: int(name.strip().lower() == positive.strip().lower()) for name in names}
        if len(names) > 2 or not any(labels.values()):
            raise DataError(
                f"{where}: the classes are {shown}; expected two, of which --positive {printable(positive)} is one."
            )
        return labels
    labels = {name: label_of_name(name) for name in names}
    unknown = [name for name in names if labels[name] is None]
    if unknown and len(names) > 2:
        raise DataError(
            f"{where}: {len(names)} classes are there ({shown}); expected two, such as normal and fractured.\n"
            "Merge them into two, or leave out those that are not of interest."
        )
    if len(names) == 2 and len(unknown) == 1 and 0 in labels.values():
        labels[unknown[0]] = 1
    elif unknown or (len(names) > 1 and len({*labels.values()}) == 1):
        raise DataError(
            f"{where}: the classes are {shown}, and their names do not say which one is positive (abnormal).\n"
            "Expected two, such as normal and fractured. Pass the name of the positive one as --positive NAME."
        )
    return labels


def in_words(labels):
    """[sentence] on which classes are positive and which negative; [] where their names are the labels themselves.

    Args: labels: {name: label}.
    """
    if {*labels} <= {"0", "1", "negative", "positive"}:
        return []
    found = {label: ", ".join(sorted(printable(name)[:40] for name in labels if labels[name] == label)) for label in (1, 0)}
    return [f"positive is {found[1] or 'no class'}; negative is {found[0] or 'no class'}"]
