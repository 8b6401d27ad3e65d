"""How fast a run trains: its work, counted, over what published runs reached of their card's limits."""
