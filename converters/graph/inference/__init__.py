"""What is known of each value before a model runs, and what finding out may cost."""
