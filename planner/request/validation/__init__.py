"""What keeps a request valid and says why it is not.

Text, patterns and unions that are safe to read, and pydantic's errors as sentences.
"""
