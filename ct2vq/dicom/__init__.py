"""Reading DICOM: files, attributes, geometry, pixels."""
