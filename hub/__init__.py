"""The running service: app, identity, flows, pages and command line."""
