"""Objectives beside supervised fine-tuning, by TRL's own trainers."""
