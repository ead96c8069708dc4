"""The vocabulary of a language model, cut with its tokenizer: which tokens stay, and both smaller.

Nothing of it is imported from here; `cutting` and `counting` hold what people type.
"""
