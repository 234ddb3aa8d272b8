"""The pages of a share link: one study, for a physician or patient without a login (docs/adr/0064).

Uses pages and DICOMweb's rendering; only ``app`` uses it.
"""
