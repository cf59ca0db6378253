"""Who answers when a strategy asks for annotations."""
