"""The bytes of a `.tflite` file: opened, checked and written, with the metadata inside.

Any module here may be imported by those above. Knows nothing of Keras.
"""
