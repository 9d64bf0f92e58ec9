"""What a refinement changed: counts, objects, ratings of repairs, an independent stain. No truth is known here."""
