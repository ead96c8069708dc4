"""Cut a model to a plan, mask it to the same plan, and prove the two equal.

`cutting` holds the verbs, `lineage` what a cut model remembers; `unfolding`, `vocabulary` and
`cleaning` prepare and tidy models.
"""
