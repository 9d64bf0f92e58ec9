"""Hidden labels -> class probabilities. A file is a way to fill in; it never imports a sibling."""
