"""The data model (Lora and its adapters) and exact operations on it. Knows nothing about files."""
