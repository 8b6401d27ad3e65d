"""The shapes of the API's answers, for the OpenAPI document. Routes do not validate with them; a test does."""
