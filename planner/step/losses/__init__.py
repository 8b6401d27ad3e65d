"""From the last hidden state to the loss."""
