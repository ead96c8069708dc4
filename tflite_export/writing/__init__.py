"""What leaves the package: files that are whole or not there, text for any terminal."""
