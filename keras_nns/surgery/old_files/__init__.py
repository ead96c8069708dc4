"""Model files of Keras 1 and 2: what they say, in the words of Keras 3.

`reading` reads a file; `translation` rewrites its configuration and `weights` its arrays, by the
tables in `arguments`, `keras1` and `nodes`; `training` reads how it was compiled; `meaning`
restores what Keras 3 computes otherwise; `checking` compares with tf_keras where it is installed.
"""
