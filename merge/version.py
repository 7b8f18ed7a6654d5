"""The version of the pack, the one in pyproject.toml: a test compares them."""

VERSION = "1.0.0"
