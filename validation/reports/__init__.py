"""The verdict as data, text and pages."""
