"""Words in, exit code out: one command a file, and one file (output.py) that prints."""
