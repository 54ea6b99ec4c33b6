"""The operator table on numpy arrays: constant folding."""
