"""What comes in from files, held against what is there."""
