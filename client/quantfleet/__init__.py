"""The typed client and the command line of quantfleet. Importing it loads no engine, no Ray and no server."""
