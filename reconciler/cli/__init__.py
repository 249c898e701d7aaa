"""The command line: options in, one call into the app, a rendered result and an exit status out."""
