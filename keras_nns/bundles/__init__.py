"""Vectorised weights: many subnetworks of one parent in one file.

`archive` is the file, `storing` puts subnetworks in and builds models from it.
"""
