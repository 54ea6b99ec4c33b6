"""Rows of detectors: boxes, what is proposed, and features of regions."""
