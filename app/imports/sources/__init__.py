"""What a stranger pasted, as settings.

YAML, JSON, a command line, a Python program; and changes written back into it.
"""
