"""Names of the scores, in the order in which they are printed, and what kind each is of; it imports no library."""

import math

NUMBERS = {
    "auroc": "AUROC",
    "average_precision": "average precision",
    "kappa": "Cohen's kappa",
    "accuracy": "accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "f1": "F1",
    "log_loss": "log loss",
    "d2_log_loss": "log loss skill",
    "brier": "Brier score",
    "d2_brier": "Brier skill",
    "ece": "ECE",
}
RANKING = ("auroc", "average_precision")  # those of NUMBERS that depend on the order of the probabilities alone
DECISIONS = ("kappa", "accuracy", "sensitivity", "specificity", "f1")  # those that depend on the threshold
PROPER = ("log_loss", "d2_log_loss", "brier", "d2_brier")  # best in expectation where the probabilities are the true ones
# ECE has no interval: noise alone makes it positive, so that quantiles of its draws are not one.
WITH_INTERVAL = (*RANKING, *DECISIONS, *PROPER)
LOWEST = {"kappa": -1.0, "d2_log_loss": -math.inf, "d2_brier": -math.inf}  # smallest possible value; of the others 0
HIGHEST = {"log_loss": math.inf}  # largest possible value; of the others 1
BINS = 10  # of equal width, for the expected calibration error and the reliability diagram
