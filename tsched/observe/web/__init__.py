"""The status page, the API and the hooks over HTTP."""
