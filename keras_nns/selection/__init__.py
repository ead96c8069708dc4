"""From what was seen to a plan: scores, and the verb that chooses by them.

`activations`, `weights`, `gradients`, `greedy` and `reconstruction` hold scores, `choosing` holds
`select`; `overlap` and `modularity` compare what was chosen.
"""
