"""Predictions and features over HTTP, and predictions for files: with the code and the files of each version."""

from headway.serve._app import App, Limits
from headway.serve._catalogue import RegistryCatalogue
from headway.serve._predictor import Answer, LoadedVersion
from headway.serve._problems import Refused
from headway.serve._protocols import Catalogue, FeatureReader
from headway.serve._scoring import Scoring
from headway.serve.batch import input_types, predict_file
from headway.serve.log import PredictionLog
from headway.serve.server import Server, Service, bind, freeze_loaded, serve

__all__ = [
    "Answer",
    "App",
    "Catalogue",
    "FeatureReader",
    "Limits",
    "LoadedVersion",
    "PredictionLog",
    "Refused",
    "RegistryCatalogue",
    "Scoring",
    "Server",
    "Service",
    "bind",
    "freeze_loaded",
    "input_types",
    "predict_file",
    "serve",
]
