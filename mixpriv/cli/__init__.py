"""The commands: mixpriv-client, mixpriv-server, mixpriv."""
