"""The verbs on many machines, or on several cores of one, by Ray.

Each worker has a model of its own. The coordinator hands out samples and holds one sum of labels ×
units; it runs no model.
"""
