"""The output layer, fitted to the features of a network as it is: logistic regression on a linear probe.

Source: Kumar et al. 2022, Fine-Tuning can Distort Pretrained Features, arXiv 2202.10054, for fitting it before fine-tuning.
"""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits  # part of scikit-learn's own requirements

from bones.networks.frozen import pooled_features
from bones.system.errors import DataError

PENALTIES = np.logspace(-5, 0, 11)  # scikit-learn's C, from the strongest penalty
FOLDS = 5


def fit(network, part):
    """Set the weights of a network's output layer to those of logistic regression on its features.

    Features are scaled to mean 0 and standard deviation 1; that scaling becomes part of the weights. The L2 penalty is the one
    with the lowest log loss over folds of patients.

    Args:
        network: keras.Model whose last layer is one sigmoid unit, changed in place.
        part: runs.data.Part of the training views.
    Returns: the chosen C.
    """
    model = fitted(pooled_features(network, part.pixels), part)
    scaler, regression = model.best_estimator_
    kernel = regression.coef_[0] / scaler.scale_
    bias = regression.intercept_[0] - kernel @ scaler.mean_
    network.layers[-1].set_weights([kernel[:, None].astype(np.float32), np.array([bias], np.float32)])
    return model.best_params_["logisticregression__C"]


def fitted(features, part):
    """The fitted GridSearchCV of standardisation and logistic regression on features, (n, features)."""
    patients = part.views["patient"].to_numpy()
    search = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        {"logisticregression__C": PENALTIES},
        scoring="neg_log_loss",
        cv=folds(part.label, patients),
    )
    weight = {} if part.weight is None else {"logisticregression__sample_weight": part.weight}
    # With more threads, its small matrix products take minutes in place of seconds.
    with threadpool_limits(1, "blas"):
        return search.fit(features.astype(np.float64), part.label, groups=patients, **weight)


def folds(label, patients):
    """[(training rows, test rows)] of folds of patients; stratified where without it a fold would lack a class.

    Raises: DataError when fewer than two patients have views of a class.
    """
    rarer = min(len({*patients[label == kind]}) for kind in (0, 1))
    for kind, count in ((GroupKFold, FOLDS), (StratifiedGroupKFold, FOLDS), (StratifiedGroupKFold, 2)):
        count = min(count, len({*patients}), *([rarer] if kind is StratifiedGroupKFold else []))
        found = [*kind(count).split(label[:, None], label, patients)] if count > 1 else []
        if found and all(len({*label[rows]}) == 2 for fold in found for rows in fold):
            return found
    raise DataError(
        f"the output layer is fitted over folds of patients, and {rarer} of {len({*patients})} training patients have views of "
        "one of the classes. Add studies, or pass a smaller --tuning-fraction."
    )
