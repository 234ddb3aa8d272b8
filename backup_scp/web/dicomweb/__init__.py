"""The services of PS3.18 below ``/dicom-web``."""
