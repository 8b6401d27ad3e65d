"""What happens around every request, as plain ASGI so that it costs microseconds."""
