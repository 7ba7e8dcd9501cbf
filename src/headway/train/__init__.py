"""From a training set to the files of a model version: fit, judge, write down."""

import os

# Threads of a fit that wait for each other must sleep, not spin: on a busy machine spinning makes two threads ten
# times slower than one. Read when the OpenMP library is loaded, so it is set before any estimator is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from headway.train._encode import columns_of
from headway.train._evaluate import Figures, evaluate_twin, evaluate_version
from headway.train._train import Trained, train
from headway.train.capture import Captured, capture, write_capture
from headway.train.predictor import Predictor

__all__ = [
    "Captured",
    "Figures",
    "Predictor",
    "Trained",
    "capture",
    "columns_of",
    "evaluate_twin",
    "evaluate_version",
    "train",
    "write_capture",
]
