"""Reports in many styles: a seeded grammar whose every sentence tells which facts it states."""
