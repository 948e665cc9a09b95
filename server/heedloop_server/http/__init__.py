"""HTTP: authentication, limits, parameters, cursors, the OpenAPI description."""
