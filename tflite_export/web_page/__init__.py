"""The page that runs a file in a browser: its parts, filled in by `web`."""
