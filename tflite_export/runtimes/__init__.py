"""The runtimes that a file meets on devices, asked themselves: Micro, LiteRT compiled, LiteRT.js.

Each runs in a process of its own, since their native code prints, and ends the one it runs in.
"""
