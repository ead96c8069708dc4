"""The page that runs a file in a browser: its parts, and LiteRT.js made loadable from disk."""
