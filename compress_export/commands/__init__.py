"""One module a command: build records, call one function, print one table."""
