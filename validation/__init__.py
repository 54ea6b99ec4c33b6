"""Whether two models are equal, and how that was found out."""
