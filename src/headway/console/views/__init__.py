"""What templates show, worked out from records; nothing here reads a store."""
