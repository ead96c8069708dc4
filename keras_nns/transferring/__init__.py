"""What a network knows, used for other labels.

`features` and `heads` are its parts; `stages` holds `transfer`, `adding` and `removing` single
labels.
"""
