"""Predictions for users' pictures: from files and arrays to scenes, panels and result files."""

from multitask.prediction.predictor import Predictor, load
from multitask.prediction.scene import Scene, SceneInstance

__all__ = ["Predictor", "Scene", "SceneInstance", "load"]
