"""Speed, memory and accuracy compared with other tools that merge LoRAs: `python run.py bench`, docs/benchmarks.md."""
