"""Atomic verbs over stored data, without decisions."""
