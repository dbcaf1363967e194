"""Tests of sharing: what travels, who is believed, and what a remote can do."""
