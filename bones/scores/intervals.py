"""95 % confidence intervals of many scores at once, from 2,000 bootstrap samples of patients; of recipes, also over seeds.

Patients are resampled, not views: views of one patient are correlated, and an interval that treats them as independent is too
narrow. A draw is a vector of weights, how often each patient was drawn, so that a score of all draws is a matrix product.
`python -m tools.coverage` measures on simulated studies how often the intervals contain the truth.
"""

import numpy as np
from scipy import stats  # normal, t and binomial distributions

DRAWS = 2000
TAIL = 0.025  # on each side of a 95 % interval
CHUNK = 250  # draws per batch: limits memory, and is faster than all at once
GROUPS = 500  # maximum number of leave-one-out samples


def intervals(statistics, patient, draws=DRAWS, seed=0):
    """95 % intervals of several statistics.

    Args:
        statistics: f(weight) -> {name: values}: weight is (draws, n), how often each of the n units (views or studies) counts.
            Values are (draws,), nan where undefined.
        patient: (n,) the patient of each unit. The same patients give the same draws, so that statistics of two runs on the
            same patients can be subtracted draw by draw: a paired bootstrap.
        draws, seed: number of bootstrap samples, and the random seed.
    Returns: {name: (low, high)}; None where the draws do not differ (for example, no errors) or all are undefined.
    """
    patient = np.unique(np.asarray(patient), return_inverse=True)[1]
    whole = evaluate(statistics, [np.ones((1, len(patient)))])
    drawn = evaluate(statistics, draw_patients(patient, draws, seed))
    left_out = evaluate(statistics, leave_out(patient))
    return {name: bca_interval(whole[name][0], values, left_out[name]) for name, values in drawn.items()}


def evaluate(statistics, chunks):
    """Statistics of every row of weights, computed by chunk. Returns: {name: (weightings, ...)}, as `statistics` has them."""
    with np.errstate(divide="ignore", invalid="ignore"):  # undefined: nan
        parts = [statistics(weight) for weight in chunks]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def draw_patients(patient, draws=DRAWS, seed=0):
    """Weights of units when patients are drawn with replacement, as many as there are.

    Args:
        patient: (n,) int, numbered from 0.
    Yields: (at most CHUNK, n) float64, `draws` rows in all.
    """
    rng, count = np.random.default_rng(seed), patient.max() + 1
    for start in range(0, draws, CHUNK):
        rows = min(CHUNK, draws - start)
        places = rng.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
        yield np.bincount(places.ravel(), minlength=rows * count).reshape(rows, count)[:, patient].astype(float)


def leave_out(patient):
    """Weights that each leave out one patient, or one of GROUPS equal groups where there are more patients.

    Yields: (at most CHUNK, n) float64.
    """
    group = patient % GROUPS
    numbers = np.unique(group)
    for start in range(0, len(numbers), CHUNK):
        yield (group != numbers[start : start + CHUNK, None]).astype(float)


def bca_interval(value, drawn, left_out):
    """Bias-corrected and accelerated interval: quantiles of the draws, corrected for median bias and skewness.

    Plain quantiles cover too little near the limit of a score: 0.86 instead of 0.95 at an AUROC of 0.99.

    Args:
        value: the statistic of the whole sample.
        drawn: (draws,) its values in the draws.
        left_out: its values with one patient or group of patients left out.
    Returns: (low, high), or None where the draws do not differ.
    Source: Efron 1987, doi:10.1080/01621459.1987.10478410.
    """
    drawn, left_out = drawn[np.isfinite(drawn)], left_out[np.isfinite(left_out)]
    if not len(drawn) or np.ptp(drawn) < 1e-12:
        return None
    below = (np.mean(drawn < value - 1e-12) + np.mean(drawn <= value + 1e-12)) / 2  # ties count half
    bias = stats.norm.ppf(np.clip(below, 1 / len(drawn), 1 - 1 / len(drawn)))
    influence = left_out.mean() - left_out
    variation = (influence**2).sum()
    acceleration = (influence**3).sum() / (6 * variation**1.5) if variation else 0.0
    z = bias + stats.norm.ppf([TAIL, 1 - TAIL])
    low, high = np.quantile(drawn, stats.norm.cdf(bias + z / (1 - acceleration * z)))
    return float(low), float(high)


def exact_interval(share, count):
    """Interval of a proportion of 0 or 1 among `count` patients, for which all draws are equal.

    Returns: (low, high).
    Source: Clopper and Pearson 1934, doi:10.1093/biomet/26.4.404.
    """
    found = stats.binomtest(round(share * count), count).proportion_ci(1 - 2 * TAIL, method="exact")
    return float(found.low), float(found.high)


def over_seeds(values, drawn, coefficients, num_patients):
    """95 % interval of a mean over seeds, or of a difference of two such means, that allows for patients and for seeds.

    Patients alone are not enough: another set of seeds changes a mean over three of them as much as other patients may. The
    variance has two parts. That of patients is the contrast's over draws of patients, without what differs between the runs of
    one recipe on the same draw. That of seeds is s^2 / k for the k seeds of each recipe, s being the standard deviation of
    their scores, which contains what differs on the same patients. The degrees of freedom of the sum are Satterthwaite's.

    Args:
        values: (runs,) the score of each run.
        drawn: (runs, draws) the score of each run in the draws of patients, nan where undefined.
        coefficients: (runs,) 1 / k for the k runs of a recipe, -1 / k for those of a recipe that is subtracted.
        num_patients: number of patients.
    Returns: (low, high, p): p is that of the hypothesis that the contrast is 0; None where a recipe has one seed.
    Source: Satterthwaite 1946, doi:10.2307/3002019.
    """
    values, coefficients = np.asarray(values), np.asarray(coefficients)
    recipes = [coefficients == one for one in np.unique(coefficients)]
    if min(map(np.sum, recipes)) < 2:
        return None
    seeds = [values[one].var(ddof=1) / one.sum() for one in recipes]
    twice = sum(np.nanvar(drawn[one] - drawn[one].mean(0), axis=1).sum() / (one.sum() - 1) / one.sum() for one in recipes)
    variances = [max(np.nanvar(coefficients @ drawn) - twice, 0.0), *seeds]
    freedom = [num_patients - 1, *(one.sum() - 1 for one in recipes)]
    total, value = sum(variances), coefficients @ values
    if total < 1e-24:  # runs without any difference
        return None
    degrees = total**2 / sum(variance**2 / each for variance, each in zip(variances, freedom, strict=True))
    half = stats.t.ppf(1 - TAIL, degrees) * total**0.5
    return float(value - half), float(value + half), float(2 * stats.t.sf(abs(value) / total**0.5, degrees))


def holm(p_values):
    """P values adjusted for the number of comparisons made together, so that one of them is wrong with at most 5 % in all.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6.
    """
    order, count = np.argsort(p_values), len(p_values)
    stepped = np.maximum.accumulate(np.asarray(p_values)[order] * (count - np.arange(count)))
    adjusted = np.empty(count)
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted.tolist()
