"""Image -> class probabilities of every member. A file is a way to segment; it never imports a sibling."""
