"""From a plan to a program: the interpreter, its symbols, and the writer of Python."""
