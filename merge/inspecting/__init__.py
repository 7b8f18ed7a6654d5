"""What is inside LoRAs and how several relate: numbers, advice, a report, and the data for a picture of it."""
