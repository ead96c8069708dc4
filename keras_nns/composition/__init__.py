"""Networks side by side in one model, and labels that move between networks.

`combining` holds `compose`; `grafting`, `patching`, `transplanting` hold the verbs of their names.
"""
