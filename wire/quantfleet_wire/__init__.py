"""Between messages and domain: codec, error catalogue, TLS, interceptors, artifact transfer; and YAML of users."""
