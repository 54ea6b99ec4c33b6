"""The graph as data: facts, sizes, arrays, and how it is built and edited."""
