"""Alembic's environment, packaged so that an installed wheel can migrate."""
