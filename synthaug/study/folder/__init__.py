"""The files of a study's folder: who works at a stage, what other revisions left, whether anything is to do."""
