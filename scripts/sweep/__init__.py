"""The measure of the verdict: planted faults, none of which may pass, and honest pairs, none of which may fail."""
