"""Parse C-FIND, C-MOVE and C-GET requests: Identifier, Information Model, conditions (PS3.4 C)."""
