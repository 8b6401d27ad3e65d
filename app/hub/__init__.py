"""Reading a model's config.json from the hub. Configs only: no weights, and never any code.

Nothing is imported here: `names` and `errors` are light, `client` brings httpx.
"""
