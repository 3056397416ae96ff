"""Identity: what must not leave the stage `convert`, and what replaces it."""
