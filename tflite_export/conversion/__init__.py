"""What conversion consists of: samples to measure ranges on, and TensorFlow's converter.

For `converter` and `retraining`; users call `tflite_export.convert`.
"""
