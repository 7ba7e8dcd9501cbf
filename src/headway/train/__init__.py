"""From a training set to the files of a model version: fit, judge, write down."""

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
