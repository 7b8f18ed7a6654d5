"""Speed, memory and accuracy against others who merge LoRAs: `python run.py bench`; see docs/benchmarks.md."""
