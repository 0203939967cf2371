"""How pictures and texts are prepared for a CLIP, and what its embeddings say. Pure: numpy, Pillow, a tokenizer."""
