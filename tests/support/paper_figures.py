"""The paper's tables, recomputed from its weights and rows by its rule, without keras_nns."""

BASE = (94.4, 92.7, 79.8, 88.9, 78.4, 71.9, 87.6, 87.6, 73.1, 79.4)
"""Recall % of each label in the whole network."""

# Kept parameters of the first layer, recall % and specificity %, for each label.
TABLE_5 = {
    0.4: (
        (6272, 100.0, 12.0),
        (5488, 88.5, 61.1),
        (9408, 91.9, 66.6),
        (9408, 96.7, 75.4),
        (3136, 0.0, 100.0),
        (10976, 55.1, 94.1),
        (7056, 93.8, 62.0),
        (2352, 56.2, 70.5),
        (8624, 77.4, 81.6),
        (2352, 100.0, 3.7),
    ),
    0.5: (
        (3136, 100.0, 26.1),
        (3920, 99.0, 36.9),
        (6272, 94.4, 59.5),
        (8624, 100.0, 54.9),
        (1568, 0.0, 100.0),
        (9408, 88.8, 61.7),
        (5488, 85.6, 81.2),
        (1568, 77.1, 47.7),
        (4704, 77.4, 70.0),
        (2352, 100.0, 3.7),
    ),
}

MERGED = {0.4: (22, 0.692), 0.5: (20, 0.686)}
"""Units and accuracy of all labels' networks merged."""
