"""How netferry keeps a process: lazy imports, children that open foreign files, what they may touch."""
