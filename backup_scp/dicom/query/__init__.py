"""What a C-FIND, C-MOVE or C-GET asks for: its Identifier, its Information Model, its conditions (PS3.4 C)."""
