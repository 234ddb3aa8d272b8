"""A PACS that speaks DICOMweb: STOW-RS, read back by WADO-RS (PS3.18); docs/adr/0041 says why."""
