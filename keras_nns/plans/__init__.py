"""What stays and why, as pure data: no Keras and no TensorFlow here.

`units` says which units there are, `kept_units` which of them stay, `keep_rules` and
`schedules` how many.
"""
