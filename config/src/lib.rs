//! fleet.toml parsed into types, paths under the fleet's home, and logging.
