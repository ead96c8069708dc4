"""Make a cut model right again without gradient steps, and write it back into its parent.

`steps` holds `repair`; `least_squares`, `head_fit` and `temperature` hold its steps, `writing_back`
the way back.
"""
