"""The only room with SQL and with clickhouse_connect. `connection` opens a store; the other files hold one table family each."""
