"""Runs on several cards: what one of them holds, by strategy. planner/request/layout.py says how a run lies on them."""
