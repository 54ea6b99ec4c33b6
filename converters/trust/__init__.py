"""Looking into a file before any framework loads it: what every format is made of, read by ourselves.

No framework is imported here. A framework's own ``safety.py`` says, in these words, what its formats may hold.
"""
