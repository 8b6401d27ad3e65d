"""How the server listens: its connections, and the limits of what a client may send ahead."""
