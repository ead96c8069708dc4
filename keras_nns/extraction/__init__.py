"""The subnetwork that a budget allows, and the whole trade-off of cost and figures.

`budgeted` holds `extract`, `trade_off` holds `sweep`: both are lists of the verbs of `tasks`,
`observed`, `networks` and `sizes`.
"""
