"""The embedded data set: street scenes made of planar polygons, in the Cityscapes layout, with exact geometry.

Steps for a frame: city -> street -> props (meshes placed in the world) -> faces (polygons in the picture, each with
its disparity plane) -> raster (the face that each sample shows) -> picture and labels -> imperfections -> files.
"""

from multitask.synthetic.cities import CITIES
from multitask.synthetic.coding import CLASSES
from multitask.synthetic.frame import Scene, render
from multitask.synthetic.writer import MANIFEST, VERSION, write_dataset

__all__ = ["CITIES", "CLASSES", "MANIFEST", "VERSION", "Scene", "render", "write_dataset"]
