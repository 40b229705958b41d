"""Predictions for one's own pictures: files and arrays -> scenes -> panels and files."""

from multitask.prediction.predictor import Predictor, load
from multitask.prediction.scene import Scene, SceneInstance

__all__ = ["Predictor", "Scene", "SceneInstance", "load"]
