"""Pictures that only some plans have: of several cards, of preference training."""
