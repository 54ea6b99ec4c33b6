"""The version, for all who write it into a file; nothing else is imported for it."""

VERSION = "0.1.0"
