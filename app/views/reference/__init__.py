"""Pages to read: the glossary, and the API for people."""
