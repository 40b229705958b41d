"""The random streams that a run's seed makes: each kind has a number, so that no two of them draw the same."""

ORDER = 0
"""(seed, ORDER, epoch): the order of an epoch's frames."""

AUGMENTATION = 1
"""(seed, AUGMENTATION, position): how the frame at a position of the endless stream of epochs is augmented."""

DRAW = 2
"""(seed, DRAW): which frames ``data.draw`` leaves to train on."""
