"""In which classes the embedded data set is written: those of Cityscapes, as its layout has them."""

from multitask.data.class_tables import built_in

CLASSES = built_in("cityscapes")
"""Its class ids are the values in label files."""
