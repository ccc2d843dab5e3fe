"""The pictures that excite channels most, found by one reduction that any division of the pictures gives."""
