"""Labels of tissues: those of BrainWeb's 20 models, which all label volumes are mapped to."""

from __future__ import annotations

BACKGROUND = 0
CSF, GREY, WHITE, FAT, MUSCLE, SKIN = 1, 2, 3, 4, 5, 6  # skin: muscle/skin
SKULL, VESSEL, AROUND_FAT, DURA, MARROW = 7, 8, 9, 10, 11

#: Number of labels, background included.
NUM_LABELS = 12
#: Labels that a brain is made of.
BRAIN = (CSF, GREY, WHITE, VESSEL)
