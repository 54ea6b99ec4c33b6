"""Whether two models train alike."""
