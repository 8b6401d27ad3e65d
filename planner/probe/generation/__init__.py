"""`generate` of the real transformers on a card, watched."""
