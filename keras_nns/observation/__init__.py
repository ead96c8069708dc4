"""Everything that streams over data: activity, gradients, moments, a model's answers.

`streaming` holds `observe`, `activity` its result, `probing` where units are watched; `gradients`,
`forward` and `moments` are the other passes.
"""
