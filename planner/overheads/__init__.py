"""What lies between allocated bytes and the memory a card must have: recorded evidence, and its ranges."""
