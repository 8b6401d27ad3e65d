"""The JSON API. A route reads, calls and renders."""
