"""Random streams derived from a run's seed: each kind has its own number, so that no two draw the same values."""

ORDER = 0
"""Stream (seed, ORDER, epoch): the order of an epoch's frames."""

AUGMENTATION = 1
"""Stream (seed, AUGMENTATION, position): augmentation of the frame at a position of the endless stream of epochs."""

DRAW = 2
"""Stream (seed, DRAW): the choice of the training frames for ``data.draw``."""
