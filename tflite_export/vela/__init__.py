"""Arm's compiler Vela in a process of its own: it ends the process it runs in on files it dislikes.

For `ethos_u`; users call `tflite_export.npu`.
"""
