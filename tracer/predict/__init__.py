"""Predictions of the recto surface: made from CT or from labels, cleaned and scored."""
