"""What is shipped: the `.tflite` file of a network, with its record inside, and its card.

Import from `tflite_files`.
"""
