"""The class table of Cityscapes, in which most tests have their labels: a class id is the value in label files."""

from multitask.data.class_tables import built_in

CITYSCAPES = built_in("cityscapes")
LABELS, EVALUATED = CITYSCAPES.labels, CITYSCAPES.evaluated
CLASS_NAMES, ID = CITYSCAPES.names, CITYSCAPES.class_id
TRAIN_ID, COUNTED_ID = CITYSCAPES.train_ids, CITYSCAPES.counted[: len(CITYSCAPES.labels)]
HAS_INSTANCES = CITYSCAPES.has_instances[: len(CITYSCAPES.labels)]
TRAIN_COLORS = CITYSCAPES.colors
INSTANCE_CLASSES = {id: label.name for id, label in enumerate(LABELS) if COUNTED_ID[id]}
AVERAGE_PIXELS = {label.name: label.average_pixels for label in EVALUATED if label.average_pixels}
UNSEEN_IDS, SKY_ID = CITYSCAPES.unseen_ids, CITYSCAPES.class_id["sky"]
