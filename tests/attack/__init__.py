"""`make attack`: hostile clients beside an ordinary one, on loopback, against a real `fitproof serve`."""
