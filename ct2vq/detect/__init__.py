"""Stage `detect`: how well a synthesised image tells low function, disease and defects."""
