"""What is said of a file that does not answer as its model: why, where it begins, what would do.

Nothing here judges; `verification` does, and asks for words once it has refused a file.
"""
