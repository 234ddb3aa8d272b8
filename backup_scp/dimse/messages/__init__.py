"""What DIMSE messages consist of: Command Sets, Status values, the Data Sets that the node writes (PS3.7 6.3, 9)."""
