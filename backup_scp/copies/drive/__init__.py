"""External drives: plain DICOM files in folders for people, lists, DICOMDIRs; docs/adr/0039 says why."""
