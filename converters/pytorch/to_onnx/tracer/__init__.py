"""A trace of a PyTorch module: the layers and functions it calls, with sizes kept symbolic."""
