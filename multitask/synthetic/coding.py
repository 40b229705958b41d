"""Class table of the embedded data set, which is that of Cityscapes."""

from multitask.data.class_tables import built_in

CLASSES = built_in("cityscapes")
"""Class table, whose class ids are the values in label files."""
