"""Whether two models learn alike."""
