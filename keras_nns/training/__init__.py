"""Short trainings behind a cut: distillation, fine-tuning, cutting in steps.

`distillation` and `iterative` hold the verbs, `scratch` what a cut has to beat; the rest is one
loop and its parts.
"""
