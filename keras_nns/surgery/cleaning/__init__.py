"""Leave out of a model what is constant and fold what can be folded, exactly.

`simplification` holds the verb, `constants` what it decides by, `bounds` how it knows.
"""
