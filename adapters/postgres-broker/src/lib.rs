//! An Open Service Broker for PostgreSQL.
