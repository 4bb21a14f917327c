"""The admin API: HTTP and JSON for everything that the services do over RPC."""
