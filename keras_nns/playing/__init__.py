"""Networks side by side on one sample, live: `playground` asks them, `page` shows it.

What `keras_nns.play` returns is `Playground`; Gradio is needed by its `launch` alone.
"""
