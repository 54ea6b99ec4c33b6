"""Whether two outputs are the same: the truth, the stages, the comparator."""
