"""Hugging Face's models: folders as they are published, and what a model of each architecture is called with."""
