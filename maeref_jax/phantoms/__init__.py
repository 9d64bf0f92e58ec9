"""Volumes whose truth is known: anatomy, the microscope that looks at it, low signal, artefacts."""
