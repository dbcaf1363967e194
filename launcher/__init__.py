"""Launchers: ELF programs that start with the interpreter and the libraries of their own artifact."""
