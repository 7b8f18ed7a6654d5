"""The data model, a Lora and its adapters, and exact operations on it. Knows nothing of files."""
