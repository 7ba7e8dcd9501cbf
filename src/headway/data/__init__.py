"""From files to feature rows: read, check, compute, materialize. Parts are imported from where they live."""
