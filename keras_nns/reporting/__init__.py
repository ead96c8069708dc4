"""Pictures, sentences and pages about what was done, and what goes along with a shipped file.

`plots` draws, `document` writes the report, `shipping` the record and the card, `operation` runs
what a report tells about.
"""
