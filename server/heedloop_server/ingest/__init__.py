"""The way in: bytes -> request log (durable) -> loader -> store; feedback -> store. Nothing is acknowledged before it is safe."""
