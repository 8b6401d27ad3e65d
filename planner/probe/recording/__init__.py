"""Programs that record tables: the matrix, the phases of settings, the census of the catalogue."""
