"""What a file meets in a browser: LiteRT.js, its limits, and a Chromium without a window."""
