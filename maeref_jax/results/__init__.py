"""What a refined volume is on disk: its arrays, marks of finished blocks, claims, exports."""
