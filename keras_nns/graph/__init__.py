"""A model as unit groups, and what its units cost.

`tracing` is the way in; `rules` teaches it layers; `costs`, `estimates`, `budgets` and `inspection`
count.
"""
