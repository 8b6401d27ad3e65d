"""The queue: what was asked, who works on it, what came of it. Engines are handed one placed attempt at a time."""
