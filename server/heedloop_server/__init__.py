"""heedloop server: OTLP and feedback in, ClickHouse behind, quality and datasets out."""
