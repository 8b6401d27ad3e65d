"""Published runs, run again on the card they used, with the releases they used, and compared byte by byte.

`settings.jsonl` has the settings and what was read of a real card, `releases.toml` the releases, `harness/` what runs
in their environments, `records.jsonl` what came of it, and `report.py` the table made from both.
"""
